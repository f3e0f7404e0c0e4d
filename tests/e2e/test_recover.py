"""A backup ten minutes old is restored: every redemption lost since is found and ended.

Gateway, worker and simulators are processes of their own; the purchases go over HTTP. Between the
backup and the disaster ten minutes pass by the business clock, some are confirmed, released,
cancelled and served, a hold runs out, and new ones are made, which the restored database has never
heard of. One is served while nobody listens: its webhook comes when all is over.
"""

from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.db import Clock
from gateway.operations import backup as backups
from gateway.operations.recovery import Report, recover
from gateway.reconciliation import service as reconciliation
from gateway.runtime import Runtime
from gateway.values import business_day
from tests.support import box as boxes
from tests.support.box import Box
from tests.support.postgres import Postgres
from tests.support.story import Buy, Story

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

LL = {"programme": "P-LL"}
POPCORN = Buy("M05", "XH-03", "mbr_demo_02", (LL,))
TEA = Buy(
    "M06", "CW-01", "mbr_demo_15", ({"programme": "P-LL", "points": 600}, {"programme": "P-CW"})
)
BREAKFAST = Buy("M03", "YQ-04", "mbr_demo_10", ({"programme": "P-YQ"},))
COUPON = Buy("M07", "KX-01", "mbr_demo_07", (LL,))
AGE = timedelta(minutes=10)
KINDS = [pytest.param("sqlite", marks=pytest.mark.campaign), "postgresql"]


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=KINDS)
async def box(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Box]:
    """One sandbox on each kind of database."""
    home, url = tmp_path_factory.mktemp("sandbox"), ""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.create("recover")
    async with boxes.running(home, database_url=url) as made:
        await made.start_gateway()
        yield made


async def bought(box: Box, buy: Buy, upto: str) -> Story:
    """A purchase that has gone as far as `held`, `committed` or `cancelled`."""
    story = Story(box, buy)
    if upto == "held":
        mutation, asked = await story.prepared("confirm")
        return story
    mutation, asked = await story.prepared("cancel" if upto == "cancelled" else "confirm")
    await story.ask(mutation, **asked)
    await story.reaches("CANCELLED" if upto == "cancelled" else "COMMITTED")
    return story


async def go_on(box: Box, stories: dict[str, Story]) -> None:
    """What happens to the old purchases after the backup."""
    for name, mutation in (("confirmed", "confirm"), ("released", "release")):
        await stories[name].ask(f"{mutation}Redemption", redemption=stories[name].id)
    await stories["confirmed"].reaches("COMMITTED")
    await stories["released"].reaches("RELEASED")
    app = box.member(stories["cancelled"].buy.member)
    ids = {"redemption": stories["cancelled"].id}
    offered = (await app.did("requestCancellation", "cancelQuote { id }", **ids))["cancelQuote"]
    await stories["cancelled"].ask("cancelRedemption", **ids, cancelQuote=offered["id"])
    await stories["cancelled"].reaches("CANCELLED")
    await box.control.cancel("M03", stories["withdrawn"].id, now=await box.now())
    await stories["withdrawn"].reaches("CANCELLED")
    await box.control.fulfil("M07", stories["served"].id, now=await box.now())
    await stories["served"].reaches("FULFILLED")


async def made_old(box: Box) -> dict[str, Story]:
    """Purchases that the backup knows."""
    return {
        "confirmed": await bought(box, POPCORN, "held"),
        "released": await bought(box, TEA, "held"),
        "alive": await bought(box, POPCORN, "held"),
        "cancelled": await bought(box, POPCORN, "committed"),
        "withdrawn": await bought(box, BREAKFAST, "committed"),
        "served": await bought(box, COUPON, "committed"),
        "untouched": await bought(box, TEA, "committed"),
        "late": await bought(box, COUPON, "committed"),
    }


async def made_new(box: Box) -> dict[str, Story]:
    """Purchases that only the partners will know."""
    made = {
        "new committed": await bought(box, POPCORN, "committed"),
        "new held": await bought(box, TEA, "held"),
        "new cancelled": await bought(box, POPCORN, "cancelled"),
        "new served": await bought(box, COUPON, "committed"),
    }
    await box.control.fulfil("M07", made["new served"].id, now=await box.now())
    await made["new served"].reaches("FULFILLED")
    return made


def outcomes(report: Report, stories: dict[str, Story]) -> dict[str, tuple[bool, str]]:
    """By name: whether it was known, and how it ended."""
    names = {story.id: name for name, story in stories.items()}
    return {
        names[row.redemption_id]: (row.known, row.state)
        for row in report.rows
        if row.redemption_id in names
    }


async def partner_says(box: Box, story: Story) -> tuple[list[str], list[str]]:
    """States of a purchase's bookings and holds at the partner."""
    theirs = await box.control.state(story.buy.merchant)
    bookings = [one["state"] for one in theirs["bookings"] if one["gateway_ref"] == story.id]
    holds = [one["state"] for one in theirs["holds"] if one["op_key"].startswith(f"{story.id}:")]
    return bookings, holds


