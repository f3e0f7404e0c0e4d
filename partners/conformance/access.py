"""Group A: getting in."""

import contextlib
import json
import time
from base64 import b64encode
from dataclasses import replace
from urllib.parse import quote, urlencode
from uuid import uuid4

import httpx2
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey

from gateway.errors import PartnerUnavailable
from gateway.ports import Capability, QuoteRequest
from partners import Auth, Connection, adapter
from partners.conformance import Box, Skip, Warn, check

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
OFFERS = Capability.OFFERS
LONG_TOKEN_SECONDS = 3600


def token_request(connection: Connection, **claims: object) -> httpx2.Request:
    """A token request by client credentials; `claims` overrule those of the assertion."""
    form = {"grant_type": "client_credentials", "scope": connection.scope}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    auth = connection.auth
    if auth.method == "client_secret_basic":
        pair = f"{quote(auth.client_id, safe='')}:{quote(auth.secret or '', safe='')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        form["client_assertion_type"] = ASSERTION_TYPE
        form["client_assertion"] = assertion(connection, **claims)
    return httpx2.Request(
        "POST", connection.token_url, headers=headers, content=urlencode(form).encode()
    )


def assertion(connection: Connection, **claims: object) -> str:
    """A signed client assertion, valid for a minute. Source: RFC 7523."""
    now = int(time.time())
    document = {
        "iss": connection.auth.client_id,
        "sub": connection.auth.client_id,
        "aud": connection.audience,
        "iat": now,
        "exp": now + 60,
        "jti": uuid4().hex,
        **claims,
    }
    given = dict(connection.auth.key or {})
    elliptic = given["kty"] == "EC"
    key = ECKey.import_key(given) if elliptic else OKPKey.import_key(given)
    algorithm = "ES256" if elliptic else "Ed25519"
    return jwt.encode({"alg": algorithm, "kid": given["kid"]}, document, key, [algorithm])


async def ask_token(box: Box, connection: Connection, **claims: object) -> httpx2.Response:
    """Ask for a token, without our own client's help."""
    return await box.http.send(token_request(connection, **claims))


def by_key(box: Box) -> Connection:
    """The connection, if it signs assertions."""
    if box.connection.auth.method != "private_key_jwt":
        raise Skip("a client secret carries no time and no audience")
    return box.connection


@check(
    "CF-A01",
    "客户端凭证换取令牌",
    "token by client credentials",
    hint="RFC 6749 §4.4: answer access_token, token_type Bearer and expires_in",
    needs=OFFERS,
)
async def gives_a_token(box: Box) -> None:
    answer = await ask_token(box, box.connection)
    assert answer.status_code == 200, f"the token endpoint answered {answer.status_code}"
    body = json.loads(answer.content)
    assert body.get("token_type", "").lower() == "bearer", "token_type is not Bearer"
    assert body.get("access_token"), "no access_token"
    assert isinstance(body.get("expires_in"), int), "expires_in is not a number of seconds"
    await box.partner.list_offers(None)
    if body["expires_in"] > LONG_TOKEN_SECONDS:
        raise Warn(f"tokens live {body['expires_in']} s; an hour is enough")


@check(
    "CF-A02",
    "错误的密钥得到401",
    "wrong key: 401",
    hint="check signature, iss, sub, one audience and a jti used once; say invalid_client to all",
    needs=OFFERS,
)
async def refuses_a_wrong_key(box: Box) -> None:
    refused = [await ask_token(box, _impostor(box.connection))]
    if box.connection.auth.method == "private_key_jwt":
        other = f"{box.connection.audience}/other"
        refused.append(await ask_token(box, box.connection, aud=other))
        refused.append(await ask_token(box, box.connection, aud=[box.connection.audience]))
        refused.append(await ask_token(box, box.connection, sub="someone-else"))
        jti = uuid4().hex
        assert (await ask_token(box, box.connection, jti=jti)).status_code == 200
        refused.append(await ask_token(box, box.connection, jti=jti))
    for answer in refused:
        assert answer.status_code in (400, 401), f"answered {answer.status_code}"
        assert b"access_token" not in answer.content, "a token was given"


