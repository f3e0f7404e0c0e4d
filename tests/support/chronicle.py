"""Everything that is kept of a redemption, and what its partner was asked, as lines of text.

The redemption's id is `red`, instants are counted from the morning the tests begin.
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import astuple, fields, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import jobs
from gateway.db import Database
from gateway.events import service as events
from gateway.ledger import service as ledger
from gateway.ports import past_held
from gateway.redemption import review_rows, store
from gateway.redemption.model import Redemption, Step
from gateway.settlement import service as settlement
from gateway.values import SHANGHAI, fingerprint
from tests.support.issuers import printed
from tests.support.scripted import ScriptedPartner

VERBS = ("hold", "confirm", "cancel_quote", "cancel", "status", "fence")
_RANDOM = re.compile(r"\b(cnq|rvw|red)_\w+")  # Ids of other things.
GIVEN = ("id", "legs", "quote_id", "kind", "category", "pricing", "offer_id", "merchant_id")


class Asked:
    """Notes what a scripted partner is asked, from now on.

    Args:
        database: To note where nobody has the lease of the redemption that is asked about.
    """

    def __init__(self, partner: ScriptedPartner, database: Database | None = None) -> None:
        self.lines: list[str] = []
        self.partner = partner
        self.database = database
        for verb in VERBS:
            setattr(partner, verb, self._noting(verb, getattr(partner, verb)))

    def _noting(self, verb: str, call: Any) -> Any:
        @functools.wraps(call)
        async def noted(*args: Any, **more: Any) -> Any:
            said = [*map(_word, args), *(f"{name}={_word(value)}" for name, value in more.items())]
            free = await self._free(str(more.get("op_key", args[0])))
            ease = "" if past_held.get() else " (at ease)"
            self.lines.append(f"{verb} {', '.join(said)}{ease}{' (not leased)' if free else ''}")
            return await call(*args, **more)

        return noted

    async def _free(self, op_key: str) -> bool:
        """Whether nobody has the lease of what an op key names."""
        if self.database is None:
            return False
        r = store.redemptions.c
        async with self.database.reading() as tx:
            query = sa.select(r.id).where(
                r.id == op_key.split(":", maxsplit=1)[0], r.leased_until.is_(None)
            )
            return await tx.scalar(query) is not None


def plain(line: str, redemption: Redemption) -> str:
    """A line without ids that are made anew each time."""
    return _RANDOM.sub(r"another \1", line.replace(redemption.id, "red"))


def _word(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(f"{claim.issuer} {claim.face_fen}" for claim in value)
    return value.isoformat() if isinstance(value, datetime) else str(value)


class Chronicle:
    """Reads what is kept; `lines` compares as text."""

    def __init__(self, morning: datetime) -> None:
        self.morning = morning

    async def kept(self, tx: AsyncConnection, redemption: Redemption) -> list[str]:
        """The row, calls, facts, webhooks, findings, voucher, review, jobs, events, journals,
        claims."""
        found = await store.find(tx, redemption.id)
        assert found
        lines = [self._row(found) + await self._lease(tx, found)]
        lines += sorted(self._call(found, row) for row in await store.call_log(tx, found.id))
        lines += sorted(self._fact(row) for row in await review_rows.all_facts(tx, [found.id]))
        lines += await self._heard(tx, found)
        mine = store.findings.c.redemption_id == found.id
        for row in await store.list_findings(tx, mine):
            lines.append(f"finding {row.code}: {row.detail} {self._at(row.found_at)}")
        for row in (await store.voucher_of(tx, [found.id])).values():
            code = row.code if row.code == row.artefacts.get("code") else "of ours"
            used = self._at(row.used_at)
            lines.append(f"voucher {code} {row.state} {row.merchant_id} {row.holder} {used}")
        for row in await review_rows.find(tx, store.reviews.c.redemption_id == found.id):
            until = f"{self._at(row.opened_at)} to {self._at(row.due_at)}"
            lines.append(f"review {row.reason}: {row.came_from}, {row.step}, {until}, {row.owner}")
        v = store.review_resolutions.c
        for row in await review_rows.find_resolutions(tx, v.redemption_id == found.id):
            who = f"{row.proposed_by} {self._at(row.proposed_at)}, {row.approved_by}"
            what = f"{row.outcome} {row.fault} {row.evidence} {row.note} {row.amount_fen}"
            lines.append(f"decision {what} {row.state} {who} {self._at(row.approved_at)}")
        rows = await tx.execute(sa.select(jobs.jobs).order_by(jobs.jobs.c.key))
        lines += [
            f"job {row.name} {row.key} {row.lane} {_plain(row.payload)}"
            for row in rows
            if row.payload.get("redemption") == found.id
        ]
        lines += await self._told(tx, found)
        for _, journal in reversed(await ledger.entries(tx, limit=999)):
            if journal.op_key.startswith(f"{found.id}:"):
                ordered = replace(journal, lines=tuple(sorted(journal.lines, key=astuple)))
                lines.append(f"{journal.op_key} {journal.actor}: {printed(ordered)}")
        claims = await settlement.obligations(tx, cause_id=found.id)
        lines += sorted(f"{o.payer} owes {o.payee} {o.amount_fen} {o.state}" for o in claims)
        return [plain(line, found) for line in lines]

    def _at(self, instant: datetime | None) -> str:
        return "" if instant is None else f"+{(instant - self.morning).total_seconds():.0f}s"

    def _row(self, found: Redemption) -> str:
        values = {
            each.name: getattr(found, each.name)
            for each in fields(found)
            if each.name not in GIVEN and getattr(found, each.name) not in (None, 0, False)
        }
        words = [
            f"{name} {self._at(value) if isinstance(value, datetime) else value}"
            for name, value in values.items()
        ]
        returned = [f"{leg.leg_no}: {leg.returned_points}" for leg in found.legs]
        return ", ".join([*words, f"returned {' '.join(returned)}"])

    async def _lease(self, tx: AsyncConnection, found: Redemption) -> str:
        r = store.redemptions.c
        until = await tx.scalar(sa.select(r.leased_until).where(r.id == found.id))
        return ", leased" if until else ""

    async def _heard(self, tx: AsyncConnection, found: Redemption) -> list[str]:
        """Webhooks about it, and what became of them."""
        e = store.events.c
        rows = await tx.execute(sa.select(store.events).order_by(e.received_at, e.event_id))
        return [
            f"heard {row.event_id} {row.body['kind']} v{row.body['version']}: {row.outcome}"
            f" {self._at(row.applied_at)}, use {row.use_version}"
            for row in rows
            if row.redemption_id == found.id
        ]

    def _call(self, found: Redemption, row: sa.Row[Any]) -> str:
        bodies: dict[str, Mapping[str, Any]] = {
            "quote": {"quote": found.partner_quote_id},
            "hold and deadline": {"hold": found.hold_ref, "deadline": _there(found.deadline)},
            "stored hold and deadline": {"hold": found.hold_ref, "deadline": found.deadline},
            "cancellation": {"cancel_quote": f"cq/{found.booking_ref}"},
        }
        bodies |= {str(step): {"op_key": found.op_key(step)} for step in Step}
        by_hash = {fingerprint(body): name for name, body in bodies.items()}
        body = by_hash.get(row.body_hash, "?")
        when = f"{self._at(row.queued_at)} to {self._at(row.answered_at)}"
        detail = f": {row.detail}" if row.detail else ""
        return f"call {row.verb} {row.attempt} {row.op_key} of {body} {row.state} {when}{detail}"

    def _fact(self, row: sa.Row[Any]) -> str:
        words = f"fact {row.op_key} {row.outcome} v{row.version} {row.source} {row.booking_ref}"
        return f"{words} {_plain(row.body)} {self._at(row.recorded_at)}"

    async def _told(self, tx: AsyncConnection, found: Redemption) -> list[str]:
        lines = []
        for event in reversed(await events.newest_events(tx, since=None, limit=99)):
            if event.object_id.split(".")[0] == found.id:
                assert event.member_id == found.member_id
                who = "+".join(event.merchants)
                at = self._at(event.occurred_at)
                lines.append(f"told {event.seq} {event.type} {who} {_plain(event.data)} {at}")
        return lines


def _there(instant: datetime | None) -> datetime | None:
    return instant and instant.astimezone(SHANGHAI)


def _plain(values: Mapping[str, Any]) -> str:
    return " ".join(
        f"{name}={_sorted(value)}"
        for name, value in sorted(values.items())
        if value not in (None, {})
    )


def _sorted(value: Any) -> Any:
    """An object with its names in one order: each database has its own."""
    return dict(sorted(value.items())) if isinstance(value, dict) else value
