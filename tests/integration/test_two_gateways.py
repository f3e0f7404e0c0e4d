"""Two gateways over one database: one sweeps what the other is still doing. One effect."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gateway.db import Clock, IdempotencyConflict
from gateway.points.service import HoldAlreadyResolved
from gateway.redemption.hosted import Partners
from gateway.redemption.model import State
from gateway.redemption.service import Redemptions
from gateway.settings import Settings
from tests.integration.conftest import Coalition
from tests.support.scripted import ScriptedPartner

TICKET = ("mbr_demo_01", "XH-01", ("P-LL", None))


class SlowPartner:
    """A scripted partner whose first call of one verb comes back when it is let go.

    Args:
        effect: Whether it has acted before it waits.
    """

    def __init__(self, inner: ScriptedPartner, verb: str, *, effect: bool) -> None:
        self._inner, self._verb, self._effect = inner, verb, effect
        self.waiting, self.go = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name != self._verb or self.waiting.is_set():
            return found

        async def slow(*given: Any, **named: Any) -> Any:
            answer = await found(*given, **named) if self._effect else None
            self.waiting.set()
            await self.go.wait()
            return answer if self._effect else await found(*given, **named)

        return slow


def other_gateway(coalition: Coalition, clock: Clock | None = None) -> Redemptions:
    """Another process's worker, as far as leases are concerned: they are over for it at once."""
    at = clock or coalition.clock
    partners = Partners(coalition.partners, coalition.database, at)
    settings = replace(Settings(), lease_seconds=0)
    return Redemptions(coalition.database, partners, at, settings, b"secret")


@pytest.mark.parametrize("effect", [True, False], ids=["acted", "not yet"])
@pytest.mark.parametrize("verb", ["hold", "confirm"])
async def test_one_sweeps_the_live_call_of_the_other(
    coalition: Coalition, verb: str, effect: bool
) -> None:
    """The sweep asks and sends again under the same op key; who comes second changes nothing."""
    slow = SlowPartner(coalition.partners["M05"], verb, effect=effect)
    other = other_gateway(coalition)
    partners = {**coalition.partners, "M05": slow}
    one = Redemptions(
        coalition.database,
        Partners(partners, coalition.database, coalition.clock),
        coalition.clock,
        replace(Settings(), lease_seconds=0),
        b"secret",
    )
    quote = await coalition.quote(*TICKET)
    ask = {"member_id": "mbr_demo_01", "key": "one"}
    if verb == "confirm":
        held, _ = await other.hold(quote_id=quote.id, **ask)
        live = asyncio.create_task(one.confirm(redemption_id=held.id, **ask))
    else:
        live = asyncio.create_task(one.hold(quote_id=quote.id, **ask))
    await slow.waiting.wait()
    for _ in range(6):
        coalition.clock.forward(seconds=5)
        await other.work()
    swept = await coalition.redemptions.hold(quote_id=quote.id, **ask)
    slow.go.set()
    done, _ = await live
    assert done.id == swept[0].id
    if verb == "hold":
        done = await coalition.confirm(await coalition.get(done))
    await coalition.work(seconds=30)

    assert (await coalition.get(done)).state is State.COMMITTED
    assert sorted(verb for verb, _ in coalition.partners["M05"].effects) == ["confirm", "hold"]
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (15_500, 0)


async def test_what_another_has_released_is_not_confirmed_from_memory(
    coalition: Coalition,
) -> None:
    held, other = await coalition.held(*TICKET), other_gateway(coalition)
    ask = {"member_id": held.member_id, "redemption_id": held.id}
    await other.release(**ask, key="release")
    with pytest.raises(HoldAlreadyResolved):
        await coalition.confirm(held)
    assert "confirm" not in [verb for verb, _ in coalition.partners["M05"].calls]
    assert await coalition.wallet("mbr_demo_01", "P-LL") == (20_000, 0)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "when the hold is over"])
async def test_what_another_has_confirmed_is_told_again(coalition: Coalition, late: bool) -> None:
    """What this gateway kept of its hold says HELD still; the key says what was done."""
    held, other = await coalition.held(*TICKET), other_gateway(coalition)
    ask = {"member_id": held.member_id, "redemption_id": held.id, "key": "one"}
    done, _ = await other.confirm(**ask)
    if late:
        coalition.clock.forward(hours=1)
    assert await coalition.redemptions.confirm(**ask) == (done, True)
    assert [verb for verb, _ in coalition.partners["M05"].effects] == ["hold", "confirm"]


async def test_a_key_that_was_used_otherwise_is_refused_from_memory_too(
    coalition: Coalition,
) -> None:
    first, second = await coalition.held(*TICKET), await coalition.held(*TICKET)
    ask = {"member_id": first.member_id, "key": "one"}
    await coalition.redemptions.confirm(redemption_id=first.id, **ask)
    with pytest.raises(IdempotencyConflict):
        await coalition.redemptions.confirm(redemption_id=second.id, **ask)
    assert (await coalition.get(second)).state is State.HELD
    assert (await coalition.confirm(second)).state is State.COMMITTED
