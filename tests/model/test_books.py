"""The services beside the reference model: after every step both have the same books.

Goal: no order of earning, holding, burning, reversing, returning, expiring and settling makes
ledger, lots, holds, cover or positions differ from a model a person can read in one sitting.
Method: a Hypothesis state machine, on both databases; each example is one transaction that is
rolled back at its end, each step a savepoint in it.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Database
from gateway.ledger import invariants as of_ledger
from gateway.ledger import service as ledger
from gateway.ledger.model import Kind
from gateway.merchants import service as merchants
from gateway.points import invariants as of_points
from gateway.points import service as points
from gateway.points.holding import InsufficientPoints
from gateway.points.model import LegRequest
from gateway.redemption.model import Leg as SoldLeg
from gateway.redemption.model import kept_after_fare
from gateway.settlement import invariants as of_settlement
from gateway.settlement import service as settlement
from gateway.settlement.model import Fault, LegToReserve
from gateway.values import business_day, month_of
from tests.model import reference
from tests.model.reference import Books
from tests.support import issuers as coalition

PROGRAMME = {"M04": "P-LL", "M02": "P-CA", "M11": "P-YT"}  # The last one's points end.
RATES = {"M04": Fraction(1), "M02": Fraction(10), "M11": Fraction(15, 2)}  # fen a point
MEMBERS = ["m1", "m2"]
REDEEMERS = ["M05", "M04"]
CAP_FEN, COVER_FEN = 9_000, 6_000
REFUSALS = (InsufficientPoints, settlement.AgreementCap, settlement.CoverExceeded)

MUST_HAPPEN = {
    "hold: None",
    "hold: INSUFFICIENT_POINTS",
    "hold: COVER_EXCEEDED",
    "hold: AGREEMENT_CAP",
    "burn",
    "release",
    "reverse: MEMBER",
    "reverse: REDEEMER",
    "adjust",
    "payments",
    "debt",
}

members = st.sampled_from(MEMBERS)
issuers = st.sampled_from(sorted(PROGRAMME))
by_cash = st.sampled_from(["M02", "M04"])
pairs = st.integers(1, 300).map(lambda n: 2 * n)  # Whole fen at every rate.
legs = st.lists(st.tuples(issuers, pairs), min_size=1, max_size=3, unique_by=lambda leg: leg[0])


class Rollback(Exception):
    """Ends an example: nothing of it stays."""


async def found(tx: AsyncConnection) -> None:
    """The coalition, with agreements towards every redeemer and little cover."""
    await coalition.found(tx)
    await merchants.register(
        tx, id="M00", slug="operator", name_zh="运营方", name_en="operator", category="operator",
        cities=[], market="ALL", roles=["operator"], operator={}, now=coalition.NOW, code_hours=72,
    )  # fmt: skip
    for issuer in PROGRAMME:
        await settlement.set_cover(
            tx, merchant_id=issuer, collateral_fen=COVER_FEN, net_debit_cap_fen=COVER_FEN + 1
        )
        for redeemer in REDEEMERS:
            if issuer != redeemer:
                await settlement.add_agreement(
                    tx,
                    issuer=issuer,
                    redeemer=redeemer,
                    settlement_bps=9_000,
                    fee_bps=50,
                    monthly_cap_fen=CAP_FEN,
                    valid_from=date(2026, 1, 1),
                    valid_until=date(2030, 1, 1),
                    signed_by=[issuer, redeemer],
                    now=coalition.NOW,
                )


class Machine(RuleBasedStateMachine):
    """Does each step twice: in the services and in the model."""

    database: Database
    runner: asyncio.Runner
    seen: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.now = coalition.NOW
        self.number = 0
        self.books = Books(rates=RATES, cap_fen=CAP_FEN, cover_fen=COVER_FEN)
        self.scope = self.database.transaction()
        self.tx: AsyncConnection = self.runner.run(self.scope.__aenter__())

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """One operation of the services, in a savepoint; a refusal leaves nothing."""

        async def in_savepoint() -> Any:
            async with self.tx.begin_nested():
                return await work()

        self.now += timedelta(seconds=1)
        return self.runner.run(in_savepoint())

    def next(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number}"

    def teardown(self) -> None:
        try:
            for room in (of_ledger, of_points, of_settlement):
                results = self.runner.run(room.check(self.tx))
                assert [result for result in results if not result.ok] == []
        finally:
            ended = self.scope.__aexit__(Rollback, Rollback(), None)
            assert self.runner.run(_quietly(ended)) is None

    # -- points ------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        async def founded() -> None:
            await found(self.tx)
            for book in self.all_books():
                for account, amount in (await ledger.trial_balance(self.tx, book)).items():
                    self.books.balances[book, account] = amount

        self.run(founded)
        for member, issuer, days in itertools.product(MEMBERS, sorted(PROGRAMME), (3, 20, 200)):
            self.open_lot(member, issuer, 700, days)

    @rule(member=members, issuer=issuers, n=st.integers(1, 3_000), days=st.integers(1, 40))
    def another_lot(self, member: str, issuer: str, n: int, days: int) -> None:
        self.open_lot(member, issuer, n, days)

    def open_lot(self, member: str, issuer: str, n: int, days: int) -> None:
        """An opening balance; miles have a last day."""
        ref = self.next("open")
        ends = self.now + timedelta(days=days) if issuer == "M11" else None
        earned_on = date(2026, 6, 1) + timedelta(days=self.number % 3)
        lot = self.run(
            lambda: coalition.open_lot(
                self.tx, member, PROGRAMME[issuer], n, ref=ref, earned_on=earned_on, expires_at=ends
            )
        )
        self.books.open_lot(
            reference.Lot(lot.id, member, issuer, ref, earned_on.isoformat(), ends, n)
        )

    @rule(member=members, issuer=by_cash, cash=st.integers(0, 90_000), consumed=st.booleans())
    def earn(self, member: str, issuer: str, cash: int, consumed: bool) -> None:
        ref, at = self.next("ord"), self.now
        made = self.run(
            lambda: points.earn(
                self.tx, programme_id=PROGRAMME[issuer], member_id=member, ref=ref, cash_fen=cash,
                at=at, consumed=consumed, actor="test", live=False, now=self.now,
            )
        )  # fmt: skip
        due = at if consumed else at + timedelta(days=7)
        self.books.earn(ref, reference.Earning(member, issuer, cash // 100, cash, due))
        if consumed and made.lot_id:
            self.books.mature(ref, made.lot_id, business_day(at).isoformat())

    @rule(days=st.sampled_from([1, 8, 35]))
    def pass_time(self, days: int) -> None:
        """Time passes, then what it makes due is done."""
        self.now += timedelta(days=days)
        due = [
            (made.due, ref)
            for ref, made in self.books.earnings.items()
            if made.open and made.points and made.lot is None and made.due <= self.now
        ]
        self.run(lambda: points.mature(self.tx, now=self.now, limit=1_000))
        lots = {lot.ref: lot for lot in self.lots()}
        for at, ref in sorted(due):
            earned_on = business_day(at - timedelta(days=7)).isoformat()
            self.books.mature(ref, lots[ref].id, earned_on)
        self.run(lambda: points.expire(self.tx, now=self.now, limit=1_000))
        self.books.expire(self.now)

    @precondition(lambda self: any(made.open for made in self.books.earnings.values()))
    @rule(data=st.data())
    def return_purchase(self, data: st.DataObject) -> None:
        ref = data.draw(
            st.sampled_from(sorted(r for r, m in self.books.earnings.items() if m.open))
        )
        issuer = self.books.earnings[ref].issuer
        for _ in range(2):  # The second time takes nothing.
            self.run(
                lambda: points.record_return(
                    self.tx, issuer=issuer, ref=ref, actor="test", now=self.now
                )
            )
        self.books.take_back(ref)
        wallets = itertools.product(MEMBERS, PROGRAMME)
        owes = any(self.books.owed(member, issuer) for member, issuer in wallets)
        self.seen.update(["debt"] if owes else [])

    # -- redemptions -------------------------------------------------------------------------

    @rule(member=members, redeemer=st.sampled_from(REDEEMERS), legs=legs)
    def hold(self, member: str, redeemer: str, legs: list[tuple[str, int]]) -> None:
        """Both hold all legs, or both refuse for the same kind of reason."""
        red = self.next("red")
        sold = [reference.Leg(member, issuer, n, int(n * RATES[issuer])) for issuer, n in legs]
        try:
            self.run(lambda: self.hold_really(red, redeemer, sold))
        except REFUSALS as refusal:
            said = refusal.code
        else:
            said = None
        self.seen[f"hold: {said}"] += 1
        try:
            self.books.hold(red, reference.Sale(redeemer, sold), self.now, month_of(self.now))
        except reference.Refused:
            assert said is not None, "the model refuses, the services do not"
        else:
            assert said is None, f"the services refuse with {said}, the model does not"

    async def hold_really(self, red: str, redeemer: str, sold: list[reference.Leg]) -> None:
        foreign = []
        for number, leg in enumerate(sold, 1):
            if leg.issuer != redeemer:
                agreement = await settlement.agreement_for(
                    self.tx, issuer=leg.issuer, redeemer=redeemer, offer_id="XH-01",
                    category="电影", at=self.now,
                )  # fmt: skip
                foreign.append(LegToReserve(number, agreement, "XH-01", leg.face_fen))
        taken = await settlement.reserve_legs(
            self.tx, cause_id=red, epoch=1, legs=foreign, at=self.now
        )
        lines = settlement.reserved_lines(taken)
        requests = [
            LegRequest(number, leg.member, PROGRAMME[leg.issuer], leg.points, lines.get(number, ()))
            for number, leg in enumerate(sold, 1)
        ]
        await coalition.hold(self.tx, red, *requests, now=self.now)

    def in_state(self, *states: str) -> list[str]:
        return sorted(red for red, sale in self.books.sales.items() if sale.state in states)

    @precondition(lambda self: self.in_state("held"))
    @rule(data=st.data(), way=st.sampled_from(["burn", "burn", "release"]))
    def decide(self, data: st.DataObject, way: str) -> None:
        red = data.draw(st.sampled_from(self.in_state("held")))
        for _ in range(2):  # A second time changes nothing.
            self.run(lambda: self.burn_really(red) if way == "burn" else self.release_really(red))
        if way == "burn":
            self.books.burn(red, month_of(self.now))
            self.seen["burn"] += 1
        else:
            self.books.release(red)
            self.seen["release"] += 1

    async def burn_really(self, red: str) -> None:
        sale = self.books.sales[red]
        lines = await settlement.accrue(self.tx, cause_id=red, epoch=1, at=self.now)
        sinks = {number: self.books.sink(sale, leg) for number, leg in enumerate(sale.legs, 1)}
        await points.burn(
            self.tx, redemption_id=red, epoch=1, sinks=sinks, hub_lines=lines, actor="test",
            now=self.now,
        )  # fmt: skip

    async def release_really(self, red: str) -> None:
        lines = await settlement.release(self.tx, cause_id=red, epoch=1)
        await points.release(
            self.tx, redemption_id=red, epoch=1, hub_lines=lines, actor="test", now=self.now
        )

    @precondition(lambda self: self.in_state("burned"))
    @rule(data=st.data(), fault=st.sampled_from(sorted(Fault)))
    def reverse(self, data: st.DataObject, fault: Fault) -> None:
        red = data.draw(st.sampled_from(self.in_state("burned")))
        sale = self.books.sales[red]
        back = {number: leg.points for number, leg in enumerate(sale.legs, 1)}

        async def really() -> None:
            lines = await settlement.reverse(
                self.tx, cause_id=red, epoch=1, fault=fault, at=self.now
            )
            await points.give_back(
                self.tx, redemption_id=red, epoch=1, kind=Kind.REVERSE, points=back,
                hub_lines=lines, extend=fault is not Fault.MEMBER, actor="test", now=self.now,
            )  # fmt: skip

        self.run(really)
        self.books.reverse(red, fault, self.now)
        self.seen[f"reverse: {fault}"] += 1

    @precondition(lambda self: self.adjustable())
    @rule(data=st.data())
    def lower_fare(self, data: st.DataObject) -> None:
        red = data.draw(st.sampled_from(self.adjustable()))
        sale = self.books.sales[red]
        whole = sum(leg.face_fen for leg in sale.legs)
        fare = data.draw(st.integers(0, whole - 1))
        sold = tuple(
            SoldLeg(
                leg_no=number,
                programme_id=PROGRAMME[leg.issuer],
                issuer=leg.issuer,
                points=leg.points,
                face_fen=leg.face_fen,
                rate_num=RATES[leg.issuer].numerator,
                rate_den=RATES[leg.issuer].denominator,
                own=leg.issuer == sale.redeemer,
                agreement_id=None,
                settlement_fen=0,
                fee_fen=0,
            )
            for number, leg in enumerate(sale.legs, 1)
        )
        kept = kept_after_fare(sold, 0, fare)

        async def really() -> None:
            faces = {n: face for n, (_, face) in kept.items() if not sold[n - 1].own}
            lines = await settlement.adjust(
                self.tx, cause_id=red, epoch=1, kept_face=faces, at=self.now
            )
            back = {n: sold[n - 1].points - stays for n, (stays, _) in kept.items()}
            await points.give_back(
                self.tx, redemption_id=red, epoch=1, kind=Kind.FARE_ADJUST, points=back,
                hub_lines=lines, extend=False, actor="test", now=self.now,
            )  # fmt: skip

        self.run(really)
        self.books.adjust(red, fare)
        self.seen["adjust"] += 1

    def adjustable(self) -> list[str]:
        """Burned, not adjusted and not cleared."""
        burned = {red: self.books.sales[red] for red in self.in_state("burned")}
        return [
            red
            for red, sale in burned.items()
            if not sale.adjusted and not any(claim.cleared for claim in sale.claims)
        ]

    @precondition(lambda self: self.in_state("burned"))
    @rule(data=st.data())
    def fulfil(self, data: st.DataObject) -> None:
        red = data.draw(st.sampled_from(self.in_state("burned")))
        for _ in range(2):
            self.run(lambda: settlement.clear(self.tx, cause_id=red, at=self.now))
        self.books.clear(red)

    # -- settlement --------------------------------------------------------------------------

    @rule()
    def settle(self) -> None:
        """Close the week, net it, and book every payment."""
        self.now += timedelta(days=7)
        paid = self.run(self.settle_really)
        assert paid == self.books.settle()
        self.seen.update(["payments"] if paid else [])

    async def settle_really(self) -> Counter[tuple[str, str]]:
        window = await settlement.close_window(self.tx, now=self.now)
        await settlement.net_window(self.tx, window_id=window.id, now=self.now)
        await settlement.publish_window(self.tx, window_id=window.id, now=self.now)
        draft = await settlement.propose_settlement(
            self.tx, window_id=window.id, actor="a", now=self.now
        )
        await settlement.approve_settlement(
            self.tx, settlement_id=draft.id, net_hash=draft.net_hash, actor="b",
            limit_fen=10**12, now=self.now,
        )  # fmt: skip
        made = await settlement.legs(self.tx, settlement_id=draft.id)
        for leg in made:
            await settlement.book_leg(self.tx, leg_id=leg.id, actor="bank", now=self.now)
        return Counter({(leg.payer, leg.payee): leg.amount_fen for leg in made})

    # -- what must be the same ---------------------------------------------------------------

    def all_books(self) -> list[str]:
        return ["HUB", *(f"{kind}:{issuer}" for kind in ("PTS", "BUDGET") for issuer in PROGRAMME)]

    def lots(self) -> list[Any]:
        async def read() -> list[Any]:
            return [
                lot for member in MEMBERS for lot in await points.lots(self.tx, member_id=member)
            ]

        return list(self.runner.run(read()))

    @invariant()
    def every_account_is_the_same(self) -> None:
        async def read() -> Counter[tuple[str, str]]:
            found = Counter[tuple[str, str]]()
            for book in self.all_books():
                for account, amount in (await ledger.trial_balance(self.tx, book)).items():
                    found[book, account] = amount
            return found

        assert _nonzero(self.runner.run(read())) == _nonzero(self.books.balances)

    @invariant()
    def every_lot_is_the_same(self) -> None:
        theirs = {lot.id: (lot.remaining, lot.held, lot.expires_at) for lot in self.lots()}
        ours = {lot.id: (lot.left, lot.held, lot.ends) for lot in self.books.lots.values()}
        assert theirs == ours

    @invariant()
    def cover_and_wallets_are_the_same(self) -> None:
        async def read() -> None:
            for issuer in PROGRAMME:
                cover = await settlement.cover_of(self.tx, merchant_id=issuer)
                if cover:
                    kept = self.books.cover[issuer]
                    months = {key[2] for key in self.books.used}
                    for redeemer, month in itertools.product(REDEEMERS, months):
                        used = await settlement.used_fen(
                            self.tx, agreement_id=f"agr_{issuer}_{redeemer}", month=month
                        )
                        assert used == self.books.used[issuer, redeemer, month]
                    assert (cover.reserved_fen, cover.debit_fen - cover.credit_fen) == (
                        kept["reserved"],
                        kept["debit"] - kept["credit"],
                    )
            for member in MEMBERS:
                for wallet in await points.wallets(self.tx, member, now=self.now):
                    mine = self.books.taken_first(member, wallet.issuer)
                    free = sum(self.books.free(lot, self.now) for lot in mine)
                    assert (wallet.available, wallet.held) == (free, sum(lot.held for lot in mine))
                    assert wallet.owed == self.books.owed(member, wallet.issuer)

        self.runner.run(read())


async def _quietly(ended: Coroutine[Any, Any, Any]) -> None:
    try:
        await ended
    except Rollback:
        return


def _nonzero(balances: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {key: amount for key, amount in sorted(balances.items()) if amount}


class Told:
    """Answers what a rule asks for with what it was told."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def draw(self, _: Any) -> Any:
        return self.answers.pop(0)


