"""What OAuth knows of clients, people, codes and refresh tokens. Pure.

The methods of `Client` and `Taken` are those that Authlib's core asks of its models.
"""

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from gateway.oauth import scopes
from gateway.oauth.scopes import Role

PRIVATE_KEY_JWT = "private_key_jwt"
CLIENT_SECRET_BASIC = "client_secret_basic"  # noqa: S105  # The method's name, no secret.
PUBLIC = "none"


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client: a merchant's machine (with `role`), or an app people log in to."""

    client_id: str
    name_zh: str
    name_en: str
    auth_method: str
    role: Role | None = None  # of a machine
    merchant_id: str | None = None
    redirect_uris: tuple[str, ...] = ()
    user_roles: frozenset[Role] = frozenset()  # who may log in through it
    only_scopes: frozenset[str] | None = None  # narrower than the roles allow
    secret_hashes: frozenset[str] = field(default=frozenset(), repr=False)

    def may_ask(self, asked: frozenset[str]) -> bool:
        """Whether this client may ask for all of these scopes."""
        own = asked - self.widest()
        return all(scope.startswith(scopes.ACK) for scope in own) and (
            not own or Role.PARTNER in self.user_roles
        )

    def widest(self) -> frozenset[str]:
        """All scopes it could ever get, whoever logs in."""
        if self.role:
            widest = scopes.of(self.role, self.merchant_id)
        else:
            widest = frozenset().union(*(scopes.of(role) for role in self.user_roles))
        return widest if self.only_scopes is None else widest & self.only_scopes

    def for_user(self, user: "User", asked: frozenset[str] | None) -> frozenset[str]:
        """What a person may grant of what was asked; None means all there is."""
        own = scopes.of(user.role, user.merchant_id)
        own = own if self.only_scopes is None else own & self.only_scopes
        return own if asked is None else own & asked

    # What Authlib asks.
    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str | None:
        return None  # The redirect URI is always named.

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return any(_same_uri(known, redirect_uri) for known in self.redirect_uris)

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return self.auth_method == method

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code" and bool(self.redirect_uris)

    def check_grant_type(self, grant_type: str) -> bool:
        machine = grant_type == "client_credentials"
        return self.role is not None if machine else bool(self.redirect_uris)


@dataclass(frozen=True, slots=True)
class Registered:
    """A client as an operator looks at it: whose it is, and the keys that count."""

    client_id: str
    name_zh: str
    role: str | None  # of a machine; None for an app people log in to
    merchant_id: str | None
    disabled_at: datetime | None
    kids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User:
    """A person who logs in: a member, or staff with a role and a limit."""

    user_id: str
    login: str
    role: Role
    name_zh: str
    member_id: str | None = None
    merchant_id: str | None = None
    limit_fen: int = 0

    def get_user_id(self) -> str:
        return self.user_id


@dataclass(frozen=True, slots=True)
class Taken:
    """A code or refresh token that this request, and no other, has used up."""

    grant_id: str
    client_id: str
    user_id: str
    scope: str
    redirect_uri: str = ""
    code_challenge: str = ""

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    def check_client(self, client: Client) -> bool:
        return self.client_id == client.client_id


@dataclass(frozen=True, slots=True)
class Login:
    """An authorization request waiting for a person to log in and decide."""

    login_id: str = field(repr=False)
    csrf: str = field(repr=False)
    parameters: dict[str, str]
    user_id: str | None
    expires_at: datetime


def _same_uri(known: str, given: str) -> bool:
    """Exactly equal; a loopback address registered without a port matches on any port.

    Source: RFC 9700 §2.1, RFC 8252 §7.3.
    """
    if known == given:
        return True
    mine = urlsplit(known)
    if mine.scheme != "http" or mine.netloc not in ("127.0.0.1", "[::1]"):
        return False
    head = f"http://{mine.netloc}:"
    port, slash, rest = given.removeprefix(head).partition("/")
    plain = given.startswith(head) and port.isascii() and port.isdigit() and len(port) <= 5
    return plain and f"{slash}{rest}" == known.removeprefix(f"http://{mine.netloc}")