@check(
    "CF-A03",
    "过期令牌得到401 invalid_token",
    "expired token: 401 invalid_token",
    hint='RFC 6750 §3.1: 401 with WWW-Authenticate: Bearer error="invalid_token"',
    needs=OFFERS,
)
async def refuses_an_expired_token(box: Box) -> None:
    garbage = await _offers_with(box, "garbage")
    assert garbage.status_code == 401, f"a token that is none got {garbage.status_code}"
    token = json.loads((await ask_token(box, box.connection)).content)["access_token"]
    assert (await _offers_with(box, token)).status_code == 200, "a good token is not taken"
    await box.hand().expire_tokens(box.merchant)
    expired = await _offers_with(box, token)
    assert expired.status_code == 401, f"an expired token got {expired.status_code}"
    assert "invalid_token" in expired.headers.get("www-authenticate", ""), "it is not said why"
    await box.partner.list_offers(None)  # Our client fetches a new one.


@check(
    "CF-A04",
    "令牌范围受检",
    "scope enforced",
    hint="403 insufficient_scope for a call the token was not made for",
)
async def enforces_scope(box: Box) -> None:
    live, slot = await box.offer(slotted=False)
    narrow = replace(box.connection, scope="offers")
    async with box.client(narrow) as http:
        partner = adapter(narrow.adapter)(box.merchant, http)
        await partner.list_offers(None)
        request = QuoteRequest(live.offer_id, slot.id if slot else None, 1, None, box.member())
        try:
            await partner.quote(request)
        except PartnerUnavailable:
            return
    raise AssertionError("a token for offers was let in to quotes")


@check(
    "CF-A05",
    "时钟偏差±60秒",
    "clock skew ± 60 s",
    hint="accept iat and exp up to 60 s off, refuse minutes",
    needs=OFFERS,
)
async def bears_a_minute_of_skew(box: Box) -> None:
    connection, now = by_key(box), int(time.time())
    for skew in (-50, 50):
        answer = await ask_token(box, connection, iat=now + skew, exp=now + skew + 30)
        assert answer.status_code == 200, f"a clock {skew} s off was refused"
    for skew in (-600, 600):
        answer = await ask_token(box, connection, iat=now + skew, exp=now + skew + 30)
        assert answer.status_code in (400, 401), f"a clock {skew} s off was accepted"


@check(
    "CF-A06",
    "声明时的mTLS或DPoP",
    "mTLS or DPoP if declared",
    hint="only where the partner's metadata declares it",
    needs=OFFERS,
)
async def binds_tokens_if_declared(box: Box) -> None:
    answer = await box.http.get("/.well-known/oauth-authorization-server")
    declared = json.loads(answer.content) if answer.status_code == 200 else {}
    bound = declared.get("dpop_signing_alg_values_supported") or declared.get(
        "tls_client_certificate_bound_access_tokens"
    )
    if bound:
        raise Warn("declared, and not used by our client")
    raise Skip("not declared")


async def _offers_with(box: Box, token: str) -> httpx2.Response:
    """The partner's own call for offers, made with a token of our choice."""
    answers: list[httpx2.Response] = []

    async def keep(answer: httpx2.Response) -> None:
        await answer.aread()
        answers.append(answer)

    http = httpx2.AsyncClient(
        base_url=box.connection.base_url,
        headers={"authorization": f"Bearer {token}"},
        event_hooks={"response": [keep]},
        trust_env=False,
    )
    async with http:
        with contextlib.suppress(PartnerUnavailable):
            await adapter(box.connection.adapter)(box.merchant, http).list_offers(None)
    return answers[-1]


def _impostor(connection: Connection) -> Connection:
    """The same client with a key or a secret that is not its own."""
    auth = connection.auth
    if auth.method == "client_secret_basic":
        return replace(connection, auth=replace(auth, secret=uuid4().hex))
    other = ECKey.generate_key("P-256", {"kid": str((auth.key or {}).get("kid"))}, private=True)
    wrong = Auth(auth.method, auth.client_id, key=dict(other.as_dict(private=True)))
    return replace(connection, auth=wrong)
