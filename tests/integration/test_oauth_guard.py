"""The guard: which tokens are good, and what it costs to find out."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from starlette.applications import Starlette

from gateway.db import Database
from gateway.oauth import guard, jose, scopes, service
from gateway.oauth.client import partner_client
from gateway.oauth.guard import ANONYMOUS, Actor, RoleForbidden, ScopeMissing, Unauthenticated
from gateway.oauth.scopes import Role
from gateway.oauth.server import OAuth
from tests.support.oauth import ASSERTION, World, p256, world


@pytest.fixture
async def here(database: Database, tmp_path: Path) -> AsyncIterator[World]:
    async with world(database, tmp_path) as made:
        yield made


async def _active(here: World) -> Any:
    async with here.oauth.database.reading() as tx:
        return await tx.run_sync(here.oauth.ring.active)


def _claims(here: World, **change: Any) -> dict[str, Any]:
    now = int(here.now().timestamp())
    claims = {"iss": here.base, "aud": f"{here.base}/graphql", "sub": "usr_1", "client_id": "c"}
    claims |= {"iat": now, "exp": now + 60, "jti": "j", "scope": "catalog:read", "role": "member"}
    return {name: value for name, value in (claims | change).items() if value is not None}


async def _accepts(here: World, token: str) -> bool:
    try:
        await here.oauth.guard.authenticate(f"Bearer {token}")
    except Unauthenticated:
        return False
    return True


async def test_what_the_server_signs_is_good_and_anything_else_is_not(here: World) -> None:
    key = await _active(here)
    now = int(here.now().timestamp())
    assert await _accepts(here, jose.encode(_claims(here), key, typ="at+jwt"))
    assert await _accepts(here, jose.encode(_claims(here), key, typ="application/at+jwt"))

    for typ in ("JWT", "at", "logout+jwt", ""):
        assert not await _accepts(here, jose.encode(_claims(here), key, typ=typ)), typ
    bare = jwt.encode(
        {"alg": "ES256", "kid": key.kid},
        _claims(here),
        key,
        algorithms=["ES256"],
        default_type=None,
    )
    assert not await _accepts(here, bare)

    for change in (
        {"iss": "https://elsewhere.test"},
        {"iss": None},
        {"aud": here.base},
        {"aud": [f"{here.base}/graphql"]},
        {"aud": "c"},
        {"aud": None},
        {"exp": now - 1},
        {"exp": None},
        {"exp": "soon"},
        {"iat": now + 120},
        {"iat": None},
        {"sub": None},
        {"sub": 7},
        {"client_id": None},
        {"jti": None},
        {"cnf": {"jkt": "x"}},
    ):
        token = jose.encode(_claims(here, **change), key, typ="at+jwt")
        assert not await _accepts(here, token), change


async def test_no_other_key_and_no_other_algorithm_makes_a_token(here: World) -> None:
    key, other = await _active(here), p256()
    good = jose.encode(_claims(here), key, typ="at+jwt")
    head, payload, signature = good.split(".")

    assert not await _accepts(here, jose.encode(_claims(here), other, typ="at+jwt"))
    disguised = jose.load(other.as_dict(private=True) | {"kid": key.kid})
    assert not await _accepts(here, jose.encode(_claims(here), disguised, typ="at+jwt"))
    for header in (
        {"alg": "none", "typ": "at+jwt", "kid": key.kid},
        {"alg": "HS256", "typ": "at+jwt", "kid": key.kid},
        {"alg": "RS256", "typ": "at+jwt", "kid": key.kid},
        {"alg": "ES256", "typ": "at+jwt", "kid": {"x": 1}},
        {"alg": "ES256", "typ": "at+jwt"},
        {"alg": "ES256", "typ": "at+jwt", "jwk": other.as_dict(private=False)},
    ):
        part = _segment(header)
        assert not await _accepts(here, f"{part}.{payload}.{signature}")
        assert not await _accepts(here, f"{part}.{payload}.")

    for index in range(0, len(good), 7):
        flipped = "A" if good[index] != "A" else "B"
        assert not await _accepts(here, good[:index] + flipped + good[index + 1 :]), index
    for garbage in ("", " ", "x", "..", "a.b", "é", "x" * 9_000, f"{head}.{payload}"):
        assert not await _accepts(here, garbage)


def _segment(header: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Basic x", "token", "Bearer a b"]
)
async def test_no_bearer_token_is_no_actor(here: World, header: str | None) -> None:
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(header)


async def test_a_token_known_before_ends_with_its_time(here: World) -> None:
    key = await here.merchant("M04")
    bearer = here.bearer(await here.machine(key))
    await here.oauth.guard.authenticate(bearer)
    here.later = type(here.later)(seconds=601)
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(bearer)


async def test_a_made_up_kid_does_not_make_the_server_ask_its_database(here: World) -> None:
    asked, read = 0, here.oauth.ring._read

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        return await read()

    here.oauth.ring._shared._read = counted
    for _ in range(50):
        assert not await _accepts(here, jose.encode(_claims(here), p256(), typ="at+jwt"))
    assert asked <= 1


async def test_a_key_that_is_being_read_is_waited_for(here: World) -> None:
    """Another process has rotated the keys: of the first tokens signed since, none is refused."""
    token = jose.encode(_claims(here), await _active(here), typ="at+jwt")
    there = OAuth(here.oauth.database, here.oauth.settings, now=here.now)
    asked = [there.guard.authenticate(f"Bearer {token}") for _ in range(5)]
    assert {actor.subject for actor in await asyncio.gather(*asked)} == {"usr_1"}


async def test_a_known_token_costs_less_than_a_millisecond(here: World) -> None:
    key = await here.merchant("M04")
    bearer = here.bearer(await here.machine(key))
    await here.oauth.guard.authenticate(bearer)
    began = time.process_time()  # What others do on the machine does not count.
    for _ in range(500):
        await here.oauth.guard.authenticate(bearer)
    assert (time.process_time() - began) / 500 < 0.001


async def test_another_process_takes_the_same_assertion_and_code_once(
    here: World, database_url: str
) -> None:
    key = await here.merchant("M04")
    second = Database(database_url)
    there = OAuth(second, here.oauth.settings)
    transport = httpx2.ASGITransport(Starlette(routes=list(there.routes())))
    async with httpx2.AsyncClient(transport=transport, base_url=here.base) as other:
        assertion = jose.encode(here.claims(), key, typ="JWT")
        fields = {"grant_type": "client_credentials", "client_assertion": assertion}
        fields |= {"client_assertion_type": ASSERTION}
        calls = [
            client.post(f"{here.base}/oauth/token", data=fields)
            for client in [here.http, other] * 5
        ]
        answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 9
    (won,) = [answer for answer in answers if answer.status_code == 200]
    assert (await there.guard.authenticate(here.bearer(won))).merchant_id == "M04"
    async with second.transaction() as tx:
        await service.disable_client(tx, client_id="merchant-M04", now=here.now())
    await second.close()
    here.oauth.guard.revocations._patience = 0  # A second, and that is the promise.
    with pytest.raises(Unauthenticated):
        await here.oauth.guard.authenticate(here.bearer(won))


async def test_our_own_client_gets_in_at_our_own_server(here: World) -> None:
    key = await here.merchant("M04")

    class Auth:
        client_id = "merchant-M04"
        key: Any = None
        secret: str | None = None

    class Connection:
        base_url = here.base
        token_url = f"{here.base}/oauth/token"
        audience = here.base
        scope = "statement:read"
        auth = Auth()

    Auth.key = key.as_dict(private=True)
    client = partner_client(Connection(), clock=here.now, sandbox=True, timeout=10, concurrency=4)
    async with client:
        assert (await client.get("/oauth/jwks")).status_code == 200
        sent = (await client.get("/oauth/jwks")).request.headers["authorization"]
        actor = await here.oauth.guard.authenticate(sent)
    assert actor.scopes == {"statement:read"}


def test_scope_and_role_are_asked_for_by_name() -> None:
    actor = Actor("usr_1", "finance", "c", scopes=scopes.of(Role.FINANCE))
    guard.require_scope(actor, "finance:read")
    guard.require_role(actor, "finance", "operator")
    with pytest.raises(ScopeMissing) as missing:
        guard.require_scope(actor, "points:redeem")
    assert missing.value.context == {"scope": "points:redeem"}
    with pytest.raises(RoleForbidden):
        guard.require_role(actor, "operator")
    for ask in (guard.require_scope, guard.require_role):
        with pytest.raises(Unauthenticated):
            ask(ANONYMOUS, "catalog:read")
