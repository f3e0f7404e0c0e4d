"""Points and money worked out a second time, from the rules alone and in another way."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.simulation.world import World

_MOVES = """SELECT m.lot_id, m.kind, m.hold_id, m.held_delta, m.remaining_delta, m.moved_at,
              m.journal_id, l.member_id, l.programme_id, coalesce(l.expires_at, '9999'),
              l.earned_on, coalesce(h.epoch, 1), m.expires_at
            FROM points_lot_movements m JOIN points_lots l ON l.lot_id = m.lot_id
            LEFT JOIN points_holds h ON h.hold_id = m.hold_id
            ORDER BY m.rowid"""
_LEGS = """SELECT r.id, r.state, r.pricing, r.list_fen, r.final_fare_fen, l.leg_no, l.points,
             l.face_fen, l.rate_num, l.rate_den, l.returned_points, l.settlement_fen, l.fee_fen,
             CASE WHEN l.own THEN 0 ELSE a.settlement_bps END,
             CASE WHEN l.own THEN 0 ELSE a.fee_bps END
           FROM redemption_legs l JOIN redemptions r ON r.id = l.redemption_id
           LEFT JOIN settlement_agreements a ON a.agreement_id = l.agreement_id
           ORDER BY r.id, l.leg_no DESC"""
_OWED = """SELECT cause_id, leg_no, CASE WHEN type = 'FEE' OR 'HUB_FEE' IN (payer, payee)
               THEN 'fee' ELSE 'settlement' END,
             sum(CASE WHEN payer = issuer THEN amount_fen ELSE -amount_fen END)
           FROM settlement_obligations
           WHERE type IN ('REDEMPTION', 'FEE', 'REVERSAL') GROUP BY 1, 2, 3"""


@dataclass(frozen=True)
class _Leg:
    """A leg as stored, with the terms of its agreement; an own leg owes nothing."""

    redemption: str
    state: str
    pricing: str
    list_fen: int
    fare: int | None
    number: int
    points: int
    face: int
    num: int
    den: int
    returned: int
    settlement: int
    fee: int
    bps: int
    fee_bps: int

    def __str__(self) -> str:
        return f"{self.redemption} {self.state} leg {self.number}"


def half_up(value: Fraction) -> int:
    return int(value + Fraction(1, 2))


def lots_in_order(world: World) -> None:
    """Every debit took the lots that end first, and a return went to the lot taken last."""
    left: dict[str, int] = {}
    held: dict[str, int] = {}
    known: dict[str, tuple[str, ...]] = {}
    groups: list[tuple[Any, list[tuple[Any, ...]]]] = []
    for row in world.check.rows(_MOVES):
        key = (row[6], row[2])
        if not groups or groups[-1][0] != key:
            groups.append((key, []))
        groups[-1][1].append(row)
    for _, rows in groups:
        if rows[0][1] == "HOLD" and rows[0][11] == 1:
            _debit_in_order(world, rows, left, held, known)
        for lot, _, _, held_delta, delta, _, _, member, programme, end, earned, _, longer in rows:
            first = known[lot][2] if lot in known else world.check.ends.get(lot, end)
            known[lot] = (member, programme, longer or first, earned, lot)
            left[lot] = left.get(lot, 0) + delta
            held[lot] = held.get(lot, 0) + held_delta


def _debit_in_order(
    world: World,
    rows: list[tuple[Any, ...]],
    left: dict[str, int],
    held: dict[str, int],
    known: dict[str, tuple[str, ...]],
) -> None:
    taken = {row[0]: row[3] for row in rows}
    at, member, programme = rows[0][5], rows[0][7], rows[0][8]
    last = max(known[lot][2:] for lot in taken)
    for lot, (of, within, end, *rest) in known.items():
        if (of, within) != (member, programme) or end <= at or (end, *rest) >= last:
            continue
        if left[lot] - held[lot] > taken.get(lot, 0):
            world.wrong(f"hold {rows[0][2]} passed over lot {lot}, which ends {end}")


def money_adds_up(world: World) -> None:
    """What is owed for each leg is what the rules come to: half-up, of the face that was kept."""
    owed = {tuple(row[:3]): row[3] for row in world.check.rows(_OWED)}
    left_off: dict[str, int] = {}
    for row in world.check.rows(_LEGS):
        leg = _Leg(*row)
        if leg.state == "NEEDS_REVIEW":
            continue
        whole = half_up(Fraction(leg.face * leg.bps, 10_000))
        terms = whole, half_up(Fraction(whole * leg.fee_bps, 10_000))
        if (leg.settlement, leg.fee) != terms:
            world.wrong(f"{leg}: {leg.settlement} + {leg.fee} fen, not {terms}")
        _kept(world, leg, owed, left_off)


def _kept(
    world: World, leg: "_Leg", owed: dict[tuple[Any, ...], int], left_off: dict[str, int]
) -> None:
    """What a leg keeps after a lower fare, a cancellation or a release."""
    lower = leg.fare is not None and leg.pricing == "estimate" and leg.fare < leg.list_fen
    less = leg.list_fen - (leg.fare or 0) if lower else 0
    off = min(left_off.setdefault(leg.redemption, less), leg.face)
    left_off[leg.redemption] -= off
    face, points = leg.face - off, leg.points
    if off:
        points = min(points, -int(-Fraction(face * leg.den, leg.num) // 1))
    if leg.state == "CANCELLED":
        points = 0
    if leg.state not in ("COMMITTED", "LATE_CONFIRMED", "FULFILLED"):
        face = 0
    if leg.state != "RELEASED" and leg.points - leg.returned != points:
        world.wrong(f"{leg} keeps {leg.points - leg.returned} points, not {points}")
    due = half_up(Fraction(face * leg.bps, 10_000))
    found = owed.get((leg.redemption, leg.number, "settlement"), 0)
    if found != due:
        world.wrong(f"{leg}: {found} fen are owed, not {due}")
    fee = owed.get((leg.redemption, leg.number, "fee"), 0)
    if leg.state != "CANCELLED" and fee != half_up(Fraction(due * leg.fee_bps, 10_000)):
        world.wrong(f"{leg}: a fee of {fee} fen on {due}")


def cover_adds_up(world: World) -> None:
    """Caps used are what is committed or held, by agreement and month."""
    for row in world.check.rows(
        """SELECT agreement_id, usage_month, sum(n) FROM (
             SELECT agreement_id, usage_month, settlement_fen AS n FROM settlement_reservations
             WHERE state = 'RESERVED'
             UNION ALL SELECT agreement_id, usage_month, amount_fen FROM settlement_obligations
             WHERE type IN ('REDEMPTION', 'DONATION_GOODS')
             UNION ALL SELECT o.agreement_id, o.usage_month, -o.amount_fen
             FROM settlement_obligations o JOIN settlement_obligations b
               ON b.obligation_id = o.corrects_id
             WHERE o.type = 'REVERSAL' AND b.type IN ('REDEMPTION', 'DONATION_GOODS')
             UNION ALL SELECT agreement_id, month, -used_fen FROM settlement_agreement_usage
           ) GROUP BY agreement_id, usage_month"""
    ):
        off = row[2] + world.check.opening.get((row[0], row[1]), 0)
        if off:
            world.wrong(f"the cap of {row[0]} in {row[1]} is off by {-off} fen")
