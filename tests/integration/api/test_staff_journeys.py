"""What finance, operator and compliance do over HTTP; and what the plain routes answer."""

import base64
import csv
import hashlib
import io
import re
from datetime import date

import pytest

from gateway.oauth.scopes import Role
from gateway.ports import Statement, StatementLine
from tests.integration.api.test_merchant_journeys import settle

LEGS = [{"programme": "P-LL"}]
FULL = "redemption { id state }"


async def sold(gateway, offer: str, merchant: str, member: str = "mbr_demo_01") -> str:
    """A redemption that is paid and consumed."""
    buyer = await gateway.member(member)
    bought = await buyer.did("redeemOffer", FULL, offer=offer, legs=LEGS)
    redemption: str = bought["redemption"]["id"]
    await (await gateway.merchant(merchant)).did("recordFulfilment", FULL, redemption=redemption)
    return redemption


def lying(code: str, *lines: tuple[str, int]):
    """A statement in place of the partner's own."""

    async def statement(day: date) -> Statement:
        rows = tuple(
            StatementLine(number, ref, f"b/{ref}", "REDEMPTION", "M04", fen, day)
            for number, (ref, fen) in enumerate(lines, 1)
        )
        return Statement(code, day, 1, rows, len(rows), sum(row.amount_fen for row in rows))

    return statement


async def test_a_difference_is_found_and_resolved_by_two_people(gateway, coalition):
    redemption = await sold(gateway, "XH-01", "M05")
    for code, partner in coalition.partners.items():
        partner.statement = lying(code, *([(redemption, 4140)] if code == "M05" else []))
    coalition.clock.forward(days=1)
    maker = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    checker = await gateway.staff(Role.FINANCE, "usr_fin_checker")
    wanted = (
        "run { id state breakCount breakFen balancedCount resultHash"
        " merchants { merchant balanced }"
        " breaks { id code merchant amountFen oursFen theirsFen hypothesis state } }"
        " undelivered { merchant code }"
    )
    asked = {"day": "2026-11-20", "idempotencyKey": "day"}
    started = await maker.did("startReconciliationRun", wanted, **asked)
    assert started["undelivered"] == []
    run = started["run"]
    assert (run["state"], run["breakCount"], run["breakFen"]) == ("REVIEW", 1, 90)
    assert run["balancedCount"] == len(run["merchants"]) - 1
    (found,) = run["breaks"]
    assert (found["code"], found["merchant"], found["amountFen"]) == ("AMOUNT_DIFF", "M05", 90)
    assert found["hypothesis"]
    again = await maker.did("startReconciliationRun", wanted, **asked)
    assert again["replayed"]
    assert again["run"] == run

    proposed = await maker.did(
        "proposeBreakResolution",
        "resolution { id state amountFen flows { payer payee fen } }",
        breakId=found["id"],
        action="ACCEPT_THEIRS",
        note="list price was 4,600",
    )
    assert proposed["resolution"]["flows"] == [{"payer": "M04", "payee": "M05", "fen": 90}]
    asked = {"resolution": proposed["resolution"]["id"]}
    own = await maker.refused("approveBreakResolution", **asked)
    assert own["code"] == "FOUR_EYES_REQUIRED"
    assert sorted(own["context"]) == ["proposed_by"], "no number is at fault"
    approved = await checker.did("approveBreakResolution", "resolution { state journal }", **asked)
    assert approved["resolution"]["state"] == "APPROVED"
    journal = await maker.data(
        "query($id: ID!) { breaks(filter: {run: $id}) { edges { node { state } } } }",
        id=run["id"],
    )
    assert journal["breaks"]["edges"] == [{"node": {"state": "CLOSED"}}]
    signed = await maker.did("signOffReconciliationRun", "run { state }", run=run["id"])
    assert signed["run"]["state"] == "LOCKED"


