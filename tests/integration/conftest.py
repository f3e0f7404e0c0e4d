"""A small coalition on a real database, with scripted partners and a clock that stands still."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import db, invariants, jobs
from gateway.catalog.pricing import LegInput
from gateway.db import Clock, Database
from gateway.demo import seed
from gateway.demo.data import catalog
from gateway.ledger.model import Result
from gateway.points import service as points
from gateway.redemption import reviews
from gateway.redemption import service as redemption_service
from gateway.redemption.hosted import Partners
from gateway.redemption.model import Redemption, Step
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from gateway.values import SHANGHAI
from gateway.worker import Worker
from tests.support import postgres as pg
from tests.support.postgres import Postgres
from tests.support.scripted import ScriptedPartner

MORNING = datetime(2026, 11, 20, 9, tzinfo=SHANGHAI)


class StillClock(Clock):
    """A business clock that moves when told to."""

    def __init__(self, instant: datetime) -> None:
        super().__init__()
        self.instant = instant

    def now(self) -> datetime:
        return self.instant

    def forward(self, **by: float) -> None:
        self.instant += timedelta(**by)


class Coalition:
    """The seeded coalition; every merchant's system is a scripted partner."""

    def __init__(self, database: Database, clock: StillClock, settings: Settings) -> None:
        self.database = database
        self.clock = clock
        prices: dict[str, dict[str, int]] = {}
        for row in catalog()["offers"]:
            prices.setdefault(row["merchant"], {})[row["id"]] = row["cash_fen"]
        self.partners = {
            merchant: ScriptedPartner(merchant, offers, clock.now)
            for merchant, offers in prices.items()
        }
        self.redemptions = Redemptions(
            database, Partners(self.partners, database, clock), clock, settings, b"secret"
        )
        self._keys = 0

    def key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"

    async def given(
        self, member: str, amount: int, *, lots: int = 1, earned_on: date | None = None
    ) -> None:
        """So many lots of P-LL, of so many points each, that are theirs for ever."""
        now = self.clock.now()
        async with self.database.transaction() as tx:
            for number in range(lots):
                await points.open_lot(
                    tx,
                    member_id=member,
                    programme_id="P-LL",
                    points=amount,
                    earned_on=earned_on or now.date(),
                    basis="PURCHASE",
                    ref=f"given-{number}",
                    expires_at=None,
                    now=now,
                )

    async def quote(self, member: str, offer: str, *legs: tuple[str, int | None], **more):
        """A quote; legs are (programme, points or None)."""
        asked = {"slot": None, "quantity": 1, "bill_fen": None, "cash_fen": None} | more
        return await self.redemptions.request_quote(
            member_id=member, offer_id=offer, legs=[LegInput(*leg) for leg in legs], **asked
        )

    async def held(self, member: str, offer: str, *legs: tuple[str, int | None]) -> Redemption:
        """A redemption after `holdRedemption`."""
        quote = await self.quote(member, offer, *legs)
        made, _ = await self.redemptions.hold(member_id=member, quote_id=quote.id, key=self.key())
        return made

    async def confirm(self, redemption: Redemption) -> Redemption:
        made, _ = await self.redemptions.confirm(
            member_id=redemption.member_id, redemption_id=redemption.id, key=self.key()
        )
        return made

    async def redeemed(self, member: str, offer: str, *legs: tuple[str, int | None]) -> Redemption:
        """A redemption after hold and confirm."""
        return await self.confirm(await self.held(member, offer, *legs))

    async def get(self, redemption: Redemption) -> Redemption:
        async with self.database.reading() as tx:
            return await redemption_service.redemption(tx, redemption.id)

    async def wallet(self, member: str, programme: str) -> tuple[int, int]:
        """Available and held points."""
        async with self.database.reading() as tx:
            found = await points.wallets(tx, member, now=self.clock.now())
        (wallet,) = [wallet for wallet in found if wallet.programme_id == programme]
        return wallet.available, wallet.held

    async def work(self, **by: float) -> None:
        """Let time pass and the worker run until nothing is due."""
        self.clock.forward(**by)
        for _ in range(20):
            if not await self.redemptions.work():
                return

    def worker(self) -> Worker:
        settings = self.redemptions.settings
        return Worker(self.database, {}, self.clock, settings, self.redemptions)

    async def jobs(self, *, later: bool = False) -> None:
        """Run the jobs that are due; `later`, those too that wait to be tried again."""
        if later:
            async with self.database.transaction() as tx:
                await tx.execute(jobs.jobs.update().values(due_at=db.system_now()))
        worker = self.worker()
        await worker._begin_jobs()
        await worker._working.wait(every=True)

    async def chores(self) -> None:
        """What time itself makes due."""
        await self.worker()._chores()

    async def decided(self, redemption: Redemption, outcome: str, **more: Any) -> None:
        """Have two people decide about a redemption that needs a person."""
        given = {"evidence": None, "fault": None, "note": "seen"} | more
        now = self.clock.now()
        async with self.database.transaction() as tx:
            made = await reviews.propose(
                tx, redemption_id=redemption.id, outcome=outcome, actor="one", now=now, **given
            )
            await reviews.approve(
                tx,
                resolution_id=made.id,
                actor="two",
                limit_fen=10**9,
                settings=self.redemptions.settings,
                now=now,
            )

    async def told(self, redemption: Redemption, kind: str, version: int, **more: Any) -> None:
        """A webhook of the partner about the booking."""
        event_id = f"{kind}-{version}-{self.key()}"
        body = {"id": event_id, "kind": f"booking.{kind}", "version": version} | more
        body |= {"op_key": redemption.op_key(Step.CONFIRM)}
        await self.redemptions.inbox.receive(redemption.merchant_id, event_id, body)

    async def broken(self) -> list[Result]:
        """The invariants that do not hold."""
        async with self.database.reading() as tx:
            results = await invariants.check(tx, now=self.clock.now())
        return [result for result in results if not result.ok]


