"""What commands say of a database that is not there, not reached, or somebody else's."""

import asyncio
import importlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import typer

T = TypeVar("T")
_CHECK_FAILED, _USAGE, _REMOTE_FAILED = 1, 2, 3


def run(work: Callable[[], Coroutine[Any, Any, T]], *, url: str | None = None) -> T:
    """The result of a task on a database; one line and an exit code if there is no way to it.

    Args:
        url: Of the database that must be there already.
    """
    failed = importlib.import_module("sqlalchemy.exc").SQLAlchemyError
    try:
        return start(lambda: _checked(work, url))
    except failed as error:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[-1:]
        told = said[0] if said else type(error).__name__
        text = f"数据库无法使用：{told} · the database cannot be used: {told}"
        raise _ended(text, _REMOTE_FAILED) from error


def start(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a task that may find the database absent, not its own, or somebody else's."""
    occupancy = importlib.import_module("gateway.operations.occupancy")
    starting = importlib.import_module("gateway.operations.starting")
    try:
        return asyncio.run(work())
    except occupancy.Absent as error:
        raise _ended(str(error), _USAGE) from error
    except (occupancy.Occupied, starting.CannotStart, starting.WrongVault) as error:
        raise _ended(str(error), _CHECK_FAILED) from error


async def _checked(work: Callable[[], Coroutine[Any, Any, T]], url: str | None) -> T:
    if url is not None:
        await importlib.import_module("gateway.operations.occupancy").present(url)
    return await work()


def _ended(text: str, code: int) -> typer.Exit:
    typer.echo(text, err=True)
    return typer.Exit(code)
