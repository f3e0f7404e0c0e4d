"""Every operation done twice, in the services and in the model, and the two compared."""

import asyncio
import copy
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any

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
OPENED = {"M04": 2_500, "M02": 300, "M11": 300}  # points of each first lot
MEMBERS = ["m1", "m2"]
REDEEMERS = ["M05", "M04"]
CAP_FEN, COVER_FEN = 4_000, 6_000
REFUSALS = (InsufficientPoints, settlement.AgreementCap, settlement.CoverExceeded)
BOOKS = ["HUB", *(f"{kind}:{issuer}" for kind in ("PTS", "BUDGET") for issuer in PROGRAMME)]


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
                    valid_until=date(2036, 1, 1),
                    signed_by=[issuer, redeemer],
                    now=coalition.NOW,
                )


async def trial_balances(tx: AsyncConnection) -> Counter[tuple[str, str]]:
    sums = Counter[tuple[str, str]]()
    for book in BOOKS:
        for account, amount in (await ledger.trial_balance(tx, book)).items():
            sums[book, account] = amount
    return sums


class World:
    """A database with the coalition and first lots in it, and the books of that beginning."""

    def __init__(self, database: Database, runner: asyncio.Runner) -> None:
        self.database, self.runner = database, runner
        self.books = Books(rates=RATES, cap_fen=CAP_FEN, cover_fen=COVER_FEN)
        self.seen = Counter[str]()  # what happened, over all examples
        runner.run(self._begin())

    async def _begin(self) -> None:
        async with self.database.transaction() as tx:
            await found(tx)
            self.books.balances = await trial_balances(tx)
            wallets = itertools.product(MEMBERS, sorted(PROGRAMME), (3, 20, 200))
            for number, (member, issuer, days) in enumerate(wallets):
                await open_lot(
                    tx, self.books, member, issuer, OPENED[issuer], ref=f"first_{number}",
                    number=number, ends=coalition.NOW + timedelta(days=days),
                )  # fmt: skip


async def open_lot(
    tx: AsyncConnection, books: Books, member: str, issuer: str, n: int, *, ref: str, number: int,
    ends: datetime,
) -> None:  # fmt: skip
    """An opening balance; miles have a last day. Who ends first was not earned first."""
    until = ends if issuer == "M11" else None
    earned_on = date(2026, 6, 1) + timedelta(days=2 - number % 3)
    lot = await coalition.open_lot(
        tx, member, PROGRAMME[issuer], n, ref=ref, earned_on=earned_on, expires_at=until
    )
    books.open_lot(reference.Lot(lot.id, member, issuer, ref, earned_on.isoformat(), until, n))


