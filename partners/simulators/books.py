"""What issuers owe the merchant, as its own books say: one line a foreign leg.

The merchant works it out itself: half-up(face × bps) of each claim, the rates by issuer from its
configuration. A line is booked on the business day of fulfilment; a cancellation before that books
both rows on its own day; a lower final fare takes the difference off the last leg first.
Source: requirements §4.4, contracts §5.7.
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from gateway.ports import Claim, Statement, StatementLine
from gateway.values import bps_half_up, business_day, fingerprint, start_of
from partners.simulators.config import Merchant
from partners.simulators.faults import Faults, Who
from partners.simulators.store import Store
from partners.simulators.words import Declined


@dataclass(frozen=True, slots=True)
class Line:
    """One booked row; a reversal has a negative amount."""

    type: str
    issuer: str
    leg: int
    face_fen: int
    amount_fen: int


def rate_of(merchant: Merchant, issuer: str) -> int:
    """What an issuer pays, in bps of face.

    Raises:
        Declined: There is no agreement with it.
    """
    bps = merchant.rates.get(issuer, merchant.rates.get("*"))
    if bps is None:
        raise Declined("ISSUER_NOT_AGREED", issuer=issuer)
    return bps


def check_claims(merchant: Merchant, claims: Sequence[Claim], list_fen: int) -> None:
    """Refuse claims that no agreement covers, or that are more than the price."""
    if any(claim.face_fen < 0 for claim in claims):
        raise Declined("BAD_REQUEST", rule="a face of 0 fen or more")
    if sum(claim.face_fen for claim in claims) > list_fen:
        raise Declined("BAD_REQUEST", rule="faces within the list price")
    for claim in claims:
        if claim.issuer != merchant.id:
            rate_of(merchant, claim.issuer)


def redeemed(merchant: Merchant, claims: Sequence[Claim]) -> list[Line]:
    """The rows of a whole booking, in leg order; own legs make none."""
    return [
        Line("REDEMPTION", c.issuer, leg, c.face_fen, _worth(merchant, c.issuer, c.face_fen))
        for leg, c in enumerate(claims)
        if c.issuer != merchant.id and _worth(merchant, c.issuer, c.face_fen)
    ]


def given_back(merchant: Merchant, claims: Sequence[Claim], less_fen: int) -> list[Line]:
    """The partial reversals of a fare that came out `less_fen` lower, last leg first."""
    lines = []
    for leg, claim in reversed(list(enumerate(claims))):
        taken = min(claim.face_fen, max(less_fen, 0))
        less_fen -= taken
        if claim.issuer == merchant.id:
            continue
        kept = _worth(merchant, claim.issuer, claim.face_fen - taken)
        back = _worth(merchant, claim.issuer, claim.face_fen) - kept
        if back:
            lines.append(Line("REVERSAL", claim.issuer, leg, taken, -back))
    return lines


def fulfilled(
    store: Store, merchant: Merchant, booking: sqlite3.Row, fare_fen: int, now: datetime
) -> None:
    """Book a consumed benefit, with what its final fare gives back."""
    claims = claims_of(booking)
    lines = redeemed(merchant, claims)
    lines += given_back(merchant, claims, booking["list_fen"] - fare_fen)
    _book(store, booking, lines, now)


def cancelled(store: Store, merchant: Merchant, booking: sqlite3.Row, now: datetime) -> None:
    """Book a cancellation: what was booked is reversed; what was not is booked and reversed."""
    rows = store.rows("SELECT * FROM lines WHERE booking_ref = ? ORDER BY id", booking["ref"])
    net: dict[tuple[int, str], int] = {}
    for row in rows:
        key = (row["leg"], row["issuer"])
        net[key] = net.get(key, 0) + row["amount_fen"]
    lines = [] if rows else redeemed(merchant, claims_of(booking))
    for line in lines:
        net[line.leg, line.issuer] = line.amount_fen
    lines += [
        Line("REVERSAL", issuer, leg, 0, -amount) for (leg, issuer), amount in net.items() if amount
    ]
    _book(store, booking, lines, now)


def claims_of(booking: sqlite3.Row) -> list[Claim]:
    return [Claim(issuer, face_fen) for issuer, face_fen in json.loads(booking["claims"])]


def statement(
    store: Store, faults: Faults, merchant: Merchant, day: date, *, now: datetime
) -> Statement:
    """The statement of a finished business day; its version rises when its content changes.

    Raises:
        Declined: The day is not over (STATEMENT_NOT_READY).
    """
    ready_at = start_of(day + timedelta(days=1))
    if now < ready_at:
        raise Declined("STATEMENT_NOT_READY", ready_at=ready_at.isoformat())
    rows = store.rows(
        "SELECT l.*, b.gateway_ref, b.offer_id, b.member_ref, b.claims, b.list_fen FROM lines l"
        " JOIN bookings b ON b.ref = l.booking_ref WHERE l.day = ? ORDER BY l.id",
        day.isoformat(),
    )
    printed = [line for row in rows for line in _printed(row, faults, merchant, day)]
    lines = tuple(replace(line, line=number) for number, line in enumerate(printed, 1))
    return Statement(
        merchant=merchant.id,
        business_date=day,
        version=_version(store, day, lines),
        lines=lines,
        trailer_count=len(lines),
        trailer_sum_fen=sum(line.amount_fen for line in lines),
    )


def _printed(
    row: sqlite3.Row, faults: Faults, merchant: Merchant, day: date
) -> Iterator[StatementLine]:
    """A booked row as the statement prints it: not at all, twice or wrongly, if a fault says so."""
    who = Who(row["member_ref"], row["offer_id"])
    if faults.find("statement_row_missing", who):
        return
    amount = row["amount_fen"]
    claims = claims_of(row)
    if (fault := faults.find("statement_list_fen", who)) and row["type"] == "REDEMPTION":
        last_leg = max(leg for leg, c in enumerate(claims) if c.issuer != merchant.id)
        if row["leg"] == last_leg:
            face = row["face_fen"] + int(fault.value) - row["list_fen"]
            amount = _worth(merchant, row["issuer"], max(face, 0))
    if fault := faults.find("statement_amount_off", who):
        amount += int(fault.value or 1)
    line = StatementLine(
        line=0,
        gateway_ref=row["gateway_ref"],
        partner_ref=row["booking_ref"],
        type=row["type"],
        issuer=row["issuer"],
        amount_fen=amount,
        business_date=day,
        offer_id=row["offer_id"],
        member_ref=row["member_ref"],
    )
    yield line
    if faults.find("statement_row_doubled", who):
        yield line


def _version(store: Store, day: date, lines: Sequence[StatementLine]) -> int:
    mark = fingerprint([[li.partner_ref, li.type, li.issuer, li.amount_fen] for li in lines])
    with store.transaction() as db:
        last = store.row(
            "SELECT version, hash FROM statements WHERE day = ? ORDER BY version DESC LIMIT 1",
            day.isoformat(),
        )
        if last is not None and last["hash"] == mark:
            return int(last["version"])
        version = (last["version"] if last is not None else 0) + 1
        db.execute("INSERT INTO statements VALUES (?, ?, ?)", (day.isoformat(), version, mark))
    return version


def _worth(merchant: Merchant, issuer: str, face_fen: int) -> int:
    return bps_half_up(face_fen, rate_of(merchant, issuer))


def _book(store: Store, booking: sqlite3.Row, lines: Sequence[Line], now: datetime) -> None:
    day = business_day(now).isoformat()
    for line in lines:
        store.db.execute(
            "INSERT INTO lines (day, booking_ref, type, issuer, leg, face_fen, amount_fen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (day, booking["ref"], line.type, line.issuer, line.leg, line.face_fen, line.amount_fen),
        )


def trailer(statement_of_day: Statement) -> Mapping[str, int]:
    """Count and signed sum, as every vertical prints them."""
    return {
        "count": statement_of_day.trailer_count,
        "sum_fen": statement_of_day.trailer_sum_fen,
    }
