"""Every merchant gets the signed head with its statements: with a leg, without one, hosted."""

from datetime import date
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.audit import service as audit
from gateway.audit import store
from gateway.audit.model import HEAD_TYPE, BrokenChain, Fault, Head, head_of
from gateway.oauth import jose
from gateway.oauth.scopes import Role
from gateway.operations import evidence as operation
from gateway.settlement import service as settlement
from gateway.values import start_of
from tests.integration.api.test_audit_head import LEGS, consumed, worker
from tests.integration.api.test_merchant_journeys import settle
from tests.integration.test_hosted import open_noodle_bar
from tests.support import evidence
from tests.support.gateway import Gateway
from tests.support.issuers import open_books

DAY = "2026-11-20"
WANTED = f"""{{
  settlementLegs {{ edges {{ node {{ payer payee settlement auditHead }} }} }}
  bills(date: "{DAY}") {{ count auditHead }}
}}"""


async def noodles(gateway: Gateway) -> None:
    """A voucher of the hosted M17, sold and taken."""
    member, hosted = await gateway.member("mbr_demo_01"), await gateway.merchant("M17")
    done = await member.did("redeemOffer", "redemption { id }", offer="ZW-01", legs=LEGS)
    ids = {"redemption": done["redemption"]["id"]}
    await hosted.did("recordFulfilment", "redemption { state }", **ids)


@pytest.fixture
async def settled(gateway, coalition) -> str:
    """A cinema with a system and a hosted noodle bar have sold; their notices are out."""
    await open_noodle_bar(coalition)
    await consumed(gateway)
    await noodles(gateway)
    found = await settle(gateway, coalition)
    for _ in range(3):
        await worker(gateway).turn()
    return found


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
    async with coalition.database.transaction() as tx:
        await open_books(tx, "ledger_lines")
        await tx.execute(sa.text("UPDATE ledger_lines SET amount = amount * 2"))
    with pytest.raises(BrokenChain) as found:
        await operation.verify(url, **files)
    assert (found.value.table, found.value.fault) == ("ledger_journals", Fault.ROW_CHANGED)


async def test_a_journal_changed_with_the_whole_chain_is_caught_by_the_bills_head_alone(
    gateway, coalition, settled, tmp_path
) -> None:
    files, url = await kept_by(gateway, tmp_path), coalition.database.url
    async with coalition.database.transaction() as tx:
        await open_books(tx, "ledger_lines", "audit_seals", "audit_heads")
        await tx.execute(sa.text("UPDATE ledger_lines SET amount = amount * 2"))
        await tx.execute(store.heads.delete())
        await evidence.rewrite(tx)
    assert (await operation.verify(url)).links > 0
    with pytest.raises(BrokenChain) as found:
        await operation.verify(url, **files)
    assert found.value.fault is Fault.REWRITTEN