async def test_a_run_waits_for_statements_and_goes_on_with_the_same_key(gateway, coalition):
    for code, partner in coalition.partners.items():
        if code != "M05":
            partner.statement = lying(code)
    maker = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    asked = {"day": "2026-11-19", "idempotencyKey": "day"}
    wanted = "run { state } undelivered { merchant code }"
    waiting = await maker.did("startReconciliationRun", wanted, **asked)
    assert waiting["run"]["state"] == "INGESTING"
    assert waiting["undelivered"] == [{"merchant": "M05", "code": "PARTNER_REJECTED"}]
    coalition.partners["M05"].statement = lying("M05")
    done = await maker.did("startReconciliationRun", wanted, **asked)
    assert (done["run"]["state"], done["undelivered"]) == ("REVIEW", [])


async def test_the_banks_file_is_for_finance_only(gateway, coalition):
    await sold(gateway, "XH-01", "M05")
    settlement = await settle(gateway, coalition)
    place = f"{gateway.base}/bank/{settlement}.csv"
    token = await gateway.token(Role.FINANCE, subject="usr_fin_maker")
    answer = await gateway.http.get(place, headers={"authorization": f"Bearer {token}"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert {(row["payer"], row["payee"], row["amount_yuan"]) for row in rows} == {
        ("M04", "M05", "40.50"),
        ("M04", "HUB_FEE", "0.20"),
    }
    assert (await gateway.http.get(place)).status_code == 401
    merchant = await gateway.token(Role.PARTNER, merchant="M05")
    forbidden = await gateway.http.get(place, headers={"authorization": f"Bearer {merchant}"})
    assert forbidden.status_code == 403
    missing = await gateway.http.get(
        f"{gateway.base}/bank/set_none.csv", headers={"authorization": f"Bearer {token}"}
    )
    assert missing.status_code == 404
    assert missing.json()["errors"][0]["extensions"]["code"] == "NOT_FOUND"


async def test_a_bill_is_a_file_with_a_trailer(gateway):
    redemption = await sold(gateway, "XH-01", "M05")
    token = await gateway.token(Role.PARTNER, merchant="M05")
    answer = await gateway.http.get(
        f"{gateway.base}/bills/2026-11-20.csv", headers={"authorization": f"Bearer {token}"}
    )
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert [row[2:5] + row[6:7] for row in rows[1:-1]] == [
        [redemption, "REDEMPTION", "M04", "4050"]
    ]
    assert rows[-1][:2] + rows[-1][6:7] == ["trailer", "1", "4050"]


async def test_finance_opens_a_journal_and_a_book_balances(gateway):
    redemption = await sold(gateway, "XH-01", "M05")
    finance = await gateway.staff(Role.FINANCE, "usr_fin_maker")
    found = await finance.data(
        "query($id: ID!) { journals(filter: {cause: $id}) { edges { node { kind actor"
        ' lines { book account amount } } } } trialBalance(book: "HUB") { account balance }'
        " obligations(filter: {cause: $id}) { edges { node { type amountFen state window } } } }",
        id=redemption,
    )
    kinds = [edge["node"]["kind"] for edge in found["journals"]["edges"]]
    assert sorted(kinds) == ["COMMIT", "HOLD"]
    assert sum(row["balance"] for row in found["trialBalance"]) == 0
    rows = [edge["node"] for edge in found["obligations"]["edges"]]
    assert {row["window"] for row in rows} == {"win_2026W47"}


async def test_the_operator_runs_the_coalition(gateway):
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    paused = await operator.did("pausePartner", "merchant { paused }", merchant="M08")
    assert paused["merchant"]["paused"] is True
    again = await operator.did("pausePartner", "merchant { paused }", merchant="M08", paused=False)
    assert again["merchant"]["paused"] is False
    assert (await operator.refused("pausePartner", merchant="M99"))["code"] == "NOT_FOUND"
    budget = await operator.did(
        "proposeBudget", "budget { id approvedBy }", issuer="M04", year=2026, budgetFen=1000
    )
    own = await operator.refused("approveBudget", budget=budget["budget"]["id"])
    assert own["code"] == "FOUR_EYES_REQUIRED"
    licence = {"kind": "EDI", "number": "B2-1", "scope": "交易处理"}
    dates = {"validFrom": "2026-01-01", "validUntil": "2031-01-01"}
    done = await operator.did("recordLicence", "licence { number }", **licence, **dates)
    assert done["licence"] == {"number": "B2-1"}
    suspended = await operator.did(
        "suspendOffer", "offer { suspended parity { ok } }", offer="XH-01", reason="review"
    )
    assert suspended["offer"] == {"suspended": True, "parity": {"ok": False}}
    found = await operator.data(
        "{ coverage { issuer { id } outstandingPoints outstandingValueFen }"
        ' budgets(issuer: "M04") { year budgetFen }'
        ' partners(filter: {city: "柳林镇"}) { edges { node { id } } } }'
    )
    assert len(found["coverage"]) == 14
    assert [edge["node"]["id"] for edge in found["partners"]["edges"]] == [
        *("M01", "M09", "M11", "M14")  # everywhere, or there
    ]


async def test_the_operator_sees_a_saga_with_its_calls(gateway):
    redemption = await sold(gateway, "XH-01", "M05")
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    found = await operator.data(
        '{ sagas(filter: {merchant: "M05"}) { edges { node { redemption { id state }'
        " calls { verb attempt state } } } } }"
    )
    (saga,) = [edge["node"] for edge in found["sagas"]["edges"]]
    assert saga["redemption"] == {"id": redemption, "state": "FULFILLED"}
    assert {(call["verb"], call["state"]) for call in saga["calls"]} == {
        ("hold", "ANSWERED"),
        ("confirm", "ANSWERED"),
    }


@pytest.mark.parametrize("role", [Role.COMPLIANCE, Role.REGULATOR])
async def test_the_red_lines_are_checked_now(gateway, role):
    await sold(gateway, "XH-01", "M05")
    auditor = await gateway.staff(role, f"usr_{role}")
    found = (await auditor.data("{ redLines { id title holds detail } }"))["redLines"]
    assert {row["id"] for row in found} >= {"K1", "K2", "K3", "L1", "R1", "W1"}
    assert [row for row in found if not row["holds"]] == []


async def test_a_help_page_exists_for_every_code(gateway):
    listed = await gateway.http.get(f"{gateway.base}/errors")
    for code in ("INSUFFICIENT_POINTS", "MALFORMED_REQUEST", "NO_AGREEMENT", "SCOPE_MISSING"):
        assert code in listed.text
        page = await gateway.http.get(f"{gateway.base}/errors/{code}")
        assert page.status_code == 200
        assert "下一步" in page.text
        assert "Next:" in page.text
    assert (await gateway.http.get(f"{gateway.base}/errors/NO_SUCH")).status_code == 404
    evil = await gateway.http.get(f"{gateway.base}/errors/%3Cscript%3E")
    assert "<script>" not in evil.text
    for path in ("/errors", "/errors/NO_SUCH"):
        headers = (await gateway.http.get(f"{gateway.base}{path}")).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


async def test_the_first_page_says_where_things_are_in_both_languages(gateway):
    page = await gateway.http.get(gateway.base)
    paths = re.findall(r'href="([^"]+)"', page.text)
    assert "/errors" in paths
    assert "错误码" in page.text
    assert "error codes" in page.text
    for path in paths:
        assert (await gateway.http.get(f"{gateway.base}{path}")).status_code != 404, path
    assert (await gateway.http.get(f"{gateway.base}/favicon.ico")).status_code == 204
    (style,) = re.findall(r"<style>(.*?)</style>", page.text)
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{hashed}'" in page.headers["content-security-policy"]


async def test_health_is_told(gateway):
    assert (await gateway.http.get(f"{gateway.base}/livez")).status_code == 200
    assert (await gateway.http.get(f"{gateway.base}/readyz")).status_code == 200
