"""What Hypothesis chooses from: only what can act in the present state, in sizes that matter."""

import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.settlement.model import Fault
from gateway.values import month_of
from tests.model.beside import MEMBERS, OPENED, PROGRAMME, RATES, REDEEMERS, Beside, World
from tests.model.reference import Leg

Limit = tuple[str, str, str, str, int]  # what refuses, member, redeemer, issuer, points
FAULTS = [Fault.REDEEMER, Fault.MEMBER, Fault.ISSUER, Fault.GATEWAY]  # The first most often.
MOST = 10_000  # points of a leg
SECOND = timedelta(seconds=1)


class Machine(RuleBasedStateMachine):
    """One example: a world's beginning, and one act after the other.

    One rule draws the act, by weight, from those that can act: of many rules Hypothesis switches
    most off in an example, and a purchase that is never burned has nothing to reverse.
    """

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.beside = Beside(self.world)
        self.books = self.beside.books

    def teardown(self) -> None:
        self.beside.end()

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        possible = [act for act, weight in self.weighed() for _ in range(weight)]
        chosen = data.draw(st.sampled_from(possible))
        note(f"act: {chosen.__name__}")
        chosen(data)
        self.world.seen["acts"] += 1

    def weighed(self) -> list[tuple[Callable[[Any], None], int]]:
        """Acts with their weights, 0 for one that has nothing to act on.

        The simplest example takes the first that can act, again and again: so the late ones come
        first, and it is a whole life of a redemption.
        """
        held, burned = self.in_state("held"), self.in_state("burned")
        return [
            (self.settle, 2 * any(self.claims(cleared=True))),
            (self.fulfil, 3 * bool(self.unfulfilled())),
            (self.lower_fare, 3 * bool(self.adjustable())),
            (self.reverse, 2 * bool(burned)),
            (self.burn, 5 * bool(held)),
            (self.release, 2 * bool(held)),
            (self.sell, 6 * bool(self.buyers()) if len(held) < 5 else 0),
            (self.spend_all, 4 * bool(self.unspent())),
            (self.be_refused, 3),
            (
                self.take_back,
                3 * bool(self.returnable()) + 5 * any(map(self.spent, self.returnable())),
            ),
            (self.earn, 4 + 8 * bool(self.owing())),
            (self.pass_time, 1 + bool(self.ends()) + 2 * bool(self.pending())),
            (self.another_lot, 1),
        ]

    # -- redemptions -------------------------------------------------------------------------

    def sell(self, data: st.DataObject) -> None:
        """A hold that nothing forbids, often up to the last point or fen."""
        member, redeemer = data.draw(st.sampled_from(self.buyers()), "sold to, at")
        rooms = {issuer: self.room(member, redeemer, issuer) for issuer in sorted(PROGRAMME)}
        able = [issuer for issuer, n in rooms.items() if n]
        legs = [
            (issuer, data.draw(_some(rooms[issuer]), f"points of {issuer}"))
            for issuer in data.draw(st.lists(st.sampled_from(able), min_size=1, unique=True))
        ]
        red = self.beside.hold(member, redeemer, legs)
        assert red in self.books.sales, "there was room"

    def spend_all(self, data: st.DataObject) -> None:
        """All that a member has, an earned lot included, at the issuer itself: no limit there."""
        member, issuer = data.draw(st.sampled_from(self.unspent()), "wallet")
        self.beside.hold(member, issuer, [(issuer, self.free(member, issuer))])

    def be_refused(self, data: st.DataObject) -> None:
        """A hold with one leg that is a little or much too big, beside one that is not."""
        limits = self.limits()
        what = data.draw(st.sampled_from(sorted({limit[0] for limit in limits})), "refused by")
        of = [limit[1:] for limit in limits if limit[0] == what]
        member, redeemer, issuer, n = data.draw(st.sampled_from(of), "too much of")
        legs = [(issuer, n + data.draw(st.sampled_from([0, 0, 1, 50])))]
        for other in data.draw(st.lists(st.sampled_from(sorted(PROGRAMME)), unique=True)):
            room = self.room(member, redeemer, other)
            if other != issuer and room:
                legs.insert(0, (other, data.draw(_some(room), f"points of {other}")))
        red = self.beside.hold(member, redeemer, legs)
        assert red not in self.books.sales, "there was no room"

    def burn(self, data: st.DataObject) -> None:
        self.beside.burn(data.draw(st.sampled_from(self.in_state("held")), "burned"))

    def release(self, data: st.DataObject) -> None:
        self.beside.release(data.draw(st.sampled_from(self.in_state("held")), "released"))

    def reverse(self, data: st.DataObject) -> None:
        red = data.draw(st.sampled_from(self.in_state("burned")), "reversed")
        self.beside.reverse(red, data.draw(st.sampled_from(FAULTS), "fault"))

    def lower_fare(self, data: st.DataObject) -> None:
        red = data.draw(st.sampled_from(self.adjustable()), "adjusted")
        whole = sum(leg.face_fen for leg in self.books.sales[red].legs)
        self.beside.lower_fare(red, data.draw(st.integers(0, whole - 1), "fare"))

    def fulfil(self, data: st.DataObject) -> None:
        self.beside.fulfil(data.draw(st.sampled_from(self.unfulfilled()), "fulfilled"))

    def settle(self, _: st.DataObject) -> None:
        self.beside.settle()

    # -- points ------------------------------------------------------------------------------

    def another_lot(self, data: st.DataObject) -> None:
        member, issuer = data.draw(st.sampled_from(_wallets()), "wallet")
        n = data.draw(st.integers(1, OPENED[issuer]), "points")
        self.beside.another_lot(member, issuer, n, data.draw(st.integers(1, 40), "days"))

    def earn(self, data: st.DataObject) -> None:
        """Often where something is owed."""
        member, issuer = data.draw(st.sampled_from(_wallets() + 4 * self.owing()), "wallet")
        much = st.integers(1, 999) if issuer == "M11" else st.integers(100, 90_000)
        drawn = data.draw(much, "kilometres" if issuer == "M11" else "fen")
        self.beside.earn(member, issuer, drawn, consumed=data.draw(st.booleans(), "consumed"))

    def take_back(self, data: st.DataObject) -> None:
        """A return; half of them of a purchase of which something is held or spent, if any is."""
        spent = [ref for ref in self.returnable() if self.spent(ref)]
        half = data.draw(st.booleans(), "of the spent ones")
        refs = spent if spent and half else self.returnable()
        ref = data.draw(st.sampled_from(refs), "returned")
        cash, fen = self.books.earnings[ref].cash_fen, None
        if cash and data.draw(st.booleans(), "in part"):
            fen = data.draw(st.integers(1, cash), "fen")
        self.beside.take_back(ref, fen)

    def pass_time(self, data: st.DataObject) -> None:
        """Some days, or to the very instant at which a lot ends."""
        later = [self.beside.now + timedelta(days=days) for days in (8, 1, 35)]
        self.beside.pass_time(data.draw(st.sampled_from(later + self.ends()), "until"))

    # -- what can act ------------------------------------------------------------------------

    def in_state(self, *states: str) -> list[str]:
        return [red for red, sale in self.books.sales.items() if sale.state in states]

    def claims(self, *, cleared: bool) -> list[Any]:
        every = [claim for sale in self.books.sales.values() for claim in sale.claims]
        return [claim for claim in every if claim.cleared is cleared and not claim.settled]

    def unfulfilled(self) -> list[str]:
        sales = self.books.sales
        return [
            red
            for red in self.in_state("burned")
            if any(not claim.cleared for claim in sales[red].claims)
        ]

    def adjustable(self) -> list[str]:
        return [red for red in self.in_state("burned") if not self.books.sales[red].adjusted]

    def returnable(self) -> list[str]:
        return [ref for ref, made in self.books.earnings.items() if made.points]

    def owing(self) -> list[tuple[str, str]]:
        return [wallet for wallet in _wallets() if self.books.owed(*wallet)]

    def pending(self) -> list[str]:
        return [ref for ref in self.returnable() if self.books.earnings[ref].lot is None]

    def unspent(self) -> list[tuple[str, str]]:
        """Wallets at a redeemer that have earned something, and hold and spent nothing of it."""
        made = {ref: self.books.earnings[ref] for ref in self.returnable()}
        return [
            (one.member, one.issuer)
            for ref, one in made.items()
            if one.issuer in REDEEMERS and one.lot and not self.spent(ref)
            if self.free(one.member, one.issuer)
        ]

    def spent(self, ref: str) -> bool:
        made = self.books.earnings[ref]
        if made.lot is None:
            return False
        lot = self.books.lots[made.lot]
        return lot.left - lot.held < made.points

    def ends(self) -> list[Any]:
        """Just before the next lots end: the two operations of passing time take a second each."""
        lots = [lot for lot in self.books.lots.values() if lot.left > lot.held]
        ends = {lot.ends - 2 * SECOND for lot in lots if lot.ends}
        return sorted(end for end in ends if end > self.beside.now)[:2]

    def buyers(self) -> list[tuple[str, str]]:
        """Members with redeemers that can sell them something."""
        return [
            pair
            for pair in itertools.product(MEMBERS, REDEEMERS)
            if any(self.room(*pair, issuer) for issuer in PROGRAMME)
        ]

    def room(self, member: str, redeemer: str, issuer: str) -> int:
        """The most points that one leg can take."""
        allowed = self.allowed(redeemer, issuer)
        return min(self.free(member, issuer), *(n for _, n in allowed))

    def free(self, member: str, issuer: str) -> int:
        mine = self.books.taken_first(member, issuer)
        return sum(self.books.free(lot, self.beside.now + SECOND) for lot in mine)

    def allowed(self, redeemer: str, issuer: str) -> list[tuple[str, int]]:
        """The most points that each limit of an agreement lets a leg have."""
        if issuer == redeemer:
            return [("", MOST)]
        at = self.beside.now + SECOND
        most = {}
        for code in ("AGREEMENT_CAP", "COVER_EXCEEDED"):
            least, beyond = 0, MOST
            while beyond - least > 1:
                n = (least + beyond) // 2
                leg = Leg("", issuer, n, int(n * RATES[issuer]))
                refused = code in self.books.against(leg, redeemer, at, month_of(at))
                least, beyond = (least, n) if refused else (n, beyond)
            most[code] = least
        return sorted(most.items())

    def limits(self) -> list[Limit]:
        """The limit that each member, redeemer and issuer meets first, and the least beyond it."""
        found: list[Limit] = []
        for member, redeemer, issuer in itertools.product(MEMBERS, REDEEMERS, sorted(PROGRAMME)):
            rooms = [("", self.free(member, issuer)), *self.allowed(redeemer, issuer)]
            code, n = min(rooms, key=lambda room: room[1])
            found.append((code or "INSUFFICIENT_POINTS", member, redeemer, issuer, n + 1))
        return found

    # -- what must be the same ---------------------------------------------------------------

    @invariant()
    def every_account_is_the_same(self) -> None:
        self.beside.accounts_are_the_same()

    @invariant()
    def every_lot_is_the_same(self) -> None:
        self.beside.lots_are_the_same()

    @invariant()
    def cover_and_wallets_are_the_same(self) -> None:
        self.beside.cover_and_wallets_are_the_same()


def _wallets() -> list[tuple[str, str]]:
    return list(itertools.product(MEMBERS, sorted(PROGRAMME)))


def _some(room: int) -> st.SearchStrategy[int]:
    """A part of the room, more often a small one; one time in four all of it."""
    part = st.integers(1, max(1, room // 2))
    return st.sampled_from([part, part, part, st.just(room)]).flatmap(lambda size: size)
