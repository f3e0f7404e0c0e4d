"""A donation, done and taken back: every word that is kept of it, and what it refuses."""

from dataclasses import asdict
from datetime import timedelta
from typing import Any

import pytest

from gateway.errors import NotFound
from gateway.events import service as events
from gateway.ledger import service as ledger
from gateway.redemption import donations
from gateway.redemption.donations import Donation
from gateway.redemption.model import DonationReversalClosed
from gateway.settlement import service as settlement
from gateway.values import InvalidAmount, InvalidInput
from tests.integration.conftest import MORNING, Coalition
from tests.support.issuers import printed

LATER = MORNING + timedelta(hours=24)
OWN: dict[str, Any] = {"member_id": "mbr_demo_20", "programme_id": "P-HM"}  # The operator's.
OTHER: dict[str, Any] = {"member_id": "mbr_demo_09", "programme_id": "P-CA"}


async def give(coalition: Coalition, points: int = 1_000, **more: Any) -> Donation:
    asked = OWN | {"beneficiary": "M16", "key": coalition.key(), "now": MORNING} | more
    async with coalition.database.transaction() as tx:
        made, replayed = await donations.donate(tx, points_given=points, **asked)
    assert not replayed
    return made


async def take_back(coalition: Coalition, made: Donation, key: str = "r", **more: Any) -> Any:
    asked = {"member_id": made.member_id, "now": MORNING + timedelta(hours=1)} | more
    async with coalition.database.transaction() as tx:
        return await donations.reverse(tx, donation_id=made.id, key=key, **asked)


async def kept(coalition: Coalition, made: Donation) -> list[str]:
    async with coalition.database.reading() as tx:
        journals = reversed(await ledger.entries(tx, limit=99))
        lines = [
            f"{journal.op_key} {journal.actor} {journal.cause_id}: {printed(journal)}"
            for _, journal in journals
            if journal.op_key.startswith(made.id)
        ]
        claims = await settlement.obligations(tx, cause_id=made.id)
        lines += [f"{o.type} {o.payer} {o.payee} {o.amount_fen} {o.agreement_id}" for o in claims]
        for event in reversed(await events.newest_events(tx, since=None, limit=9)):
            said = sorted(event.data.items())
            lines.append(f"{event.type} {event.merchants} {event.member_id} {said}")
    return [line.replace(made.id, "don") for line in lines]


HOUR = timedelta(hours=1)
GIVEN = [
    "don:donate mbr_demo_20 don: PTS:M01 Dr M:mbr_demo_20:AVAIL 1,000, Cr DONATED:M16 1,000"
    " · BUDGET:M01 Dr BUDGET_AVAIL:PR-12 1,000, Cr BUDGET_USED 1,000",
]
TAKEN_BACK = [
    "don:undonate mbr_demo_20 don: PTS:M01 Dr DONATED:M16 1,000, Cr M:mbr_demo_20:AVAIL 1,000"
    " · BUDGET:M01 Cr BUDGET_AVAIL:PR-12 1,000, Dr BUDGET_USED 1,000",
]
OWED = [
    "don:donate mbr_demo_09 don: PTS:M02 Dr M:mbr_demo_09:AVAIL 200, Cr DONATED:M16 200"
    " · HUB Dr POS:M02 2,000, Cr POS:M01 2,000",
    "don:match mbr_demo_09 don: BUDGET:M01 Dr BUDGET_AVAIL:PR-12 2,000, Cr BUDGET_USED 2,000",
]
UNDONE = [
    "don:undonate mbr_demo_09 don: PTS:M02 Dr DONATED:M16 200, Cr M:mbr_demo_09:AVAIL 200"
    " · BUDGET:M01 Cr BUDGET_AVAIL:PR-12 2,000, Dr BUDGET_USED 2,000"
    " · HUB Dr POS:M01 2,000, Cr POS:M02 2,000",
]
GOODS, BACK = "DONATION_GOODS M02 M01 2000 agr_M02_M16", "REVERSAL M01 M02 2000 agr_M02_M16"


def told(word: str, issuer: str, made: Donation) -> str:
    said = [("beneficiary", "M16"), ("points", made.points), ("programme", made.programme_id)]
    return f"donation.{word} {(issuer, 'M16')} {made.member_id} {said}"


