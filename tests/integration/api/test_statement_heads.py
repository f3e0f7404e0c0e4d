"""Every merchant gets the signed head with its statements: with a leg, without one, hosted."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from joserfc.errors import JoseError
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.audit import store
from gateway.audit.model import HEAD_TYPE, BrokenChain, Fault, Head, head_of
from gateway.oauth import jose
from gateway.oauth.scopes import Role
from gateway.operations import evidence as operation
from gateway.settlement import service as settlement
from gateway.values import start_of
from tests.integration.api.test_audit_head import consumed, noticed, worker
from tests.integration.test_hosted import open_noodle_bar
from tests.support import evidence
from tests.support.evidence import NOW
from tests.support.gateway import Gateway
from tests.support.issuers import open_books

ROOT = Path(__file__).parents[3]
TWICE = sa.text("UPDATE ledger_lines SET amount = amount * 2")
HALF = sa.text("UPDATE ledger_lines SET amount = amount / 2")
DAY = "2026-11-20"
WANTED = f"""{{
  settlementLegs {{ edges {{ node {{ payer payee settlement auditHead }} }} }}
  bills(date: "{DAY}") {{ count auditHead }}
}}"""


@pytest.fixture
async def settled(gateway, coalition) -> str:
    """A cinema with a system and a hosted noodle bar have sold; their notices are out."""
    await open_noodle_bar(coalition)
    await consumed(gateway)
    await consumed(gateway, "M17", "ZW-01")
    return await noticed(gateway, coalition)


async def download(gateway: Gateway, merchant: str, name: str):
    token = await gateway.token(Role.PARTNER, merchant=merchant)
    return await gateway.http.get(
        f"{gateway.base}/bills/{name}", headers={"authorization": f"Bearer {token}"}
    )


async def checked(gateway: Gateway, token: str) -> Head:
    """What a head says, by the published keys."""
    header = jose.header(token)
    assert header["typ"] == HEAD_TYPE
    jwks = (await gateway.http.get(f"{gateway.base}/oauth/jwks")).json()["keys"]
    (key,) = [jwk for jwk in jwks if jwk["kid"] == header["kid"]]
    return head_of(jose.decode(token, jose.load(key))[1])


async def kept_by(gateway: Gateway, folder: Path) -> dict[str, Path]:
    """The files a merchant without a leg keeps."""
    kept, jwks = folder / "bill.head", folder / "jwks.json"
    kept.write_bytes((await download(gateway, "M08", f"{DAY}.head")).content)
    jwks.write_bytes((await gateway.http.get(f"{gateway.base}/oauth/jwks")).content)
    return {"kept": kept, "jwks": jwks}


@contextlib.asynccontextmanager
async def tampered(coalition, *tables: str) -> AsyncIterator[AsyncConnection]:
    """A transaction that may change what nobody may."""
    async with coalition.database.transaction() as tx:
        await open_books(tx, *tables)
        yield tx


@pytest.mark.parametrize("merchant", ["M05", "M17"])
async def test_a_merchant_with_a_leg_reads_the_head_of_its_notice(
    gateway, coalition, settled, merchant
) -> None:
    seen = await (await gateway.merchant(merchant)).data(WANTED)
    (leg,) = [edge["node"] for edge in seen["settlementLegs"]["edges"]]
    assert merchant in (leg["payer"], leg["payee"])
    assert leg["settlement"] == settled
    notices = [notice for partner in coalition.partners.values() for _, notice in partner.notices]
    assert {notice.audit_head for notice in notices} == {leg["auditHead"]}
    head = await checked(gateway, leg["auditHead"])
    async with coalition.database.reading() as tx:
        assert head.made_at >= (await settlement.settlement(tx, settled)).approved_at
        assert (await audit.verify(tx, kept=head)).links >= head.number > 0
    assert seen["bills"]["count"] == 1
    assert (await checked(gateway, seen["bills"]["auditHead"])).made_at >= start_of(
        date(2026, 11, 21)
    )


@pytest.mark.parametrize("merchant", ["M05", "M08", "M17"])
async def test_every_bill_goes_out_with_a_head(gateway, coalition, settled, merchant) -> None:
    bill = await download(gateway, merchant, f"{DAY}.csv")
    token = bill.headers["audit-head"]
    head = await checked(gateway, token)
    assert head.issuer == gateway.base
    assert head.made_at >= start_of(date(2026, 11, 21)), "the whole day is in it"
    async with coalition.database.reading() as tx:
        assert await store.seal_at(tx, head.number) == head.seal
    assert bill.text.splitlines()[-1].startswith("trailer,"), "the file is what it was"
    assert token not in bill.text
    alone = await download(gateway, merchant, f"{DAY}.head")
    assert (alone.text, alone.headers["content-type"]) == (token, "application/jose")
    seen = await (await gateway.merchant(merchant)).data(WANTED)
    assert seen["bills"]["auditHead"] == token


async def test_a_merchant_without_a_leg_gets_the_head_and_nobodys_rows(gateway, settled) -> None:
    seen = await (await gateway.merchant("M08")).data(WANTED)
    assert seen["settlementLegs"]["edges"] == []
    assert seen["bills"]["count"] == 0
    await checked(gateway, seen["bills"]["auditHead"])
    foreign = await (await gateway.merchant("M08")).data(
        "query($id: ID!) { settlementLegs(filter: {settlement: $id, merchant: "
        '"M05"}) { edges { node { auditHead } } } }',
        id=settled,
    )
    assert foreign["settlementLegs"]["edges"] == []


async def test_a_head_is_asked_for_by_who_may_have_the_bill(gateway, settled) -> None:
    assert (await gateway.http.get(f"{gateway.base}/bills/{DAY}.head")).status_code == 401
    member = await gateway.token(Role.MEMBER, member="mbr_demo_01")
    refused = await gateway.http.get(
        f"{gateway.base}/bills/{DAY}.head", headers={"authorization": f"Bearer {member}"}
    )
    assert refused.status_code == 403


async def test_a_day_that_runs_has_no_head_yet(gateway) -> None:
    await consumed(gateway)
    await worker(gateway).turn()
    bill = await download(gateway, "M05", f"{DAY}.csv")
    assert bill.status_code == 200
    assert "audit-head" not in bill.headers
    for day in (DAY, "9999-12-31"):
        assert (await download(gateway, "M05", f"{day}.head")).status_code == 404
    seen = await (await gateway.merchant("M05")).data(WANTED)
    assert seen["bills"] == {"count": 1, "auditHead": None}


async def test_what_commits_just_after_midnight_is_in_the_head_of_its_day(
    gateway, coalition
) -> None:
    await consumed(gateway)
    midnight = start_of(date(2026, 11, 21))
    coalition.clock.forward(seconds=(midnight - coalition.clock.now()).total_seconds() + 20)
    await worker(gateway).turn()
    async with coalition.database.transaction() as tx:  # For a settlement approved that minute.
        early = await gateway.runtime.sign_head(tx, since=midnight, now=coalition.clock.now())
    assert early is not None
    assert (await download(gateway, "M05", f"{DAY}.head")).status_code == 404
    coalition.clock.forward(seconds=60)
    for _ in range(2):
        await worker(gateway).turn()
    token = (await download(gateway, "M05", f"{DAY}.head")).text
    assert token != early
    assert (await checked(gateway, token)).made_at >= midnight + audit.USUAL


async def test_finance_sees_the_head_of_a_settlement(gateway, settled) -> None:
    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    seen = await finance.data(
        "query($id: ID!) { settlement(id: $id) { auditHead legs { auditHead } } }", id=settled
    )
    heads = {leg["auditHead"] for leg in seen["settlement"]["legs"]}
    assert heads == {seen["settlement"]["auditHead"]}
    await checked(gateway, heads.pop())


async def test_the_head_of_many_legs_is_read_once(gateway, settled) -> None:
    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    with gateway.counting() as statements:
        await finance.data("{ settlementLegs { edges { node { auditHead } } } }")
    assert sum("FROM audit_heads" in each for each in statements) == 1


async def test_a_changed_journal_does_not_fit_the_kept_head(
    gateway, coalition, settled, tmp_path
) -> None:
    files, url = await kept_by(gateway, tmp_path), coalition.database.url
    assert (await operation.verify(url, **files)).links > 0
    async with tampered(coalition, "ledger_lines") as tx:
        await tx.execute(TWICE)
    with pytest.raises(BrokenChain) as found:
        await operation.verify(url, **files)
    assert (found.value.table, found.value.fault) == ("ledger_journals", Fault.CHANGED)
    async with coalition.database.transaction() as tx:
        await tx.execute(HALF)
    assert (await operation.verify(url, **files)).links > 0


async def test_a_journal_changed_with_the_whole_chain_is_caught_by_the_bills_head_alone(
    gateway, coalition, settled, tmp_path
) -> None:
    files, url = await kept_by(gateway, tmp_path), coalition.database.url
    async with tampered(coalition, "ledger_lines", "audit_seals", "audit_heads") as tx:
        await tx.execute(TWICE)
        await tx.execute(store.heads.delete())
        await evidence.rewrite(tx)
        await gateway.runtime.sign_head(tx, since=NOW, now=coalition.clock.now())
    assert (await operation.verify(url)).heads == 1, "nobody sees it from inside"
    with pytest.raises(BrokenChain) as found:
        await operation.verify(url, **files)
    assert found.value.fault is Fault.REWRITTEN
    async with coalition.database.transaction() as tx:
        await tx.execute(HALF)
        await tx.execute(store.heads.delete())
        await evidence.rewrite(tx)


async def test_the_recipe_of_the_docs_reads_a_head(gateway, settled) -> None:
    page = (ROOT / "docs/settlement.md").read_text("utf-8")
    (recipe,) = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    # As a reader runs it.
    exec(compile(recipe, "docs/settlement.md", "exec"), names)  # noqa: S102
    token = (await download(gateway, "M08", f"{DAY}.head")).text
    claims = await asyncio.to_thread(names["head"], token, gateway.base)
    assert claims == (await checked(gateway, token)).claims()
    begin, body, signature = token.split(".")
    forged = f"{begin}.{body[:-4]}{body[-4:].swapcase()}.{signature}"
    for token, base in ((forged, gateway.base), (f"{begin}.{body}.AAAA", gateway.base)):
        with pytest.raises(JoseError):
            await asyncio.to_thread(names["head"], token, base)
    other = jose.encode(claims, jose.new_key(), typ=HEAD_TYPE)
    with pytest.raises((JoseError, ValueError)):
        await asyncio.to_thread(names["head"], other, gateway.base)
    access = await gateway.token(Role.PARTNER, merchant="M08")
    with pytest.raises(AssertionError):
        await asyncio.to_thread(names["head"], access, gateway.base)
