"""Pages for people beside the API: where things are, and what an error code means. No script."""

import hashlib
import html
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gateway.errors import published

_STYLE = (
    ":root{color-scheme:light dark}"
    'body{font:1rem/1.6 system-ui,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;'
    "margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "td{padding:.2rem .8rem .2rem 0;vertical-align:top}[lang=en]{opacity:.8}"
    "code{overflow-wrap:anywhere}"
)
_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; img-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PLACES = (
    ("/graphql", "接口(POST)", "the API, by POST"),
    ("/oauth/authorize", "登录,由应用发起", "log in, from an app"),
    ("/.well-known/oauth-authorization-server", "OAuth 说明", "everything about OAuth"),
    ("/errors", "错误码", "error codes"),
    ("/audit/head", "审计链最新签名", "the newest signed head of the audit chain"),
    ("/readyz", "是否就绪", "whether it is ready"),
)


def routes() -> list[Route]:
    """The start page, the pages of the error codes, and no icon."""
    return [
        Route("/", _start, methods=["GET"]),
        Route("/errors", _errors, methods=["GET"]),
        Route("/errors/{code}", _errors, methods=["GET"]),
        Route("/favicon.ico", _icon, methods=["GET"]),
    ]


async def _start(_request: Request) -> Response:
    """Where things are: what a newcomer opens first."""
    rows = "".join(
        f'<tr><td><a href="{path}"><code>{path}</code></a></td>'
        f"<td>{zh}</td><td lang=en>{en}</td></tr>"
        for path, zh, en in _PLACES
    )
    return _page("联盟网关 · Coalition Gateway", f"<table>{rows}</table>")


async def _icon(_request: Request) -> Response:
    """Browsers ask for it; without an answer the first page has an error in its console."""
    return Response(status_code=204, headers={"Cache-Control": "public, max-age=86400"})


async def _errors(request: Request) -> Response:
    """What a code means and what to do about it, in Chinese and English."""
    known = _codes()
    code = request.path_params.get("code")
    if code is None:
        return _page("错误码 · Error codes", _list(known))
    if code not in known:
        missing = '<p>没有这个错误码 · no such code</p><p><a href="/errors">全部 · all</a></p>'
        return _page("404", missing, 404)
    return _page(code, _explain(known[code]))


@dataclass(frozen=True, slots=True)
class _Code:
    """What a help page says of a code."""

    when: str
    zh: str
    en: str
    next_zh: str
    next_en: str


@cache
def _codes() -> dict[str, _Code]:
    """Every published code; two come before any code runs and have no leaf."""
    found = {
        leaf.code: _Code(leaf.when, leaf.zh, leaf.en, leaf.next_zh, leaf.next_en)
        for leaf in published()
    }
    found["PERSISTED_QUERY_NOT_FOUND"] = _Code(
        "the hash is not in the client's list of trusted documents",
        "未登记的查询",
        "unknown query hash",
        "请先登记该查询",
        "register the document",
    )
    found["MALFORMED_REQUEST"] = _Code(
        "body, syntax, validation or a scalar's coercion fails",
        "请求格式有误:{detail}",
        "the request cannot be read: {detail}",
        "请更正请求",
        "correct the request",
    )
    return found


def _list(known: Mapping[str, _Code]) -> str:
    rows = "".join(
        f'<tr><td><a href="/errors/{code}"><code>{code}</code></a></td>'
        f"<td>{html.escape(known[code].zh)}</td><td lang=en>{html.escape(known[code].en)}</td></tr>"
        for code in sorted(known)
    )
    return f"<table>{rows}</table>{_NAMES}"


_NAMES = (
    "<p><small>{…} 是本次请求的数值,在 <code>context</code> 中 "
    "<span lang=en>stands for a value of the request, told in its context</span></small></p>"
)


def _explain(leaf: _Code) -> str:
    zh, en = html.escape(leaf.zh), html.escape(leaf.en)
    step_zh, step_en = html.escape(leaf.next_zh), html.escape(leaf.next_en)
    return (
        f"<p>{zh}</p><p>下一步:{step_zh}</p>"
        f"<p lang=en>{en}</p><p lang=en>Next: {step_en}</p>"
        f"<p lang=en><small>When: {html.escape(leaf.when)}</small></p>"
        f'{_NAMES}<p><a href="/errors">全部错误码 · all codes</a></p>'
    )


def _page(title: str, body: str, status: int = 200) -> Response:
    text = (
        "<!doctype html><html lang=zh-CN><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{body}</html>"
    )
    return HTMLResponse(text, status, _HEADERS)
