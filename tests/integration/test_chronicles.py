"""Ways a redemption can go, each compared line by line with everything that is kept of it.

The texts are `chronicles/*.txt`: what the partner was asked, the row, the outbox, facts, findings,
voucher, review, jobs, events, journals, obligations. With WRITE_CHRONICLES=1 they are written
again; whoever does that reads what has changed.
"""

import os
from pathlib import Path

import pytest

from gateway.catalog import quotes
from gateway.ports import PriceChanged, Reservation, SoldOut
from gateway.redemption import compensation
from tests.integration.conftest import MORNING, Coalition
from tests.integration.ways import MEMBER, TICKET, Ways
from tests.support.chronicle import Asked, Chronicle, plain
from tests.support.statements import Statements

TEXTS = Path(__file__).parent / "chronicles"


HELPERS = {
    "script", "tell", "cancel", "refused", "spend", "conflicting", "left_held", "released",
}  # fmt: skip
MERCHANTS = {
    "used_for_less": "M07",
    "a_ride_cancelled_by_the_partner": "M07",
    "bought_with_own_points": "M02",
    "own_points_cancelled_by_the_partner": "M02",
}
NAMES = [name for name in vars(Ways) if not name.startswith("_") and name not in HELPERS]


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_kept_is_what_happened(
    coalition: Coalition, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merchant = MERCHANTS.get(name, "M05")
    asked = Asked(coalition.partners[merchant], coalition.database)
    statements = Statements(monkeypatch)
    redemption = await getattr(Ways(coalition), name)()
    assert statements.unlocked("redemptions") == []
    assert coalition.redemptions.saga.under_way == set()
    async with coalition.database.reading() as tx:
        kept = await Chronicle(MORNING).kept(tx, redemption)
    lines = [plain(line, redemption) for line in asked.lines]
    text = "\n".join([*lines, "", *kept, ""])
    path = TEXTS / f"{name}.txt"
    if os.environ.get("WRITE_CHRONICLES"):
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")


def test_every_text_belongs_to_a_way() -> None:
    assert {path.stem for path in TEXTS.iterdir()} == set(NAMES)


async def test_a_price_that_rises_before_the_hold_is_quoted_again(coalition: Coalition) -> None:
    """Nothing is held, the member is shown the new quote and accepts it or not."""
    partner = coalition.partners["M05"]
    quote = await coalition.quote(*TICKET)

    async def dearer(*_: object, **__: object) -> Reservation:
        partner.prices["XH-01"] = 4_700
        raise PriceChanged(new_list_fen=4_700)

    partner.hold = dearer
    hold = {"member_id": MEMBER, "quote_id": quote.id}
    with pytest.raises(PriceChanged) as change:
        await coalition.redemptions.hold(**hold, key="h")
    said = change.value.context
    assert (said["old_points"], said["new_points"]) == (4_500, 4_700)
    async with coalition.database.reading() as tx:
        again = await quotes.quote(tx, said["new_quote"])
    assert (again.list_fen, again.member_id) == (4_700, MEMBER)
    assert await coalition.wallet(MEMBER, "P-LL") == (20_000, 0)
    partner.script["quote"] = ["reject"]
    with pytest.raises(PriceChanged) as sold_out:
        await coalition.redemptions.hold(member_id=MEMBER, quote_id=again.id, key="i")
    said = {
        name: sold_out.value.context[name] for name in ("old_points", "new_points", "new_quote")
    }
    assert said == {"old_points": 4_700, "new_points": None, "new_quote": None}
    assert sold_out.value.context["new_list_fen"] == 4_700


async def test_a_hold_that_is_refused_says_why(coalition: Coalition) -> None:
    coalition.partners["M05"].script["hold"] = ["reject"]
    with pytest.raises(SoldOut):
        await coalition.held(*TICKET)
    assert await coalition.wallet(MEMBER, "P-LL") == (20_000, 0)


async def test_a_compensation_waits_for_its_slice_and_is_issued(
    coalition: Coalition, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_: object) -> int:
        return 0

    done = await coalition.redeemed(*TICKET)
    with monkeypatch.context() as patched:
        patched.setattr(compensation.compliance, "budget_left", nothing)
        await Ways(coalition).tell(done, "cancelled", 2)
    assert await coalition.wallet(MEMBER, "P-LL") == (20_000, 0)
    async with coalition.database.reading() as tx:
        kept = await Chronicle(MORNING).kept(tx, done)
    assert "job compensate compensate:red:1 None leg=1 redemption=red" in kept
    await coalition.jobs()
    assert await coalition.wallet(MEMBER, "P-LL") == (20_450, 0)