async def test_a_gift_of_the_operators_points_is_matched(coalition: Coalition) -> None:
    made = await give(coalition)
    assert made.id.startswith("don_")
    assert asdict(made) == OWN | {
        "id": made.id, "beneficiary": "M16", "issuer": "M01", "points": 1_000, "face_fen": 1_000,
        "match_fen": 1_000, "match_promotion": "PR-12", "match_period": "2026-11",
        "state": "DONE", "donated_at": MORNING, "reversed_at": None,
    }  # fmt: skip
    async with coalition.database.reading() as tx:
        assert await donations.donation(tx, made.id) == made
    done, undone = told("done", "M01", made), told("reversed", "M01", made)
    assert await kept(coalition, made) == [*GIVEN, done]
    back, replayed = await take_back(coalition, made)
    assert (back.state, back.reversed_at, replayed) == ("REVERSED", MORNING + HOUR, False)
    assert await kept(coalition, made) == [*GIVEN, *TAKEN_BACK, done, undone]
    for key, seen in (("r", True), ("other", False)):
        assert await take_back(coalition, made, key=key) == (back, seen)
    assert await kept(coalition, made) == [*GIVEN, *TAKEN_BACK, done, undone]


async def test_a_gift_of_anothers_points_is_owed_to_who_delivers(coalition: Coalition) -> None:
    made = await give(coalition, 200, **OTHER)
    assert (made.issuer, made.face_fen, made.match_fen) == ("M02", 2_000, 2_000)
    done, undone = told("done", "M02", made), told("reversed", "M02", made)
    assert await kept(coalition, made) == [*OWED, GOODS, done]
    await take_back(coalition, made)
    assert await kept(coalition, made) == [*OWED, *UNDONE, GOODS, BACK, done, undone]
    async with coalition.database.reading() as tx:
        used = await settlement.used_fen(tx, agreement_id="agr_M02_M16", month="2026-11")
    assert used == 0


async def test_what_a_month_matches_is_there_again_after_a_gift_is_taken_back(
    coalition: Coalition,
) -> None:
    first = await give(coalition)
    await take_back(coalition, first)
    again = await give(coalition)
    assert again.match_fen == 1_000


@pytest.mark.parametrize(
    ("asked", "refusal", "field"),
    [
        ({"points": 99}, InvalidInput, "points"),
        ({"points": 0}, InvalidAmount, "points"),
        ({"beneficiary": "M05"}, NotFound, None),
        ({"beneficiary": "M99"}, NotFound, None),
        ({"programme_id": "P-99"}, NotFound, None),
    ],
)
async def test_what_cannot_be_given_is_named(
    coalition: Coalition, asked: dict[str, Any], refusal: type[Exception], field: str | None
) -> None:
    with pytest.raises(refusal) as refused:
        await give(coalition, **asked)
    if field:
        assert refused.value.field == (field,)
    assert await coalition.wallet("mbr_demo_20", "P-HM") == (3_000, 0)


async def test_the_least_gift_is_a_hundred_points(coalition: Coalition) -> None:
    assert (await give(coalition, 100)).points == 100


async def test_a_key_gives_once(coalition: Coalition) -> None:
    made = await give(coalition, key="same")
    asked = OWN | {"beneficiary": "M16", "key": "same", "now": LATER, "points_given": 1_000}
    async with coalition.database.transaction() as tx:
        assert await donations.donate(tx, **asked) == (made, True)


async def test_a_gift_is_taken_back_by_its_giver_within_a_day(coalition: Coalition) -> None:
    made = await give(coalition)
    with pytest.raises(NotFound) as stranger:
        await take_back(coalition, made, member_id="mbr_demo_01")
    assert stranger.value.context == {"id": made.id}
    with pytest.raises(DonationReversalClosed) as closed:
        await take_back(coalition, made, now=LATER)
    assert closed.value.context["until"] == "2026-11-21T01:00:00+00:00"
    back, _ = await take_back(coalition, made, now=LATER - timedelta(seconds=1))
    assert back.state == "REVERSED"
    async with coalition.database.reading() as tx:
        with pytest.raises(NotFound) as unknown:
            await donations.donation(tx, "don_99")
    assert unknown.value.context == {"id": "don_99"}
