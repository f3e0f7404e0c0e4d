"""A small model of the books: what points, cover, claims and positions must be. No I/O.

It knows nothing of the product's code: lists and dictionaries, moved by the rules of the
contracts (§5.6, §5.7, §6, §8). `tests/model/test_books.py` runs it beside the real services.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import ceil

NEVER = datetime.max.replace(tzinfo=UTC)


class Refused(Exception):
    """The model says no, for any of the reasons; nothing has changed."""

    def __init__(self, reasons: set[str]) -> None:
        super().__init__(reasons)
        self.reasons = reasons


@dataclass
class Lot:
    id: str
    member: str
    issuer: str
    ref: str
    earned_on: str
    ends: datetime | None
    left: int
    held: int = 0


@dataclass
class Earning:
    member: str
    issuer: str
    points: int  # what returns have left of them
    cash_fen: int | None  # the same; None where distance earned the points
    due: datetime
    ends: datetime | None = None  # the last instant of its points
    lot: str | None = None  # once it is available


@dataclass
class Leg:
    member: str
    issuer: str
    points: int
    face_fen: int
    lots: list[tuple[str, int]] = field(default_factory=list)
    month: str = ""  # whose cap it uses


@dataclass
class Claim:
    payer: str
    payee: str
    fen: int
    kind: str
    leg: int
    cleared: bool = False
    corrects: bool = False
    settled: bool = False


@dataclass
class Sale:
    """A redemption at `redeemer`: held, burned, released or reversed."""

    redeemer: str
    legs: list[Leg]
    state: str = "held"
    claims: list[Claim] = field(default_factory=list)
    adjusted: bool = False


def half_up(fen: int, bps: int) -> int:
    return (2 * fen * bps + 10_000) // 20_000


class Books:
    """All balances, debit positive, by (book, account)."""

    def __init__(self, *, rates: dict[str, Fraction], cap_fen: int, cover_fen: int) -> None:
        self.rates = rates  # issuer: fen a point
        self.cap_fen = cap_fen  # a month and pair
        self.cover_fen = cover_fen  # an issuer
        self.balances = Counter[tuple[str, str]]()
        self.lots: dict[str, Lot] = {}
        self.earnings: dict[str, Earning] = {}
        self.sales: dict[str, Sale] = {}
        self.used = Counter[tuple[str, str, str]]()  # by issuer, redeemer and month
        self.cover: dict[str, Counter[str]] = {issuer: Counter() for issuer in rates}

    # -- moving ------------------------------------------------------------------------------

    def move(self, book: str, debit: str, credit: str, amount: int) -> None:
        self.balances[book, debit] += amount
        self.balances[book, credit] -= amount

    def points(self, issuer: str, debit: str, credit: str, amount: int) -> None:
        self.move(f"PTS:{issuer}", debit, credit, amount)

    def charge(self, issuer: str, fen: int) -> None:
        self.move(f"BUDGET:{issuer}", "BUDGET_AVAIL", "BUDGET_USED", fen)

    def reserve(self, issuer: str, fen: int) -> None:
        self.move("HUB", f"RSV:{issuer}", "RSV_CONTRA", fen)
        self.cover[issuer]["reserved"] += fen

    def owed(self, member: str, issuer: str) -> int:
        return self.balances[f"PTS:{issuer}", f"M:{member}:OWED"]

    def free(self, lot: Lot, now: datetime) -> int:
        return lot.left - lot.held if lot.ends is None or now < lot.ends else 0

    def taken_first(self, member: str, issuer: str) -> list[Lot]:
        mine = [lot for lot in self.lots.values() if (lot.member, lot.issuer) == (member, issuer)]
        return sorted(mine, key=lambda lot: (lot.ends or NEVER, lot.earned_on, lot.id))

    # -- points ------------------------------------------------------------------------------

    def open_lot(self, lot: Lot) -> None:
        self.lots[lot.id] = lot
        self.points(lot.issuer, "ISSUED", f"M:{lot.member}:AVAIL", lot.left)

    def earn(self, ref: str, made: Earning) -> None:
        self.earnings[ref] = made
        if made.points:
            self.points(made.issuer, "ISSUED", f"M:{made.member}:PENDING", made.points)
            self.charge(made.issuer, self.value(made.issuer, made.points))

    def value(self, issuer: str, points: int) -> int:
        """Declared value: whole fen, the rest is nobody's."""
        return int(points * self.rates[issuer])

    def mature(self, ref: str, lot_id: str, earned_on: str) -> None:
        """Pending points become a lot; a debt is paid first."""
        made = self.earnings[ref]
        made.lot = lot_id
        paid = min(self.owed(made.member, made.issuer), made.points)
        pending = f"M:{made.member}:PENDING"
        self.points(made.issuer, pending, f"M:{made.member}:OWED", paid)
        self.points(made.issuer, pending, f"M:{made.member}:AVAIL", made.points - paid)
        left = made.points - paid
        self.lots[lot_id] = Lot(lot_id, made.member, made.issuer, ref, earned_on, made.ends, left)

    def take_back(self, ref: str, fen: int | None) -> None:
        """A purchase is returned, or so many fen of it: what is free of its lot, then a debt.

        What stays is what the cash that is kept would have earned.
        """
        made = self.earnings[ref]
        before, stays = made.points, 0
        if fen is not None and made.cash_fen is not None:
            made.cash_fen -= fen
            stays = made.cash_fen // 100
        gone = before - stays
        made.points = stays
        if not gone:
            return
        if made.lot is None:
            self.points(made.issuer, f"M:{made.member}:PENDING", "ISSUED", gone)
        else:
            lot = self.lots[made.lot]
            here = min(lot.left - lot.held, gone)
            lot.left -= here
            self.points(made.issuer, f"M:{made.member}:AVAIL", "ISSUED", here)
            self.points(made.issuer, f"M:{made.member}:OWED", "ISSUED", gone - here)
        self.charge(made.issuer, self.value(made.issuer, stays) - self.value(made.issuer, before))

    def expire(self, now: datetime) -> int:
        """Free points that have ended go; of how many lots."""
        ended = [
            lot
            for lot in self.lots.values()
            if lot.ends and lot.ends <= now and lot.left > lot.held
        ]
        for lot in ended:
            self.points(lot.issuer, f"M:{lot.member}:AVAIL", "EXPIRED", lot.left - lot.held)
            lot.left = lot.held
        return len(ended)

    # -- redemptions -------------------------------------------------------------------------

    def hold(self, id: str, sale: Sale, now: datetime, month: str) -> None:
        """All legs or none: cap, cover and points must allow every one."""
        reasons = set[str]()
        for leg in sale.legs:
            reasons |= self.against(leg, sale.redeemer, now, month)
        if reasons:
            raise Refused(reasons)
        for leg in sale.legs:
            missing = leg.points
            for lot in self.taken_first(leg.member, leg.issuer):
                count = min(self.free(lot, now), missing)
                if count:
                    lot.held += count
                    missing -= count
                    leg.lots.append((lot.id, count))
            self.points(leg.issuer, f"M:{leg.member}:AVAIL", f"M:{leg.member}:HELD", leg.points)
            if leg.issuer != sale.redeemer:
                settled, fee = self.terms(leg.face_fen)
                self.use(sale, leg, settled, month)
                self.reserve(leg.issuer, settled + fee)
        self.sales[id] = sale

    def against(self, leg: Leg, redeemer: str, now: datetime, month: str) -> set[str]:
        """Every reason to refuse a leg."""
        reasons = set[str]()
        if leg.issuer != redeemer:
            settled, fee = self.terms(leg.face_fen)
            if self.used[leg.issuer, redeemer, month] + settled > self.cap_fen:
                reasons.add("AGREEMENT_CAP")
            if self.burden(leg.issuer) + settled + fee > self.cover_fen:
                reasons.add("COVER_EXCEEDED")
        mine = self.taken_first(leg.member, leg.issuer)
        if sum(self.free(lot, now) for lot in mine) < leg.points:
            reasons.add("INSUFFICIENT_POINTS")
        return reasons

    def use(self, sale: Sale, leg: Leg, fen: int, month: str) -> None:
        self.used[leg.issuer, sale.redeemer, month] += fen
        leg.month = month

    def burden(self, issuer: str) -> int:
        cover = self.cover[issuer]
        return cover["reserved"] + cover["debit"] - cover["credit"]

    def terms(self, face_fen: int) -> tuple[int, int]:
        settled = half_up(face_fen, 9_000)
        return settled, half_up(settled, 50)

    def release(self, id: str) -> None:
        sale = self.sales[id]
        sale.state = "released"
        for leg in sale.legs:
            for lot_id, count in leg.lots:
                self.lots[lot_id].held -= count
            self.points(leg.issuer, f"M:{leg.member}:HELD", f"M:{leg.member}:AVAIL", leg.points)
            if leg.issuer != sale.redeemer:
                settled, fee = self.terms(leg.face_fen)
                self.use(sale, leg, -settled, leg.month)
                self.reserve(leg.issuer, -settled - fee)

    def burn(self, id: str, month: str) -> None:
        """The cap counts in the month of commitment."""
        sale = self.sales[id]
        sale.state = "burned"
        for number, leg in enumerate(sale.legs, 1):
            for lot_id, count in leg.lots:
                self.lots[lot_id].held -= count
                self.lots[lot_id].left -= count
            self.points(leg.issuer, f"M:{leg.member}:HELD", self.sink(sale, leg), leg.points)
            if leg.issuer != sale.redeemer:
                settled, fee = self.terms(leg.face_fen)
                self.use(sale, leg, -settled, leg.month)
                self.use(sale, leg, settled, month)
                self.reserve(leg.issuer, -settled - fee)
                self.owe(sale, Claim(leg.issuer, sale.redeemer, settled, "REDEMPTION", number))
                self.owe(sale, Claim(leg.issuer, "HUB_FEE", fee, "FEE", number))

    def sink(self, sale: Sale, leg: Leg) -> str:
        own = leg.issuer == sale.redeemer
        return "REDEEMED_OWN" if own else f"REDEEMED_X:{sale.redeemer}"

    def owe(self, sale: Sale, claim: Claim) -> None:
        if not claim.fen:
            return
        sale.claims.append(claim)
        self.move("HUB", f"POS:{claim.payer}", f"POS:{claim.payee}", claim.fen)
        if claim.payer in self.cover:
            self.cover[claim.payer]["debit"] += claim.fen
        if claim.cleared:
            self.credit(claim)

    def credit(self, claim: Claim) -> None:
        if claim.payee in self.cover:
            self.cover[claim.payee]["credit"] += claim.fen

    def clear(self, id: str) -> None:
        sale = self.sales[id]
        for claim in sale.claims:
            if not claim.cleared:
                claim.cleared = True
                self.credit(claim)

    def give_back(self, sale: Sale, leg: Leg, count: int, *, until: datetime | None) -> None:
        """To the lots it came from, the one taken last first; a fault may prolong them."""
        self.points(leg.issuer, self.sink(sale, leg), f"M:{leg.member}:AVAIL", count)
        for number in reversed(range(len(leg.lots))):
            lot_id, spent = leg.lots[number]
            back = min(spent, count)
            count -= back
            leg.lots[number] = (lot_id, spent - back)
            lot = self.lots[lot_id]
            lot.left += back
            if back and until and lot.ends:
                lot.ends = max(lot.ends, until)
        leg.points = sum(spent for _, spent in leg.lots)

    def reverse(self, id: str, fault: str, now: datetime) -> None:
        """Cancelled after burning; a redeemer at fault bears the issuer's fee."""
        sale = self.sales[id]
        sale.state = "reversed"
        for claim in list(sale.claims):
            left = self.left(sale, claim)
            if left:
                if claim.kind == "REDEMPTION":
                    leg = sale.legs[claim.leg - 1]
                    self.use(sale, leg, -left, leg.month)
                bears = claim.kind == "FEE" and fault == "REDEEMER"
                payer = sale.redeemer if bears else claim.payee
                back = Claim(payer, claim.payer, left, claim.kind, claim.leg, True, True)
                self.owe(sale, back)
        self.clear(id)
        until = None if fault == "MEMBER" else now + timedelta(days=90)
        for leg in sale.legs:
            self.give_back(sale, leg, leg.points, until=until)

    def left(self, sale: Sale, claim: Claim) -> int:
        """What corrections have left of an original claim."""
        if claim.corrects:
            return 0
        mine = [
            other.fen
            for other in sale.claims
            if other.corrects and (other.kind, other.leg) == (claim.kind, claim.leg)
        ]
        return claim.fen - sum(mine)

    def adjust(self, id: str, fare_fen: int) -> None:
        """A lower final fare: from the last leg to the first, each rated on what it keeps."""
        sale = self.sales[id]
        sale.adjusted = True
        off = sum(leg.face_fen for leg in sale.legs) - fare_fen
        for number in reversed(range(len(sale.legs))):
            leg = sale.legs[number]
            part = min(off, leg.face_fen)
            if not part:
                continue
            off -= part
            kept_face = leg.face_fen - part
            kept_points = ceil(kept_face / self.rates[leg.issuer])
            settled, fee = self.terms(kept_face)
            for claim in list(sale.claims):
                if claim.leg == number + 1 and not claim.corrects:
                    lower = claim.fen - (settled if claim.kind == "REDEMPTION" else fee)
                    back = Claim(
                        claim.payee, claim.payer, lower, claim.kind, claim.leg, claim.cleared, True
                    )
                    if claim.kind == "REDEMPTION":
                        self.use(sale, leg, -lower, leg.month)
                    self.owe(sale, back)
            self.give_back(sale, leg, leg.points - kept_points, until=None)
            leg.face_fen = kept_face

    # -- settlement --------------------------------------------------------------------------

    def settle(self) -> Counter[tuple[str, str]]:
        """Everything cleared is netted by pair and paid; returns the payments."""
        pairs = Counter[tuple[str, str]]()
        for sale in self.sales.values():
            for claim in sale.claims:
                if claim.cleared and not claim.settled:
                    claim.settled = True
                    pairs[claim.payer, claim.payee] += claim.fen
        for (payer, payee), fen in pairs.items():
            self.move("HUB", f"POS:{payee}", f"POS:{payer}", fen)
            if payer in self.cover:
                self.cover[payer]["debit"] -= fen
            if payee in self.cover:
                self.cover[payee]["credit"] -= fen
        net = Counter[tuple[str, str]]()
        for (payer, payee), fen in pairs.items():
            net[payer, payee] += fen - pairs[payee, payer]
        return Counter({pair: fen for pair, fen in net.items() if fen > 0})
