"""Windows close while fifty writers post: no posting fails, and nothing falls between two windows.

Source: contracts §6.2, §10.4.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from datetime import timedelta

from gateway.db import Database
from gateway.settlement import service as settlement
from gateway.settlement.invariants import check
from gateway.settlement.model import Fault
from tests.load.report import percentiles
from tests.support import day

AT = day.CUT - timedelta(days=2)
PAIRS = (("M04", "M05"), ("M05", "M04"), ("M06", "M04"), ("M04", "M06"))


@dataclass
class Found:
    """What closing under load came to."""

    postings: int = 0
    windows: list[str] = field(default_factory=list)
    close_seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    outside: int = 0  # Obligations cleared and in no window at the end.
    spread: int = 0  # Windows that got something.
    sum_of_windows_fen: int = 0
    sum_of_postings_fen: int = 0
    broken: list[str] = field(default_factory=list)

    def figures(self) -> dict[str, object]:
        times = percentiles(self.close_seconds)
        return {
            "postings": self.postings,
            "postings that failed": len(self.failed),
            "windows closed": len(self.windows),
            "windows that got something": self.spread,
            **{f"a close, {name} in ms": value for name, value in times.items()},
            "cleared and in no window": self.outside,
            "bad": self.bad(),
        }

    def bad(self) -> list[str]:
        found = [*self.failed, *self.broken]
        found += [f"{self.outside} in no window"] if self.outside else []
        if self.sum_of_windows_fen != self.sum_of_postings_fen:
            found.append(f"{self.sum_of_windows_fen} in windows, {self.sum_of_postings_fen} posted")
        return found


def redemption(number: int) -> dict[str, object]:
    issuer, redeemer = PAIRS[number % len(PAIRS)]
    leg = {"issuer": issuer, "face_fen": 1 + number % 9, "own": False}
    leg["agreement"] = f"agr_{issuer}_{redeemer}"
    return {"id": f"red_{number}", "redeemer": redeemer, "offer": "XH-01", "legs": [leg]}


async def post(database: Database, number: int) -> None:
    """One redemption: hold, commit, clear; every fifth is reversed instead."""
    name = f"red_{number}"
    async with database.transaction() as tx:
        await day.hold(tx, redemption(number), AT)
    async with database.transaction() as tx:
        await day.commit(tx, name, AT)
    async with database.transaction() as tx:
        if number % 5:
            await settlement.clear(tx, cause_id=name, at=AT)
        else:
            lines = await settlement.reverse(
                tx, epoch=1, fault=Fault.REDEEMER, cause_id=name, at=AT
            )
            await day.post(tx, name, day.Kind.REVERSE, lines, AT)


async def run(
    database: Database, *, writers: int = 50, seconds: float = 60.0, every: float = 0.2
) -> Found:
    """Post with so many writers and close a window so often, for so long; then check."""
    async with database.transaction() as tx:
        await day.seed(tx)
    found = Found()
    numbers = itertools.count()
    until = time.monotonic() + seconds
    over = asyncio.Event()

    async def write() -> None:
        while True:  # Each posts something, however slow the machine.
            number = next(numbers)
            try:
                await post(database, number)
            except Exception as error:
                found.failed.append(f"red_{number}: {error!r}"[:300])
                return
            found.postings += 1
            if time.monotonic() >= until:
                return

    async def close() -> None:
        while not over.is_set():
            began = time.monotonic()
            async with database.transaction() as tx:
                found.windows.append((await settlement.close_window(tx, now=AT)).id)
            found.close_seconds.append(time.monotonic() - began)
            await asyncio.sleep(every)

    closing = asyncio.create_task(close())
    try:
        await asyncio.gather(*(write() for _ in range(writers)))
    finally:
        over.set()
        await closing
    await _check(database, found)
    return found


async def _check(database: Database, found: Found) -> None:
    async with database.transaction() as tx:
        found.windows.append((await settlement.close_window(tx, now=AT)).id)
        for window in found.windows:
            await settlement.net_window(tx, window_id=window, now=AT)
        rows = await settlement.obligations(tx)
        windows = {window.id: window for window in await settlement.windows(tx)}
        found.broken = [f"{one.id} {one.detail}" for one in await check(tx) if not one.ok]
    found.outside = sum(row.window_id is None for row in rows)
    found.spread = len({row.window_id for row in rows})
    found.sum_of_postings_fen = sum(row.amount_fen for row in rows)
    found.sum_of_windows_fen = sum(windows[name].sum_fen or 0 for name in found.windows)