def tell(machine: Machine) -> None:
    """A story in which everything happens that must; red_N is the N-th thing numbered."""

    def sold(member: str, redeemer: str, *legs: tuple[str, int]) -> str:
        machine.hold(member, redeemer, list(legs))
        return f"red_{machine.number}"

    def burned(member: str, redeemer: str, *legs: tuple[str, int]) -> str:
        red = sold(member, redeemer, *legs)
        machine.decide(Told(red), "burn")
        return red

    sold("m1", "M05", ("M02", 1_200))
    sold("m1", "M05", ("M02", 800))
    sold("m1", "M05", ("M04", 5_000))
    machine.decide(Told(sold("m2", "M05", ("M04", 200), ("M11", 100))), "release")
    for fault in (Fault.MEMBER, Fault.REDEEMER):
        machine.reverse(Told(burned("m1", "M05", ("M02", 50), ("M11", 80))), fault)
    machine.lower_fare(Told(burned("m1", "M05", ("M02", 100), ("M04", 60)), 333))
    machine.fulfil(Told(burned("m1", "M05", ("M02", 40), ("M11", 40))))
    machine.settle()
    machine.earn("m2", "M04", 90_000, True)
    ref = f"ord_{machine.number}"
    burned("m2", "M04", ("M04", 2_100 + machine.books.earnings[ref].points))
    machine.return_purchase(Told(ref))
    machine.pass_time(35)


@pytest.fixture
def bound(database_url: str) -> Iterator[type[Machine]]:
    """The machine, beside services on a real database."""
    with asyncio.Runner() as runner:
        database, seen = Database(database_url), Counter[str]()
        made = type(
            "BoundMachine", (Machine,), {"database": database, "runner": runner, "seen": seen}
        )
        yield made
        runner.run(database.close())


def test_everything_that_must_happen_keeps_the_books_of_the_model(bound: type[Machine]) -> None:
    machine = bound()
    machine.begin()
    try:
        tell(machine)
        machine.every_account_is_the_same()
        machine.every_lot_is_the_same()
        machine.cover_and_wallets_are_the_same()
    finally:
        machine.teardown()
    assert set(bound.seen) >= MUST_HAPPEN, f"never happened: {MUST_HAPPEN - set(bound.seen)}"


@pytest.mark.parametrize("examples", [3, pytest.param(15, marks=pytest.mark.campaign)])
def test_the_services_keep_the_books_of_the_model(bound: type[Machine], examples: int) -> None:
    options = settings(
        max_examples=examples,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(bound, settings=options)
