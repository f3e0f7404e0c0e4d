"""Every invariant of contracts §9 that SQL can see, from all rooms, in one list."""

import importlib
import pkgutil
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

import gateway
from gateway.ledger.model import Result

Check = Callable[[AsyncConnection], Awaitable[list[Result]]]


def rooms() -> dict[str, Check]:
    """The checks of each room that has some, in the order of their names."""
    found: dict[str, Check] = {}
    for room in pkgutil.iter_modules(gateway.__path__):
        if not room.ispkg or room.name in ("migrations", "demo"):
            continue
        package = importlib.import_module(f"gateway.{room.name}")
        if any(module.name == "invariants" for module in pkgutil.iter_modules(package.__path__)):
            checks = importlib.import_module(f"gateway.{room.name}.invariants")
            found[room.name] = checks.check
    return found


async def check(tx: AsyncConnection) -> list[Result]:
    """Run every room's checks, in one reading transaction.

    Returns:
        One result per invariant, by its id (B1, K1, L1, R1, W1 …).
    """
    results = [result for check_room in rooms().values() for result in await check_room(tx)]
    return sorted(results, key=lambda result: (result.id[0], int(result.id[1:] or 0)))
