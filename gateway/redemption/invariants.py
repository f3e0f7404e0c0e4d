"""R1 to R10 of contracts §9, but R7, and E1 to E3 of the events, by SQL.

Over this room's tables; for R6 also holds and lots, and for E1 to E3 what was told of it.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.db import Instant
from gateway.ledger.model import Result
from gateway.redemption.model import State
from gateway.redemption.store import redemptions

DOUBT = timedelta(hours=24)
PATIENCE = timedelta(minutes=10)  # A partner may ask for five minutes; then a worker looks at it.

_OLD_DOUBTS = (
    sa.select(redemptions.c.id)
    .where(
        redemptions.c.state == str(State.IN_DOUBT),
        redemptions.c.doubt_since < sa.bindparam("before", type_=Instant),
    )
    .order_by(redemptions.c.doubt_since)
    .limit(5)
)

_CHECKS: tuple[tuple[str, str, str], ...] = (
    (
        "R1",
        "points burned exactly where the partner has confirmed",
        """SELECT r.id FROM redemptions r WHERE r.state <> 'NEEDS_REVIEW' AND
             (r.state IN ('COMMITTED','FULFILLED','LATE_CONFIRMED','CANCELLING','CANCELLED')
              OR (r.state = 'IN_DOUBT' AND r.doubt = 'cancel'))
             <> EXISTS (SELECT 1 FROM ledger_journals j
                        WHERE j.cause_id = r.id AND j.kind = 'COMMIT')
           UNION ALL
           SELECT j.cause_id FROM ledger_journals j WHERE j.kind = 'COMMIT'
             AND j.cause_id LIKE 'red\\_%' ESCAPE '\\'
             AND NOT EXISTS (SELECT 1 FROM redemptions r WHERE r.id = j.cause_id
                             AND r.committed_at IS NOT NULL)
           UNION ALL
           SELECT r.id FROM redemptions r WHERE r.committed_at IS NOT NULL
             AND r.created_at >= (SELECT occurred_at FROM events ORDER BY number LIMIT 1)
             AND NOT EXISTS (SELECT 1 FROM partner_facts f WHERE f.redemption_id = r.id
                             AND f.outcome = 'confirmed')""",
    ),
    (
        "R2",
        "returned + burned + held = accepted points, per leg",
        """SELECT l.redemption_id FROM redemption_legs l JOIN redemptions r
             ON r.id = l.redemption_id
           WHERE (r.state = 'CANCELLED' AND l.returned_points <> l.points)
              OR (r.state IN ('HOLDING','HELD','CONFIRMING','IN_DOUBT')
                  AND COALESCE(r.doubt, '') <> 'cancel' AND l.returned_points <> 0)
              OR l.returned_points > l.points""",
    ),
    (
        "R3",
        "nothing left doubt without the partner's word, its fence or four eyes",
        """SELECT r.id FROM redemptions r WHERE r.state = 'RELEASED'
             AND EXISTS (SELECT 1 FROM partner_calls c WHERE c.redemption_id = r.id
                         AND c.verb = 'confirm' AND c.state IN ('UNKNOWN', 'PENDING'))
             AND NOT EXISTS (SELECT 1 FROM partner_facts f WHERE f.redemption_id = r.id
                             AND f.outcome IN ('rejected','fenced','released','cancelled'))
             AND NOT EXISTS (SELECT 1 FROM redemption_review_resolutions v
                             WHERE v.redemption_id = r.id AND v.state = 'APPROVED'
                             AND v.outcome = 'RELEASE')""",
    ),
    (
        "R4",
        "at most one epoch of a redemption holds or has burned points",
        """SELECT h.redemption_id FROM points_holds h WHERE h.state IN ('HELD', 'POSTED')
           GROUP BY h.redemption_id HAVING COUNT(DISTINCT h.epoch) > 1""",
    ),
    (
        "R5",
        "every answered partner call had its outbox row",
        """SELECT f.op_key FROM partner_facts f WHERE f.source IN ('answer', 'poll', 'fence')
             AND NOT EXISTS (SELECT 1 FROM partner_calls c WHERE c.op_key = f.op_key
                             AND c.body_hash <> '')""",
    ),
    (
        "R6",
        "an open hold belongs to a redemption that is still undecided, and the other way round",
        """SELECT h.redemption_id FROM points_holds h JOIN redemptions r
             ON r.id = h.redemption_id WHERE h.state = 'HELD'
             AND (r.state NOT IN ('HOLDING','HELD','CONFIRMING','IN_DOUBT','NEEDS_REVIEW')
                  OR r.doubt = 'cancel')
           UNION ALL
           SELECT r.id FROM redemptions r WHERE r.state <> 'NEEDS_REVIEW' AND
             (r.state IN ('HOLDING','HELD','CONFIRMING')
              OR (r.state = 'IN_DOUBT' AND r.doubt <> 'cancel'))
             AND NOT EXISTS (SELECT 1 FROM points_holds h WHERE h.redemption_id = r.id
                             AND h.state = 'HELD')""",
    ),
    (
        "R9",
        "faces + cash = list price; one REDEMPTION obligation per foreign leg and epoch",
        """SELECT r.id FROM redemptions r JOIN redemption_legs l ON l.redemption_id = r.id
           GROUP BY r.id, r.list_fen, r.cash_fen
           HAVING SUM(l.face_fen) + r.cash_fen <> r.list_fen
           UNION ALL
           SELECT l.redemption_id FROM redemption_legs l JOIN redemptions r
             ON r.id = l.redemption_id
           WHERE r.committed_at IS NOT NULL AND NOT l.own AND 1 <> (
             SELECT COUNT(*) FROM settlement_obligations o WHERE o.cause_id = r.id
               AND o.type = 'REDEMPTION' AND o.leg_no = l.leg_no AND o.epoch = r.epoch)""",
    ),
    (
        "R10",
        "a final fare is applied once and only lowers",
        """SELECT j.cause_id FROM ledger_journals j WHERE j.kind = 'FARE_ADJUST'
           GROUP BY j.cause_id HAVING COUNT(*) > (
             SELECT COUNT(*) FROM redemption_legs l WHERE l.redemption_id = j.cause_id)
           UNION ALL
           SELECT r.id FROM redemptions r WHERE r.final_fare_fen IS NOT NULL
             AND r.final_fare_fen < 0""",
    ),
    (
        "E1",
        "events count from 1 per object, without a gap",
        """SELECT object_id FROM events GROUP BY object_id HAVING max(seq) <> count(*)
           UNION ALL
           SELECT r.id FROM redemptions r WHERE r.told <>
             (SELECT coalesce(max(e.seq), 0) FROM events e WHERE e.object_id = r.id)""",
    ),
    (
        "E2",
        "the last event of a redemption says its state",
        """SELECT r.id FROM redemptions r WHERE r.state <> 'HOLDING'
             AND r.created_at >= (SELECT occurred_at FROM events ORDER BY number LIMIT 1)
             AND NOT EXISTS (
             SELECT 1 FROM events e WHERE e.object_id = r.id
               AND e.type = 'redemption.' || lower(r.state)
               AND e.seq = r.told)""",
    ),
    (
        "E3",
        "every event has its place in the feeds",
        """SELECT e.object_id FROM events e JOIN event_router r ON e.number <= r.low
           WHERE NOT EXISTS (SELECT 1 FROM event_feed f WHERE f.number = e.number)""",
    ),
)


async def check(tx: AsyncConnection, *, now: datetime) -> list[Result]:
    """Run every check; `detail` names up to five offenders.

    Args:
        now: Business time.
    """
    results = []
    for name, title, query in _CHECKS:
        rows = [str(row[0]) for row in (await tx.execute(text(query))).fetchmany(5)]
        results.append(Result(name, title, not rows, ", ".join(rows)))
    return results + await standing(tx, now=now)


async def standing(tx: AsyncConnection, *, now: datetime) -> list[Result]:
    """Check R8, which is cheap: only a person ends a doubt that is older than a day."""
    rows = (await tx.scalars(_OLD_DOUBTS, {"before": now - DOUBT - PATIENCE})).all()
    title = "nothing is in doubt for more than a day and not for a person"
    return [Result("R8", title, not rows, ", ".join(rows))]