async def points_of(box: Box, buy: Buy) -> tuple[int, int]:
    """Available and held points of a buyer, in the programme it pays with."""
    text = "{ me { wallets { programme { id } available held } } }"
    rows = (await box.member(buy.member).query(text))["me"]["wallets"]
    (row,) = [row for row in rows if row["programme"]["id"] == buy.legs[0]["programme"]]
    return row["available"], row["held"]


async def lose_everything_since(box: Box, copy: Path) -> None:
    """The disaster: gateway and worker are gone, and the database is the old copy."""
    box.kill("gateway")
    box.kill("worker")
    now = await box.now()
    await box.database.close()
    assert (await backups.restore(box.settings.url, copy, force=True)).broken == ()
    assert now - await box.now() > AGE - timedelta(minutes=1), "its clock is as old as the copy"
    async with box.database.transaction() as tx:
        await Clock().set(tx, now)  # The world's does not go back.


async def test_every_redemption_lost_since_the_backup_is_found_and_ended(
    box: Box, tmp_path_factory: pytest.TempPathFactory
) -> None:
    copy = tmp_path_factory.mktemp("backup") / "old.backup"
    before = await points_of(box, POPCORN)
    lapsed = await bought(box, POPCORN, "held")
    await box.jump(AGE)
    stories = {"lapsed": lapsed} | await made_old(box)
    await backups.backup(box.settings.url, copy)
    await go_on(box, stories)
    await box.jump(AGE)
    await lapsed.reaches("RELEASED")
    new = await made_new(box)
    await lose_everything_since(box, copy)
    heard = await box.heard(stories["late"].id)
    await box.control.fulfil("M07", stories["late"].id, now=await box.now())

    report = await recover(box.settings)
    assert (report.unreached, report.waiting, report.reviews) == ({}, 0, 1)
    assert outcomes(report, stories | new) == {
        **dict.fromkeys(stories, (True, "ENDED")),
        **dict.fromkeys(("new committed", "new held", "new cancelled"), (False, "ENDED")),
        "new served": (False, "REVIEW"),
    }
    again = await recover(box.settings)
    assert outcomes(again, stories | new) == outcomes(report, stories | new)
    assert (again.unreached, again.waiting, again.reviews) == ({}, 0, 1)
    assert await box.broken_invariants() == []

    await box.start_gateway()
    box.start_worker()
    for name, state in (
        ("confirmed", "COMMITTED"),
        ("cancelled", "CANCELLED"),
        ("served", "FULFILLED"),
        ("untouched", "COMMITTED"),
        ("released", "RELEASED"),
        ("lapsed", "RELEASED"),
        ("late", "FULFILLED"),
    ):
        await stories[name].reaches(state)
        await stories[name].agreed(state)
    await box.until(
        lambda: box.heard(stories["late"].id),
        lambda told: len(told) == len(heard) + 1,
        "the late webhook",
    )
    await stories["late"].agreed("FULFILLED")
    assert (await stories["alive"].seen())["state"] == "HELD"
    assert (await stories["withdrawn"].seen())["state"] == "CANCELLED"
    assert await partner_says(box, new["new committed"]) == (["CANCELLED"], ["CONFIRMED"])
    assert await partner_says(box, new["new held"]) == ([], ["FENCED"])
    assert await partner_says(box, new["new cancelled"]) == (["CANCELLED"], ["CONFIRMED"])
    assert await partner_says(box, new["new served"]) == (["FULFILLED"], ["CONFIRMED"])
    price = (await stories["confirmed"].seen())["legs"][0]["points"]
    available, held = await points_of(box, POPCORN)
    assert (available, held) == (before[0] - 2 * price, price), "confirmed is burned, alive is held"
    assert await box.broken_invariants() == []
    await statements_agree(box, stories, new)


async def statements_agree(box: Box, stories: dict[str, Story], new: dict[str, Story]) -> None:
    """Of the day, each difference between the partners' statements and ours is one break."""
    day = business_day(await box.now())
    await box.jump(timedelta(days=1, hours=12))
    runtime = await Runtime.open(box.settings)
    try:
        async with runtime.database.transaction() as tx:
            run = await reconciliation.start_run(
                tx, day=day, actor="usr_fin_maker", now=runtime.clock.now()
            )
        await reconciliation.pull(runtime.database, runtime.partners, runtime.clock, run.id)
        async with runtime.database.transaction() as tx:
            await reconciliation.match_run(tx, run_id=run.id, now=runtime.clock.now())
        async with runtime.database.reading() as tx:
            breaks = await reconciliation.breaks(tx, run_id=run.id)
    finally:
        await runtime.close()
    ours = {story.id for story in stories.values()}
    assert [each for each in breaks if each.ref in ours] == []
    rows = Counter(row for each in breaks for row in each.theirs_ids)
    assert set(rows.values()) <= {1}
    named = Counter((each.ref, str(each.code)) for each in breaks)
    assert named == {
        (new["new committed"].id, "MISSING_US"): 2,  # The redemption and its reversal.
        (new["new cancelled"].id, "MISSING_US"): 2,
        (new["new served"].id, "MISSING_US"): 1,
    }
