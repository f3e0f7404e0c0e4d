"""Members, merchants' tills, finance and the operator: what they ask for, and what they were told.

Everybody repeats a request under the same key until it is answered, or gives up.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import Any

from gateway import db
from gateway.catalog.pricing import LegInput
from gateway.errors import GatewayError
from gateway.points import service as points
from gateway.redemption import donations
from gateway.redemption.model import Redemption
from gateway.settlement import service as settlement
from gateway.settlement.model import WindowState
from tests.simulation.faults import RIDE
from tests.simulation.template import MEMBERS, TENDERS, prices
from tests.simulation.world import Down, Process, World

Ask = Callable[[Process], Coroutine[Any, Any, Any]]
PAUSES = (0.001, 0.5, 3.0, 20.0)
GAVE_UP = object()  # In place of an answer: it may have been done.


@dataclass
class Told:
    """What somebody was told: nothing of it may be lost."""

    redemptions: dict[str, list[str]] = field(default_factory=dict)  # id: states, in order
    replays: list[tuple[Ask, str]] = field(default_factory=list)  # ask again: the same object
    donations: set[str] = field(default_factory=set)
    earnings: set[str] = field(default_factory=set)
    tilled: set[str] = field(default_factory=set)  # a till took it, or never heard


class People:
    """Everybody of one run."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = Random(f"people {world.seed}")
        self.told = Told()
        self._keys = 0

    async def live(self) -> None:
        """All of them at once, until each has done what it wanted."""
        members = self.rng.sample(MEMBERS, self.rng.choice((1, 2, 2, 3)))
        if self.rng.random() < 0.4:
            members.append(members[0])  # The same person on two devices.
        busy = [self._member(name, self.rng.choice((1, 2, 3, 4))) for name in members]
        busy.append(self._operator())
        busy.append(self._till())
        async with asyncio.TaskGroup() as group:
            for work in busy:
                group.create_task(work)

    def key(self) -> str:
        self._keys += 1
        return f"key-{self._keys}"

    async def ask(
        self, what: str, ask: Ask, *, patience: int = 4, given_up: object | None = None
    ) -> Any:
        """Ask until answered; None when refused, `given_up` when given up."""
        world = self.world
        for _ in range(patience):
            try:
                made = await world.gateway().call(ask)
            except Down:
                await asyncio.sleep(self.rng.choice((0.1, 2.0, 20.0)))
                continue
            except GatewayError as error:
                world.saw(f"refused {what} {error.code}", str(error)[:120])
                return None
            world.saw(f"done {what}")
            return made
        world.saw(f"gave up {what}")
        return given_up

    async def pause(self) -> None:
        await asyncio.sleep(self.rng.choice(PAUSES))

    def note(self, made: tuple[Redemption, bool] | Redemption) -> Redemption:
        """Remember what a member was told about a redemption."""
        found = made[0] if isinstance(made, tuple) else made
        self.told.redemptions.setdefault(found.id, []).append(str(found.state))
        return found

    # -- members ------------------------------------------------------------------------------

    async def _member(self, name: str, count: int) -> None:
        for _ in range(count):
            await self.pause()
            draw = self.rng.random()
            if draw < 0.12:
                await self._donate(name)
            elif draw < 0.24:
                await self._earn(name)
            elif draw < 0.5:
                await self._redeem(name)
            else:
                await self._step_by_step(name)

    def _order(self) -> dict[str, Any]:
        """An offer and how it is paid: one to three programmes, perhaps cash."""
        rng = self.rng
        if self.world.strikes(RIDE):
            merchant, offer = "M07", "KX-03"
        else:
            merchant = rng.choice(sorted(TENDERS))
            offer = rng.choice(sorted(prices()[merchant]))
        list_fen = prices()[merchant][offer]
        taken = rng.sample(TENDERS[merchant], rng.randint(1, min(3, len(TENDERS[merchant]))))
        shares = [rng.choice((100, 300, 500)) for _ in taken[1:]]
        legs = [LegInput(one, share) for one, share in zip(taken, shares, strict=False)]
        legs.append(LegInput(taken[-1], None))
        cash = rng.choice((None, None, 200, list_fen // 3))
        slot = "2026-12-01T19:00" if offer in ("XH-01", "KX-03") else None
        return {"offer_id": offer, "slot": slot, "quantity": rng.choice((1, 1, 1, 2)),
                "bill_fen": None, "legs": legs, "cash_fen": cash}  # fmt: skip

    async def _redeem(self, name: str) -> None:
        order, key = self._order(), self.key()

        async def ask(process: Process) -> Any:
            return await process.redemptions.redeem(member_id=name, key=key, **order)

        made = await self.ask("redeem", ask)
        if made is not None:
            found = self.note(made)
            self.told.replays.append((ask, found.id))
            await self._afterwards(name, found)

    async def _step_by_step(self, name: str) -> None:
        order, key = self._order(), self.key()
        quote = await self.ask(
            "quote", lambda process: process.redemptions.request_quote(member_id=name, **order)
        )
        if quote is None:
            return
        await self.pause()

        async def hold(process: Process) -> Any:
            return await process.redemptions.hold(member_id=name, quote_id=quote.id, key=key)

        made = await self.ask("hold", hold)
        if made is None:
            return
        held = self.note(made)
        self.told.replays.append((hold, held.id))
        await self.pause()
        draw = self.rng.random()
        if draw < 0.75:
            held = await self._confirm(name, held) or held
        elif draw < 0.9:
            await self._release(name, held)
        await self._afterwards(name, held)

    async def _confirm(self, name: str, held: Redemption) -> Redemption | None:
        key = self.key()

        async def ask(process: Process) -> Any:
            return await process.redemptions.confirm(member_id=name, redemption_id=held.id, key=key)

        made = await self.ask("confirm", ask)
        if made is None:
            return None
        self.told.replays.append((ask, held.id))
        return self.note(made)

    async def _release(self, name: str, held: Redemption) -> None:
        key = self.key()
        made = await self.ask(
            "release",
            lambda process: process.redemptions.release(
                member_id=name, redemption_id=held.id, key=key
            ),
        )
        if made is not None:
            self.note(made)

    async def _afterwards(self, name: str, made: Redemption) -> None:
        """Some cancel what they have."""
        if self.rng.random() < 0.55:
            return
        await self.pause()
        key = self.key()
        offered = await self.ask(
            "cancel quote",
            lambda process: process.redemptions.cancel_quote(member_id=name, redemption_id=made.id),
        )
        if offered is None:
            return

        async def ask(process: Process) -> Any:
            return await process.redemptions.cancel(
                member_id=name, redemption_id=made.id, cancel_quote_id=offered.id, key=key
            )

        done = await self.ask("cancel", ask)
        if done is not None:
            self.told.replays.append((ask, made.id))
            self.note(done)

    async def _donate(self, name: str) -> None:
        key, programme = self.key(), self.rng.choice(("P-LL", "P-YQ", "P-HM"))
        count = self.rng.choice((100, 340, 2_000))

        async def ask(process: Process) -> Any:
            async with process.database.transaction() as tx:
                return await donations.donate(
                    tx, member_id=name, beneficiary="M16", programme_id=programme,
                    points_given=count, key=key, now=process.clock.now(),
                )  # fmt: skip

        made = await self.ask("donate", ask)
        if made is None:
            return
        gift = made[0]
        self.told.donations.add(gift.id)
        self.told.replays.append((ask, gift.id))
        if self.rng.random() < 0.4:
            again = self.key()

            async def undo(process: Process) -> Any:
                async with process.database.transaction() as tx:
                    return await donations.reverse(
                        tx, member_id=name, donation_id=gift.id, key=again,
                        now=process.clock.now(),
                    )  # fmt: skip

            await self.ask("undo donation", undo)

    async def _earn(self, name: str) -> None:
        ref, fen = self.key(), self.rng.choice((1_999, 12_345, 88_800))
        consumed, programme = self.rng.random() < 0.6, self.rng.choice(("P-LL", "P-XH"))
        scope = {"scope": f"{programme}:recordEarnEvent", "key": ref, "input": {"order": ref}}

        async def ask(process: Process) -> Any:
            now = process.clock.now()
            async with process.database.transaction() as tx:
                replay = await db.claim_key(tx, **scope, now=now)
                if replay:
                    return await points.earning(tx, replay.object_id)
                made = await points.earn(
                    tx, programme_id=programme, member_id=name, ref=ref, cash_fen=fen, at=now,
                    consumed=consumed, actor="till", live=False, now=now,
                )  # fmt: skip
                await db.settle_key(tx, scope=str(scope["scope"]), key=ref, object_id=made.id)
                return made

        made = await self.ask("earn", ask)
        if made is None:
            return
        self.told.earnings.add(made.id)
        self.told.replays.append((ask, made.id))
        if self.rng.random() < 0.3:
            await self._return(made.issuer, ref, fen)

    async def _return(self, issuer: str, ref: str, fen: int) -> None:
        part = self.rng.choice((None, fen // 3))

        async def ask(process: Process) -> Any:
            async with process.database.transaction() as tx:
                return await points.record_return(
                    tx, issuer=issuer, ref=ref, cash_fen=part, actor="till",
                    now=process.clock.now(),
                )  # fmt: skip

        await self.ask("return", ask, patience=1)

    # -- merchants, finance, operator ---------------------------------------------------------

    async def _till(self) -> None:
        """A merchant takes vouchers, or says that a ride is over."""
        for _ in range(self.rng.choice((0, 1, 2))):
            await asyncio.sleep(self.rng.choice((1.0, 20.0, 60.0)))
            found = self.world.check.rows(
                "SELECT r.id, r.merchant_id, v.code, r.list_fen FROM redemptions r"
                " JOIN vouchers v ON v.redemption_id = r.id ORDER BY r.id"
            )
            if found:
                await self._take(*self.rng.choice(found))

    async def _take(self, ref: str, merchant: str, code: str, list_fen: int) -> None:
        key, fare = self.key(), self.rng.choice((None, list_fen // 2))
        by_code = self.rng.random() < 0.5

        async def ask(process: Process) -> Any:
            if by_code:
                return await process.redemptions.verify_voucher(
                    merchant_id=merchant, code=code, holder=None, key=key
                )
            return await process.redemptions.record_fulfilment(
                merchant_id=merchant, redemption_id=ref, final_fare_fen=fare, key=key
            )

        made = await self.ask("till", ask, given_up=GAVE_UP)
        if made is not None:
            self.told.tilled.add(ref)
        if made not in (None, GAVE_UP):
            self.note(made)

    async def _operator(self) -> None:
        """Clocks jump, windows are cut, settlements go out."""
        rng, world = self.rng, self.world
        for _ in range(rng.choice((1, 2, 3))):
            await asyncio.sleep(rng.choice((2.0, 15.0, 60.0)))
            if world.strikes("skew"):
                process = rng.choice(world.processes)
                process.skew_us += rng.choice((-2_000_000, 30_000_000))
                process.skew_us = max(min(process.skew_us, 58_000_000), -4_000_000)
                world.saw("clock skewed", f"{process.name} {process.skew_us}")
            if world.strikes("jump"):
                await self.jump(rng.choice((30, 400, 1_700, 26 * 3600, 8 * 86_400)))
            if rng.random() < 0.4:
                await self.settle()

    async def jump(self, seconds: int) -> None:
        """The sandbox's business clock goes forward."""

        async def ask(process: Process) -> Any:
            async with process.database.transaction() as tx:
                await process.clock.refresh(tx)
                to = process.clock.now() + timedelta(seconds=seconds)
                await process.clock.set(tx, to)

        await self.ask("clock jump", ask, patience=1)

    async def settle(self) -> None:
        """Finance closes the window, proposes, approves; merchants book."""

        async def close(process: Process) -> Any:
            async with process.database.transaction() as tx:
                return await settlement.close_window(tx, now=process.clock.now())

        async def publish(process: Process) -> Any:
            now = process.clock.now()
            async with process.database.transaction() as tx:
                for window in await settlement.windows(tx):
                    if window.state is WindowState.CLOSED:
                        await settlement.net_window(tx, window_id=window.id, now=now)
                        await settlement.publish_window(tx, window_id=window.id, now=now)

        await self.ask("close window", close, patience=1)
        await self.ask("publish window", publish, patience=1)
        await self.pause()
        for (window_id,) in self.world.check.rows(
            "SELECT window_id FROM settlement_windows WHERE state = 'PUBLISHED' ORDER BY 1"
        ):
            await self._pay(window_id)

    async def _pay(self, window_id: str) -> None:
        async def propose(process: Process) -> Any:
            async with process.database.transaction() as tx:
                return await settlement.propose_settlement(
                    tx, window_id=window_id, actor="finance", now=process.clock.now()
                )

        draft = await self.ask("propose", propose)
        if draft is None:
            return

        async def approve(process: Process) -> Any:
            async with process.database.transaction() as tx:
                return await settlement.approve_settlement(
                    tx, settlement_id=draft.id, net_hash=draft.net_hash, actor="finance2",
                    limit_fen=10**9, now=process.clock.now(),
                )  # fmt: skip

        if await self.ask("approve", approve) is None:
            return
        for (leg_id,) in self.world.check.rows(
            "SELECT leg_id FROM settlement_legs WHERE settlement_id = ? ORDER BY seq", draft.id
        ):
            if self.rng.random() < 0.7:
                await self._book(leg_id)

    async def _book(self, leg_id: str) -> None:
        async def book(process: Process) -> Any:
            async with process.database.transaction() as tx:
                return await settlement.book_leg(
                    tx, leg_id=leg_id, actor="bank", now=process.clock.now()
                )

        await self.ask("book leg", book)