async def _seed(url: str) -> None:
    database = Database(url)
    async with database.transaction() as tx:
        await seed.seed_reference(tx, now=MORNING)
        await seed.seed_members(tx, now=MORNING)
        await seed.seed_offers(tx, now=MORNING)
    await database.close()


@pytest.fixture(scope="session")
def sqlite_seeded(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the demo coalition, to be copied."""
    path = tmp_path_factory.mktemp("seeded") / "gateway.db"
    shutil.copyfile(sqlite_template, path)
    asyncio.run(_seed(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture(scope="session")
def postgres_seeded(postgres: Postgres, postgres_template: str) -> str:
    """Name of a PostgreSQL database with the demo coalition, to be copied."""
    asyncio.run(_seed(postgres.create("seeded", template=postgres_template)))
    return "seeded"


@pytest.fixture(params=["sqlite", "postgresql"])
def seeded_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a new database of each kind with the demo coalition."""
    if request.param == "sqlite":
        path = tmp_path / "gateway.db"
        shutil.copyfile(request.getfixturevalue("sqlite_seeded"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    template = request.getfixturevalue("postgres_seeded")
    with pg.database(request.getfixturevalue("postgres"), template=template) as url:
        yield url


@pytest.fixture
def seeded_sqlite_url(sqlite_seeded: Path, tmp_path: Path) -> str:
    """URL of a new SQLite file with the demo coalition."""
    path = tmp_path / "gateway.db"
    shutil.copyfile(sqlite_seeded, path)
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture
async def seeded(seeded_url: str) -> AsyncIterator[Database]:
    """The demo coalition on a new database of each kind."""
    database = Database(seeded_url)
    yield database
    await database.close()


@pytest.fixture
async def coalition(seeded: Database) -> AsyncIterator[Coalition]:
    """The demo coalition on 2026-11-20, 09:00, with its offers; its invariants hold at the end."""
    settings = replace(Settings(), lease_seconds=0)
    made = Coalition(seeded, StillClock(MORNING), settings)
    yield made
    assert await made.broken() == []
