"""The two pages people see: log in, and agree. Plain forms, readable without style or script.

GET /oauth/authorize checks the app's request, keeps it, and leads to /oauth/login?login=…, then
to /oauth/consent?login=…. The login belongs to one browser (cookie) and each form carries its
token; after a form the answer is always a 303. Links are relative: a proxy may add a path.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import jinja2
import sqlalchemy as sa
from authlib.oauth2.rfc6749 import OAuth2Error
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from gateway.oauth import passwords, scopes, service, store
from gateway.oauth.core import Core, Exchange, form
from gateway.oauth.model import Client, Login, User
from gateway.values import new_id

if TYPE_CHECKING:
    from gateway.oauth.server import OAuth

_HERE = Path(__file__).parent
_COOKIE = "gateway_login"
_MINUTES = timedelta(minutes=10)
_KEPT = (
    "response_type",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "code_challenge",
    "code_challenge_method",
)
_EXPIRED = (
    "本次登录已失效,请回到应用重新开始",
    "This login is no longer valid. Go back to the app and start again.",
)
_WRONG = ("账号或密码不正确", "The login or the password is not right.")
_UNSUITABLE = ("此账号不能登录该应用", "This account cannot be used with this app.")

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def routes(oauth: "OAuth") -> list[Route]:
    """The pages' routes."""
    pages = _Pages(oauth)
    return [
        Route("/oauth/authorize", pages.authorize, methods=["GET"]),
        Route("/oauth/login", pages.login, methods=["GET", "POST"]),
        Route("/oauth/consent", pages.consent, methods=["GET", "POST"]),
        Route("/oauth/style.css", pages.style, methods=["GET"]),
    ]


