"""Every invariant of contracts §9 that SQL can see, from all rooms, in one list."""

import importlib
import inspect
import pkgutil
from collections.abc import Awaitable, Callable
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

import gateway
from gateway.db import Clock
from gateway.ledger.model import Result

Check = Callable[[AsyncConnection, datetime], Awaitable[list[Result]]]
"""Asked in a transaction, for an instant of business time."""


def rooms(*, standing: bool = False) -> dict[str, Check]:
    """The checks of each room that has some, in the order of their names.

    Args:
        standing: Only those that are cheap enough for every hour of production (contracts §10).
    """
    found: dict[str, Check] = {}
    for room in pkgutil.iter_modules(gateway.__path__):
        if not room.ispkg or room.name in ("migrations", "demo"):
            continue
        package = importlib.import_module(f"gateway.{room.name}")
        if any(module.name == "invariants" for module in pkgutil.iter_modules(package.__path__)):
            checks = importlib.import_module(f"gateway.{room.name}.invariants")
            name = "standing" if standing else "check"
            if hasattr(checks, name):
                found[room.name] = _at(getattr(checks, name))
    return found


def _at(asked: Callable[..., Awaitable[list[Result]]]) -> Check:
    """With the instant for the checks that ask for one."""
    timed = "now" in inspect.signature(asked).parameters
    return lambda tx, now: asked(tx, now=now) if timed else asked(tx)


async def check(tx: AsyncConnection, *, now: datetime | None = None) -> list[Result]:
    """Run every room's checks, in one reading transaction.

    Args:
        now: Business time; None: as the database has it.

    Returns:
        One result per invariant, by its id (B1, K1, L1, R1, W1 …).
    """
    at = now or await business_now(tx)
    results = [result for check_room in rooms().values() for result in await check_room(tx, at)]
    return sorted(results, key=lambda result: (result.id[0], int(result.id[1:] or 0)))


async def business_now(tx: AsyncConnection) -> datetime:
    """Business time, by the offset in the database."""
    clock = Clock()
    await clock.refresh(tx)
    return clock.now()
