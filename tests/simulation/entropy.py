"""Clocks, ids and secrets of the product, taken from the virtual loop and the seed.

Nothing in the product knows of this: the names of its modules are replaced for the time of a run.
Each process reads its own system clock, which may be wrong.
"""

import contextlib
import datetime as real
import random
import secrets
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

START = real.datetime(2026, 11, 20, 1, tzinfo=real.UTC)
skew_us: ContextVar[Callable[[], int]] = ContextVar("skew_us", default=lambda: 0)


class _Source:
    """What the replaced modules ask; set anew for each run."""

    now_us: Callable[[], int] = staticmethod(lambda: 0)
    rng = random.Random(0)


class VirtualDatetime(real.datetime):
    """`datetime` as the product's modules know it during a run: only `now` is another."""

    @classmethod
    def now(cls, tz: Any = None) -> real.datetime:
        at = START + real.timedelta(microseconds=_Source.now_us() + skew_us.get()())
        return at.astimezone(tz)


def _monotonic() -> float:
    return _Source.now_us() / 1e6


def _hex(nbytes: int = 32) -> str:
    return _Source.rng.randbytes(nbytes).hex()


def _drawn(name: str) -> Callable[..., Any]:
    """A function that draws from the seed of the run."""

    def draw(*given: Any) -> Any:
        return getattr(_Source.rng, name)(*given)

    return draw


_SECRETS = SimpleNamespace(
    randbits=_drawn("getrandbits"),
    randbelow=_drawn("randrange"),
    choice=_drawn("choice"),
    token_hex=_hex,
    token_urlsafe=_hex,
    token_bytes=_drawn("randbytes"),
    compare_digest=secrets.compare_digest,
    SystemRandom=lambda: _Source.rng,
)
_TIME = SimpleNamespace(
    monotonic=_monotonic,
    perf_counter=_monotonic,
    time=lambda: START.timestamp() + _monotonic(),
    time_ns=lambda: int(START.timestamp() * 1e9) + _Source.now_us() * 1000,
    monotonic_ns=lambda: _Source.now_us() * 1000,
)
_UUID = SimpleNamespace(
    UUID=uuid.UUID, uuid4=lambda: uuid.UUID(int=_Source.rng.getrandbits(128), version=4)
)


class _Random(SimpleNamespace):
    """`random`, drawing from the seed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(_Source.rng, name)


_REPLACED: dict[int, Any] = {
    id(real.datetime): VirtualDatetime,
    id(secrets): _SECRETS,
    id(random): _Random(),
    id(time): _TIME,
    id(uuid): _UUID,
    id(time.monotonic): _TIME.monotonic,
    id(time.time): _TIME.time,
    id(random.random): _drawn("random"),
    id(random.uniform): _drawn("uniform"),
}


@contextlib.contextmanager
def replaced() -> Iterator[None]:
    """Replace clocks and entropy in every module of the product that is loaded."""
    before: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] not in ("gateway", "partners") or module is None:
            continue
        for attribute, value in list(vars(module).items()):
            if attribute != "__builtins__" and id(value) in _REPLACED:
                before.append((module, attribute, value))
                setattr(module, attribute, _REPLACED[id(value)])
    try:
        yield
    finally:
        for module, attribute, value in before:
            setattr(module, attribute, value)


def use(now_us: Callable[[], int], rng: random.Random) -> None:
    """Take time and entropy from here from now on."""
    _Source.now_us = staticmethod(now_us)
    _Source.rng = rng