class Beside:
    """The services in one transaction of a world, the model beside them."""

    def __init__(self, world: World) -> None:
        self.now = coalition.NOW
        self.number = self.repeats = 0
        self.runner, self.seen = world.runner, world.seen
        self.books = copy.deepcopy(world.books)
        self.scope = world.database.transaction()
        self.tx: AsyncConnection = self.runner.run(self.scope.__aenter__())

    def end(self) -> None:
        """The product's own invariants hold; then nothing of it stays."""
        try:
            for room in (of_ledger, of_points, of_settlement):
                results = self.runner.run(room.check(self.tx))
                assert [result for result in results if not result.ok] == []
        finally:
            self.runner.run(_quietly(self.scope.__aexit__(Rollback, Rollback(), None)))

    def run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """One operation of the services, in a savepoint; a refusal leaves nothing."""

        async def in_savepoint() -> Any:
            async with self.tx.begin_nested():
                return await work()

        self.now += timedelta(seconds=1)
        return self.runner.run(in_savepoint())

    def twice(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Every third time an operation comes again, which changes nothing."""
        self.repeats += 1
        for _ in range(2 if self.repeats % 3 == 0 else 1):
            self.run(work)

    def next(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}_{self.number}"

    # -- points ------------------------------------------------------------------------------

    def another_lot(self, member: str, issuer: str, n: int, days: int) -> None:
        ref, ends = self.next("open"), self.now + timedelta(days=days)
        self.run(
            lambda: open_lot(
                self.tx, self.books, member, issuer, n, ref=ref, number=self.number, ends=ends
            )
        )
        self.seen["another lot"] += 1

    def earn(self, member: str, issuer: str, much: int, *, consumed: bool) -> str:
        """`much`: fen of cash, or kilometres of a flight in business class."""
        ref, at, flies = self.next("ord"), self.now, issuer == "M11"
        of = {"distance_km": much, "fare_class": "公务"} if flies else {"cash_fen": much}
        owed = self.books.owed(member, issuer)
        made = self.run(
            lambda: points.earn(
                self.tx, programme_id=PROGRAMME[issuer], member_id=member, ref=ref, **of,
                at=at, consumed=consumed, actor="test", live=False, now=self.now,
            )
        )  # fmt: skip
        n, cash = (much * 3 // 2, None) if flies else (much // 100, much)
        due = at if consumed else at + timedelta(days=7)
        ends = _end_of_miles(at) if flies else None
        self.books.earn(ref, reference.Earning(member, issuer, n, cash, due, ends))
        self.seen["earn: consumed" if consumed else "earn: pending"] += 1
        if consumed and n:
            self.books.mature(ref, made.lot_id, business_day(at).isoformat())
            self.seen["debt paid"] += bool(owed)
        return ref

    def pass_time(self, until: datetime) -> None:
        """Time passes, then what it makes due is done."""
        self.now = until
        due = [
            (made.due, ref)
            for ref, made in self.books.earnings.items()
            if made.points and made.lot is None and made.due <= self.now + timedelta(seconds=1)
        ]
        self.run(lambda: points.mature(self.tx, now=self.now, limit=1_000))
        lots = {lot.ref: lot for lot in self.lots()}
        for at, ref in sorted(due):
            made = self.books.earnings[ref]
            self.seen["debt paid"] += bool(self.books.owed(made.member, made.issuer))
            self.books.mature(ref, lots[ref].id, business_day(at - timedelta(days=7)).isoformat())
        self.run(lambda: points.expire(self.tx, now=self.now, limit=1_000))
        gone = self.books.expire(self.now)
        self.seen.update({"mature": len(due), "expire": gone, "time passes": 1})

    def take_back(self, ref: str, fen: int | None) -> None:
        """A return, whole or of so many fen. A whole one takes nothing the second time."""
        made = self.books.earnings[ref]
        owed, pending = self.books.owed(made.member, made.issuer), made.lot is None
        for _ in range(2 if fen is None else 1):
            self.run(
                lambda: points.record_return(
                    self.tx, issuer=made.issuer, ref=ref, cash_fen=fen, actor="test", now=self.now
                )
            )
        self.books.take_back(ref, fen)
        self.seen["return: pending" if pending else "return: of a lot"] += 1
        self.seen["return: in part"] += fen is not None
        self.seen["debt"] += self.books.owed(made.member, made.issuer) > owed

    # -- redemptions -------------------------------------------------------------------------

    def hold(self, member: str, redeemer: str, legs: Sequence[tuple[str, int]]) -> str:
        """Both hold all legs, or both refuse for the same kind of reason."""
        red = self.next("red")
        sold = [reference.Leg(member, issuer, n, int(n * RATES[issuer])) for issuer, n in legs]
        said, reasons = None, set[str | None]({None})
        try:
            self.run(lambda: self._hold(red, redeemer, sold))
        except REFUSALS as refusal:
            said = refusal.code
        try:
            self.books.hold(red, reference.Sale(redeemer, sold), self.now, month_of(self.now))
        except reference.Refused as refusal:
            reasons = {*refusal.reasons}
        assert said in reasons, f"the services say {said}, the model {reasons}"
        self.seen[f"hold: {said}"] += 1
        if not said:
            self.seen["hold: several legs"] += len(sold) > 1
            self.seen["hold: several lots"] += any(len(leg.lots) > 1 for leg in sold)
        return red

    async def _hold(self, red: str, redeemer: str, sold: list[reference.Leg]) -> None:
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

    def burn(self, red: str) -> None:
        self.twice(lambda: self._burn(red))
        self.books.burn(red, month_of(self.now))
        self.seen["burn"] += 1

    async def _burn(self, red: str) -> None:
        sale = self.books.sales[red]
        lines = await settlement.accrue(self.tx, cause_id=red, epoch=1, at=self.now)
        sinks = {number: self.books.sink(sale, leg) for number, leg in enumerate(sale.legs, 1)}
        await points.burn(
            self.tx, redemption_id=red, epoch=1, sinks=sinks, hub_lines=lines, actor="test",
            now=self.now,
        )  # fmt: skip

    def release(self, red: str) -> None:
        self.twice(lambda: self._release(red))
        self.books.release(red)
        several = any(len(leg.lots) > 1 for leg in self.books.sales[red].legs)
        self.seen.update({"release": 1, "release: several lots": several})

    async def _release(self, red: str) -> None:
        lines = await settlement.release(self.tx, cause_id=red, epoch=1)
        await points.release(
            self.tx, redemption_id=red, epoch=1, hub_lines=lines, actor="test", now=self.now
        )

    def reverse(self, red: str, fault: Fault) -> None:
        sale = self.books.sales[red]
        back = {number: leg.points for number, leg in enumerate(sale.legs, 1)}
        self.seen["reverse: adjusted before"] += sale.adjusted
        self.seen["reverse: settled before"] += any(claim.settled for claim in sale.claims)

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

    def lower_fare(self, red: str, fare: int) -> None:
        sale = self.books.sales[red]
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
        cleared = any(claim.cleared for claim in sale.claims)
        self.books.adjust(red, fare)
        self.seen["adjust: cleared before" if cleared else "adjust"] += 1

    def fulfil(self, red: str) -> None:
        self.twice(lambda: settlement.clear(self.tx, cause_id=red, at=self.now))
        self.books.clear(red)
        self.seen["fulfil"] += 1

    # -- settlement --------------------------------------------------------------------------

    def settle(self) -> None:
        """Close the week, net it, and book every payment."""
        self.now += timedelta(days=7)
        paid = self.run(self._settle)
        assert paid == self.books.settle()
        self.seen.update({"settle": 1, "payments": len(paid)})

    async def _settle(self) -> Counter[tuple[str, str]]:
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

    def lots(self) -> list[Any]:
        async def read() -> list[Any]:
            return [
                lot for member in MEMBERS for lot in await points.lots(self.tx, member_id=member)
            ]

        return list(self.runner.run(read()))

    def accounts_are_the_same(self) -> None:
        theirs = self.runner.run(trial_balances(self.tx))
        assert _nonzero(theirs) == _nonzero(self.books.balances)

    def lots_are_the_same(self) -> None:
        theirs = {lot.id: (lot.remaining, lot.held, lot.expires_at) for lot in self.lots()}
        ours = {lot.id: (lot.left, lot.held, lot.ends) for lot in self.books.lots.values()}
        assert theirs == ours

    def cover_and_wallets_are_the_same(self) -> None:
        self.runner.run(self._compare_cover())
        self.runner.run(self._compare_wallets())

    async def _compare_cover(self) -> None:
        for issuer in PROGRAMME:
            cover = await settlement.cover_of(self.tx, merchant_id=issuer)
            assert cover
            kept = self.books.cover[issuer]
            theirs = (cover.reserved_fen, cover.debit_fen - cover.credit_fen)
            assert theirs == (kept["reserved"], kept["debit"] - kept["credit"])
        for (issuer, redeemer, month), fen in self.books.used.items():
            used = await settlement.used_fen(
                self.tx, agreement_id=f"agr_{issuer}_{redeemer}", month=month
            )
            assert used == fen, (issuer, redeemer, month)

    async def _compare_wallets(self) -> None:
        for member in MEMBERS:
            for wallet in await points.wallets(self.tx, member, now=self.now):
                mine = self.books.taken_first(member, wallet.issuer)
                free = sum(self.books.free(lot, self.now) for lot in mine)
                assert (wallet.available, wallet.held) == (free, sum(lot.held for lot in mine))
                assert wallet.owed == self.books.owed(member, wallet.issuer)


async def _quietly(ended: Coroutine[Any, Any, Any]) -> None:
    try:
        await ended
    except Rollback:
        return


def _nonzero(balances: Counter[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {key: amount for key, amount in sorted(balances.items()) if amount}


def _end_of_miles(at: datetime) -> datetime:
    """With the month three years after the purchase's, in Shanghai."""
    day = (at + timedelta(hours=8)).date()
    year, month = (day.year + 3, day.month + 1) if day.month < 12 else (day.year + 4, 1)
    return datetime(year, month, 1, tzinfo=UTC) - timedelta(hours=8)
