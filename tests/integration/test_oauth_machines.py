"""Merchants' machines at the token endpoint: assertions, secrets, scopes. Over real HTTP."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt

from gateway.db import Database
from gateway.errors import AlreadyRegistered
from gateway.oauth import jose, scopes, service
from gateway.oauth.guard import Unauthenticated
from gateway.oauth.scopes import Role
from gateway.values import InvalidInput
from tests.support.oauth import ASSERTION, World, ed25519, p256, world


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database, tmp_path) as made:
        yield made


async def test_an_assertion_gets_a_token_as_rfc_9068_describes_it(here: World) -> None:
    key = await here.merchant("M04")
    answer = await here.machine(key)
    body = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 600)
    assert scopes.split(body["scope"]) == scopes.of(Role.PARTNER, "M04")
    assert "refresh_token" not in body

    header = jose.header(body["access_token"])
    (active,) = [k for k in (await _jwks(here)) if k["kid"] == header["kid"]]
    _, claims = jose.decode(body["access_token"], jose.load(active))
    assert (header["typ"], header["alg"]) == ("at+jwt", "ES256")
    assert claims["iss"] == here.base
    assert claims["aud"] == f"{here.base}/graphql"
    assert claims["sub"] == claims["client_id"] == "merchant-M04"
    assert claims["exp"] - claims["iat"] == 600

    actor = await here.oauth.guard.authenticate(here.bearer(answer))
    assert (actor.role, actor.merchant_id, actor.member_id) == ("partner", "M04", None)
    assert actor.scopes == scopes.of(Role.PARTNER, "M04")


async def _jwks(here: World) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = (await here.http.get(f"{here.base}/oauth/jwks")).json()["keys"]
    return keys


@pytest.mark.parametrize("make", [p256, ed25519])
async def test_both_kinds_of_key_are_taken(here: World, make: Any) -> None:
    key = await here.merchant("M04", make())
    assert (await here.machine(key)).status_code == 200


WRONG = {
    "another subject": {"sub": "merchant-M05"},
    "another issuer": {"iss": "merchant-M05"},
    "a list of audiences": {"aud": ["BASE"]},
    "a foreign second audience": {"aud": ["BASE", "https://elsewhere.test"]},
    "the token endpoint as audience": {"aud": "BASE/oauth/token"},
    "a slash too many": {"aud": "BASE/"},
    "no audience": {"aud": None},
    "no expiry": {"exp": None},
    "an expiry that is text": {"exp": "9999999999"},
    "an expiry without end": {"exp": float("inf")},
    "an expiry of true": {"exp": True},
    "expired": {"exp": -61},
    "valid for eleven minutes": {"exp": 660},
    "valid for a year": {"exp": 31_536_000},
    "issued in the future": {"iat": 65},
    "not valid yet": {"nbf": 65},
    "no jti": {"jti": None},
    "a jti that is a number": {"jti": 7},
    "an endless jti": {"jti": "x" * 300},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_assertion_is_an_unknown_client(here: World, change: dict[str, Any]) -> None:
    key = await here.merchant("M04")
    await here.merchant("M05")
    now = int(here.now().timestamp())
    claims = {}
    for name, value in change.items():
        if name in ("exp", "iat", "nbf") and type(value) is int:
            claims[name] = now + value
        else:
            claims[name] = json.loads(json.dumps(value).replace("BASE", here.base))
    _refused(await here.machine(key, **claims))


def _refused(answer: Any) -> None:
    assert answer.status_code == 401, answer.text
    assert answer.json() == {
        "error": "invalid_client",
        "error_description": "Client authentication failed.",
    }
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("claim", [{"iat": 10}, {"nbf": 10}, {"exp": 600}, {"exp": -30}])
async def test_clocks_may_differ_a_little(here: World, claim: dict[str, int]) -> None:
    key = await here.merchant("M04")
    now = int(here.now().timestamp())
    change = {name: now + seconds for name, seconds in claim.items()}
    assert (await here.machine(key, **change)).status_code == 200


async def test_the_wrong_key_kid_or_algorithm_is_an_unknown_client(here: World) -> None:
    key, other = await here.merchant("M04"), p256()
    await here.merchant("M04", ed25519())
    _refused(await here.machine(other))

    foreign = p256().as_dict(private=True) | {"kid": key.kid}
    _refused(await here.machine(jose.load(foreign)))
    mine = key.as_dict(private=True) | {"kid": other.kid}
    _refused(await here.machine(jose.load(mine)))

    good = jose.encode(here.claims(), key, typ="JWT")
    head, payload, signature = good.split(".")
    for header in ({"alg": "none"}, {"alg": "HS256", "kid": key.kid}, {"alg": "ES256"}, {}, []):
        forged = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        _refused(await here.present(f"{forged}.{payload}.{signature}"))
        _refused(await here.present(f"{forged}.{payload}."))
    for garbage in ("x", "a.b.c", "..", "é.é.é", f"{head}.{payload}.{signature[:-6]}AAAAAA"):
        _refused(await here.present(garbage))
    assert (await here.present(good)).status_code == 200


async def test_no_kid_is_enough_only_where_there_is_one_key(here: World) -> None:
    key = await here.merchant("M04")
    bare = jwt.encode({"alg": "ES256"}, here.claims(), key, algorithms=["ES256"])
    assert (await here.present(bare)).status_code == 200
    await here.merchant("M04", p256())
    bare = jwt.encode({"alg": "ES256"}, here.claims(), key, algorithms=["ES256"])
    _refused(await here.present(bare))


async def test_of_twenty_uses_of_one_assertion_one_gets_a_token(here: World) -> None:
    key = await here.merchant("M04")
    assertion = jose.encode(here.claims(), key, typ="JWT")
    answers = await asyncio.gather(*(here.present(assertion) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    _refused(await here.present(assertion))


async def test_an_access_token_is_no_assertion_and_an_assertion_no_token(here: World) -> None:
    key = await here.merchant("M04")
    token = (await here.machine(key)).json()["access_token"]
    _refused(await here.present(token))
    assertion = jose.encode(here.claims(), key, typ="at+jwt")
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(f"Bearer {assertion}")


async def test_a_merchant_gets_the_scopes_of_its_role_and_no_others(here: World) -> None:
    key = await here.merchant("M04")
    for scope in ("offers:write", "settlement:ack:M04", "catalog:read statement:read"):
        answer = await here.machine(key, scope=scope)
        assert scopes.split(answer.json()["scope"]) == scopes.split(scope)
    for scope in ("settlement:ack:M05", "finance:read", "points:redeem", "offers:write nonsense"):
        answer = await here.machine(key, scope=scope)
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    assert answer.json()["error_description"] == "Not for this client: nonsense."


async def test_the_log_says_why_a_client_is_refused_and_the_answer_does_not(
    here: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "gateway.oauth.core")
    key = await here.merchant("M04")
    late = await here.machine(key, exp=int(here.now().timestamp()) + 660)
    stranger = await here.machine(p256())
    assert late.json() == stranger.json()
    assert [record.getMessage() for record in caplog.records] == [
        "client refused: merchant-M04: exp is not in the next 600 s",
        "client refused: merchant-M04: kid is no registered key",
    ]


async def test_a_secret_works_in_the_sandbox_only(
    here: World, database: Database, tmp_path: Path
) -> None:
    secret = await here.with_secret("sandbox-M05")
    answer = await _basic(here, "sandbox-M05", secret)
    assert (await here.oauth.guard.authenticate(here.bearer(answer))).merchant_id == "M05"
    async with world(database, tmp_path, mode="live") as live:
        _refused(await _basic(live, "sandbox-M05", secret))
        methods = (await _metadata(live))["token_endpoint_auth_methods_supported"]
        assert methods == ["private_key_jwt", "none"]


async def _basic(here: World, client_id: str, secret: str, **fields: str) -> Any:
    return await here.http.post(
        f"{here.base}/oauth/token",
        data={"grant_type": "client_credentials", **fields},
        auth=(client_id, secret),
    )


async def _metadata(here: World) -> dict[str, Any]:
    place = f"{here.base}/.well-known/oauth-authorization-server"
    metadata: dict[str, Any] = (await here.http.get(place)).json()
    return metadata


async def test_secrets_rotate_without_a_gap(here: World) -> None:
    old = await here.with_secret("sandbox-M05")
    async with here.oauth.database.transaction() as tx:
        new = await service.new_secret(tx, client_id="sandbox-M05", now=here.now())
    assert (await _basic(here, "sandbox-M05", old)).status_code == 200
    assert (await _basic(here, "sandbox-M05", new)).status_code == 200
    async with here.oauth.database.transaction() as tx:
        await service.new_secret(
            tx, client_id="sandbox-M05", now=here.now(), others_until=here.now()
        )
    _refused(await _basic(here, "sandbox-M05", old))


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(),
        "Basic " + base64.b64encode(b"no-colon").decode(),
        "Basic " + base64.b64encode(b"nobody:secret").decode(),
        "Basic " + base64.b64encode(b"sandbox-M05:wrong").decode(),
        "Basic " + base64.b64encode(b"%ff%fe:%ff").decode(),
        "Basic " + base64.b64encode("客户\x00:\x00".encode()).decode(),
        "Basic " + base64.b64encode(b"a\x00b:c").decode(),
        "Bearer x",
    ],
)
async def test_garbage_in_basic_is_an_unknown_client(here: World, header: str) -> None:
    await here.with_secret("sandbox-M05")
    answer = await here.http.post(
        f"{here.base}/oauth/token",
        data={"grant_type": "client_credentials"},
        headers={"Authorization": header},
    )
    _refused(answer)


async def test_malformed_requests_are_refused_in_words(here: World) -> None:
    key = await here.merchant("M04")
    secret = await here.with_secret("sandbox-M05")
    fields = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION}

    def fresh() -> dict[str, str]:
        return fields | {"client_assertion": jose.encode(here.claims(), key, typ="JWT")}

    url = f"{here.base}/oauth/token"
    both = await here.http.post(url, data=fresh(), auth=("sandbox-M05", secret))
    in_query = await here.http.post(f"{url}?client_secret=x", data=fresh())
    text = await here.http.post(url, json=fresh())
    twice = await here.http.post(
        url,
        content="grant_type=client_credentials&grant_type=client_credentials",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    latin = await here.http.post(
        url,
        content=b"grant_type=\xff",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    for answer in (both, in_query, text, twice, latin):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    long = await here.http.post(url, data=fresh() | {"x": "x" * 70_000})
    assert long.status_code == 413

    for grant in ("password", "implicit", 'x"y', ""):
        answer = await here.token(grant_type=grant, username="lin", password="x")
        assert answer.status_code == 400
        assert answer.json()["error"] in ("unsupported_grant_type", "invalid_request")
    assert (await here.http.get(url)).status_code == 405


async def test_a_key_is_registered_once_and_is_public(here: World) -> None:
    key = await here.merchant("M04")
    with pytest.raises(AlreadyRegistered):
        await here.merchant("M04", key)
    with pytest.raises(AlreadyRegistered):
        await here.merchant("M05", key)
    bad: list[dict[str, Any]] = [
        p256().as_dict(private=True),
        {"kty": "oct", "k": "AAAA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": 7, "y": None},
        {"kty": "OKP", "crv": "Ed25519", "x": "A"},
        {},
    ]
    async with here.oauth.database.transaction() as tx:
        for jwk in bad:
            with pytest.raises(InvalidInput):
                await service.register_key(tx, merchant_id="M06", jwk=jwk, now=here.now())


async def test_keys_are_replaced_without_a_gap(here: World) -> None:
    old = await here.merchant("M04")
    new = await here.merchant("M04", p256())
    assert (await here.machine(old)).status_code == 200
    assert (await here.machine(new)).status_code == 200
    async with here.oauth.database.transaction() as tx:
        await service.revoke_key(tx, client_id="merchant-M04", kid=old.kid, now=here.now())
    _refused(await here.machine(old))
    assert (await here.machine(new)).status_code == 200


async def test_a_merchants_signature_is_checked_over_exactly_these_bytes(here: World) -> None:
    key, other = await here.merchant("M04"), await here.merchant("M05")
    signature = jose.sign_detached(b"leg_1 4050", key)
    database = here.oauth.database

    async def check(client_id: str, payload: bytes, given: str) -> str:
        async with database.reading() as tx:
            return await service.verify_signature(
                tx, client_id=client_id, payload=payload, signature=given
            )

    assert await check("merchant-M04", b"leg_1 4050", signature) == key.kid
    for client_id, payload, given in (
        ("merchant-M04", b"leg_1 4051", signature),
        ("merchant-M05", b"leg_1 4050", signature),
        ("merchant-M04", b"leg_1 4050", jose.sign_detached(b"leg_1 4050", other)),
        ("merchant-M04", b"leg_1 4050", signature.replace("..", ".bGVnXzEgNDA1MA.")),
        ("merchant-M04", b"leg_1 4050", "x"),
        ("merchant-M04", b"", ""),
    ):
        with pytest.raises(InvalidInput):
            await check(client_id, payload, given)


async def test_the_metadata_is_valid_and_names_only_what_is_on(here: World) -> None:
    metadata = await _metadata(here)
    AuthorizationServerMetadata(metadata).validate()
    assert metadata["issuer"] == here.base
    assert metadata["code_challenge_methods_supported"] == ["S256"]
    assert metadata["authorization_response_iss_parameter_supported"] is True
    for name, url in metadata.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            assert (await here.http.head(url)).status_code in (200, 400, 405)