class _Pages:
    def __init__(self, oauth: "OAuth") -> None:
        self._oauth = oauth
        self._secure = oauth.settings.base_url.startswith("https:")
        self._path = urlsplit(oauth.settings.base_url).path + "/oauth"
        self._style = (_HERE / "static" / "oauth.css").read_bytes()

    async def style(self, _request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=3600"}
        return Response(self._style, headers=headers, media_type="text/css")

    async def authorize(self, request: Request) -> Response:
        """Check what the app asks; wrong redirect URIs are told here, the rest to the app."""
        pairs = request.query_params.multi_items()
        fields = dict(pairs)
        if len(pairs) != len(fields):
            return page("error", 400, message=("请求参数重复", "A parameter is given twice."))
        browser = request.cookies.get(_COOKIE) or secrets.token_urlsafe(32)

        def run(tx: sa.Connection) -> Response | str:
            core = self._oauth.core(tx)
            asked = self._exchange("GET", fields, request)
            try:
                core.check_fields(asked)
                core.get_consent_grant(asked)
            except OAuth2Error as error:
                if not error.redirect_uri:
                    return page("error", 400, message=_refusal(error))
                return core.handle_error_response(asked, error)
            return self._begin(tx, fields, browser)

        async with self._oauth.database.transaction() as tx:
            begun = await tx.run_sync(run)
        if isinstance(begun, Response):
            return begun
        answer = RedirectResponse(f"login?login={begun}", 303, _headers())
        answer.set_cookie(
            _COOKIE, browser, path=self._path, httponly=True, samesite="lax", secure=self._secure
        )
        return answer

    def _begin(self, tx: sa.Connection, fields: Mapping[str, str], browser: str) -> str:
        login_id = new_id("lgn")
        row = {"login_id": login_id, "browser_hash": store.digest(browser)}
        whole: dict[str, Any] = row | {"csrf": secrets.token_urlsafe(32)}
        kept = {name: fields[name] for name in _KEPT if name in fields}
        whole |= {"parameters": kept, "expires_at": self._oauth.now() + _MINUTES}
        tx.execute(sa.insert(store.logins).values(whole))
        return login_id

    async def login(self, request: Request) -> Response:
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        login, client, fields = found
        if request.method == "GET":
            return _login_page(login, client)
        name, password = service.normal(fields.get("login", "")), fields.get("password", "")
        keys = [f"account:{store.digest(name)}", f"address:{_address(request)}"]
        wait = await self._count(keys)
        if wait:
            message = (f"尝试过多,请 {wait} 秒后再试", f"Too many tries; retry in {wait} s.")
            answer = _login_page(login, client, 429, message, name)
            answer.headers["Retry-After"] = str(wait)
            return answer
        user = await self._who(name, password)
        if user is None:
            return _login_page(login, client, 403, _WRONG, name)
        asked = scopes.split(login.parameters.get("scope")) or None
        if user.role not in client.user_roles or not client.for_user(user, asked):
            return _login_page(login, client, 403, _UNSUITABLE, name)
        async with self._oauth.database.transaction() as tx:
            for key in keys:
                await tx.run_sync(store.forgive_try, key)
            await tx.run_sync(store.set_login_user, login.login_id, user.user_id)
        return RedirectResponse(f"consent?login={login.login_id}", 303, _headers())

    async def consent(self, request: Request) -> Response:
        found = await self._find(request)
        if isinstance(found, Response):
            return found
        login, client, fields = found
        if login.user_id is None:
            return RedirectResponse(f"login?login={login.login_id}", 303, _headers())
        async with self._oauth.database.reading() as tx:
            user = await tx.run_sync(store.user, login.user_id)
        if user is None:
            return page("error", 403, message=_EXPIRED)
        if request.method == "GET":
            return _consent_page(login, client, user)
        agreed = fields.get("decision") == "allow"

        def decide(tx: sa.Connection) -> Response:
            core: Core = self._oauth.core(tx)
            if not store.take_login(tx, login.login_id, now=core.now):
                return page("error", 403, message=_EXPIRED)
            asked = self._exchange("GET", login.parameters, request)
            asked.user = user
            try:
                grant = core.get_consent_grant(asked, end_user=user)
            except OAuth2Error as error:
                return core.handle_error_response(asked, error)
            answer: Response = core.create_authorization_response(
                asked, grant_user=user if agreed else None, grant=grant
            )
            return answer

        async with self._oauth.database.transaction() as tx:
            return await tx.run_sync(decide)

    def _exchange(self, method: str, fields: Mapping[str, str], request: Request) -> Exchange:
        uri = f"{self._oauth.settings.base_url}/oauth/authorize"
        return Exchange(method, uri, fields, request.headers)

    async def _find(self, request: Request) -> tuple[Login, Client, dict[str, str]] | Response:
        """The login this browser has begun, its app and the form; a page where there is none."""
        fields: dict[str, str] = {}
        if request.method == "POST":
            try:
                fields = await form(request)
            except OAuth2Error as error:
                return page("error", error.status_code, message=("请求有误", _text(error)))
        login_id = fields.get("login_id") or request.query_params.get("login", "")
        browser = request.cookies.get(_COOKIE, "")
        now = self._oauth.now()
        login = client = None
        if login_id.isalnum() or login_id.replace("_", "").isalnum():
            async with self._oauth.database.reading() as tx:
                login = await tx.run_sync(store.login, login_id, browser, now=now)
                if login:
                    client_id = login.parameters["client_id"]
                    client = await tx.run_sync(store.client, client_id, now=now)
        if login is None or client is None:
            return page("error", 403, message=_EXPIRED)
        given = fields.get("csrf", "").encode()
        if request.method == "POST" and not secrets.compare_digest(given, login.csrf.encode()):
            return page("error", 403, message=_EXPIRED)
        return login, client, fields

    async def _count(self, keys: list[str]) -> int:
        """Count a try for the account and for the address; returns the seconds to wait."""
        limit, now = self._oauth.settings.login_tries_per_minute, self._oauth.now()
        async with self._oauth.database.transaction() as tx:
            waits = [await tx.run_sync(store.count_try, key, limit=limit, now=now) for key in keys]
        return max(waits)

    async def _who(self, name: str, password: str) -> User | None:
        """The person, if the password is right; as slow for an unknown name."""
        user, stored = None, None
        if name.isprintable() and len(name) <= 200:
            async with self._oauth.database.reading() as tx:
                user, stored = await tx.run_sync(store.user_by_login, name)
        return user if await passwords.verify(password[:1_000], stored) else None


def _login_page(
    login: Login,
    client: Client,
    status: int = 200,
    message: tuple[str, str] | None = None,
    name: str = "",
) -> Response:
    return page("login", status, login=login, client=client, message=message, entered=name)


def _consent_page(login: Login, client: Client, user: User) -> Response:
    granted = client.for_user(user, scopes.split(login.parameters.get("scope")) or None)
    words = [(scope, *scopes.words(scope)) for scope in sorted(granted)]
    back = urlsplit(login.parameters["redirect_uri"])
    target = f"{back.scheme}://{back.netloc}" if back.netloc else f"{back.scheme}:"
    return page("consent", 200, target, login=login, client=client, user=user, words=words)


def page(template: str, status: int, form_target: str = "", **context: Any) -> Response:
    """A page under a policy that lets nothing in from outside.

    Args:
        form_target: Where a form may lead to besides this server (the app's redirect URI).
    """
    text = _templates.get_template(f"{template}.html").render(context)
    return HTMLResponse(text, status, _headers(form_target))


def _headers(form_target: str = "") -> dict[str, str]:
    policy = (
        "default-src 'self'; script-src 'none'; object-src 'none'; base-uri 'none'; "
        f"frame-ancestors 'none'; form-action 'self' {form_target}"
    )
    return {
        "Content-Security-Policy": policy.strip(),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _refusal(error: OAuth2Error) -> tuple[str, str]:
    """Why an app's request goes no further: the person can only tell the app's maker."""
    if error.error == "invalid_client":
        return "应用未登记(client_id)", "The app is not known (client_id)."
    if error.error == "unsupported_response_type":
        return "应用的请求有误:response_type 须为 code", "The response_type must be code."
    said = _text(error)
    if "redirect_uri" in said:
        return "应用的回调地址未登记(redirect_uri)", said
    return "应用的请求有误", said


def _text(error: OAuth2Error) -> str:
    return str(error.get_error_description() or error.error)
