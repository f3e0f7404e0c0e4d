"""One bad request of each kind: its published code, the numbers, the next step; nothing changes."""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.migrations import all_tables
from gateway.oauth.scopes import Role
from tests.integration.conftest import Coalition
from tests.support.gateway import Client, Gateway

P_LL = [{"programme": "P-LL"}]


async def digest(coalition: Coalition) -> str:
    """A hash of every row of every table."""
    whole = hashlib.sha256()
    async with coalition.database.reading() as tx:
        for table in all_tables().sorted_tables:
            rows = sorted(repr(tuple(row)) for row in await tx.execute(sa.select(table)))
            whole.update(f"{table.name}{rows}".encode())
    return whole.hexdigest()


@dataclass
class Bad:
    """A request that is refused: who asks what, and what it is told."""

    mutation: str
    input: dict[str, Any]
    code: str
    context: dict[str, Any] = field(default_factory=dict)
    zh: str = ""
    en: str = ""
    who: Callable[[Gateway], Awaitable[Client]] | None = None
    top_level: bool = False


def member(member_id: str) -> Callable[[Gateway], Awaitable[Client]]:
    return lambda gateway: gateway.member(member_id)


def merchant(merchant_id: str) -> Callable[[Gateway], Awaitable[Client]]:
    return lambda gateway: gateway.merchant(merchant_id)


async def without_scope(gateway: Gateway) -> Client:
    token = await gateway.token(Role.MEMBER, member="mbr_demo_01", scope="points:read")
    return Client(gateway, token)


async def with_an_expired_token(gateway: Gateway) -> Client:
    return Client(gateway, await gateway.token(Role.MEMBER, member="mbr_demo_01", seconds=-120))


BAD = {
    "wrong type": Bad(
        "requestQuote",
        {"offer": "XH-01", "legs": [{"programme": "P-LL", "points": "4500"}]},
        "MALFORMED_REQUEST",
        zh="请求格式有误",
        en="cannot be read",
        who=member("mbr_demo_01"),
        top_level=True,
    ),
    "unknown id": Bad(
        "requestQuote",
        {"offer": "XH-99", "legs": P_LL},
        "NOT_FOUND",
        {"id": "XH-99"},
        "没有找到 XH-99",
        "XH-99 not found",
        member("mbr_demo_01"),
    ),
    "another merchant's id": Bad(
        "suspendOffer",
        {"offer": "XH-01", "reason": "closed"},
        "NOT_FOUND",
        {"id": "XH-01"},
        "没有找到 XH-01",
        "XH-01 not found",
        merchant("M06"),
    ),
    "expired token": Bad(
        "requestQuote",
        {"offer": "XH-01", "legs": P_LL},
        "UNAUTHENTICATED",
        zh="请重新登录",
        en="sign in again",
        who=with_an_expired_token,
        top_level=True,
    ),
    "wrong scope": Bad(
        "requestQuote",
        {"offer": "XH-01", "legs": P_LL},
        "SCOPE_MISSING",
        {"scope": "points:redeem"},
        "缺少权限 points:redeem",
        "scope points:redeem missing",
        without_scope,
        top_level=True,
    ),
    "insufficient points by 1": Bad(
        "requestQuote",
        {"offer": "XH-02", "quantity": 3, "legs": P_LL, "cashFen": 3_999},
        "INSUFFICIENT_POINTS",
        {"programme": "P-LL", "needed": 20_001, "available": 20_000, "missing": 1},
        "还差 1 分(需要 20001,可用 20000)",
        "1 points short (20001 needed, 20000 available)",
        member("mbr_demo_01"),
    ),
    "missing agreement": Bad(
        "requestQuote",
        {"offer": "MX-01", "legs": P_LL},
        "NO_AGREEMENT",
        {"issuer": "M04", "redeemer": "M08", "ended_on": "2026-11-01"},
        "邻里便利与墨香书店没有有效的兑换协议",
        "no valid agreement between",
        member("mbr_demo_08"),
    ),
    "over budget": Bad(
        "recordEarnEvent",
        {"member": "mbr_xiaozhou", "order": "o1", "cashFen": 80_000_100, "consumed": True},
        "BUDGET_EXCEEDED",
        {"budget_fen": 800_000, "budget_points": 800_000, "left_points": 800_000},
        "超出年度营销预算(800000 分),还可发 800000 分",
        "above the yearly budget of 800000 points; 800000 left",
        merchant("M15"),
    ),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_request_is_told_what_is_wrong_and_changes_nothing(
    gateway: Gateway, coalition: Coalition, kind: str
) -> None:
    bad = BAD[kind]
    assert bad.who
    client = await bad.who(gateway)
    before = await digest(coalition)
    for language, words in (("zh-CN", bad.zh), ("en", bad.en)):
        client.language = language
        if bad.top_level:
            error = await _top_level(client, bad)
        else:
            error = await client.refused(bad.mutation, **bad.input)
            assert {name: error["context"].get(name) for name in bad.context} == bad.context
        assert error["code"] == bad.code
        assert words in error["message"]
        assert error["nextStep"]
    assert await digest(coalition) == before


async def _top_level(client: Client, bad: Bad) -> dict[str, Any]:
    name = bad.mutation[0].upper() + bad.mutation[1:]
    call = f"{bad.mutation}(input: $input) {{ errors {{ code }} }}"
    answer = await client.ask(
        f"mutation($input: {name}Input!) {{ {call} }}",
        input=bad.input | {"idempotencyKey": "bad"},
    )
    (error,) = answer.body["errors"]
    context = error["extensions"].get("context", {})
    assert {name: context.get(name) for name in bad.context} == bad.context
    return {
        "code": error["extensions"]["code"],
        "message": error["message"],
        "nextStep": error["extensions"].get("nextStep"),
    }


async def test_an_expired_quote_is_told_and_changes_nothing(
    gateway: Gateway, coalition: Coalition
) -> None:
    client = await gateway.member("mbr_demo_01")
    made = await client.did("requestQuote", "quote { id expiresAt }", offer="XH-01", legs=P_LL)
    coalition.clock.forward(minutes=6)
    before = await digest(coalition)
    error = await client.refused("holdRedemption", quote=made["quote"]["id"])
    assert error["code"] == "QUOTE_EXPIRED"
    assert error["context"]["expired_at"][:16] == made["quote"]["expiresAt"][:16]
    assert error["nextStep"]
    assert await digest(coalition) == before


async def test_a_repeated_key_with_another_body_is_told_and_changes_nothing(
    gateway: Gateway, coalition: Coalition
) -> None:
    client = await gateway.member("mbr_demo_20")
    give = {"beneficiary": "M16", "programme": "P-HM", "idempotencyKey": "once"}
    await client.did("donatePoints", "donation { id }", points=100, **give)
    before = await digest(coalition)
    error = await client.refused("donatePoints", points=200, **give)
    assert error["code"] == "IDEMPOTENCY_CONFLICT"
    assert error["context"]["stored_hash"] != error["context"]["given_hash"]
    assert error["nextStep"]
    assert await digest(coalition) == before
