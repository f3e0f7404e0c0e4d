"""`gateway recover`: after a restore, what partners know and we do not is found and ended."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway import migrations
from gateway.audit import service as audit
from gateway.operations import occupancy
from gateway.operations.backup import newest_record
from gateway.redemption.recovery import Recovered, Recovery
from gateway.runtime import Runtime
from gateway.settings import Settings

MARGIN = timedelta(minutes=10)  # before the newest record: what was under way then


@dataclass(frozen=True, slots=True)
class Report:
    """What a run of recovery came to."""

    since: datetime
    rows: Sequence[Recovered]
    unreached: Mapping[str, str]

    @property
    def counts(self) -> Mapping[str, int]:
        """How many redemptions by what became of them."""
        kinds = Counter(
            f"{'known' if row.known else 'unknown'}, {row.state}"
            + (f": {row.result}" if row.known else "")
            for row in self.rows
        )
        return dict(sorted(kinds.items()))

    @property
    def waiting(self) -> int:
        return sum(row.state == "FOUND" for row in self.rows)

    @property
    def reviews(self) -> int:
        return sum(row.state == "REVIEW" for row in self.rows)


async def recover(
    settings: Settings,
    *,
    since: datetime | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Recover over all connected partners.

    Args:
        since: Business time of the backup; by default just before the newest record there is.
    """
    with occupancy.holding(settings.url, "recover"):
        return await _recover(settings, since, progress)


async def _recover(
    settings: Settings, since: datetime | None, progress: Callable[[str, int, int], None] | None
) -> Report:
    migrations.all_tables()
    runtime = await Runtime.open(settings)
    try:
        async with runtime.database.reading() as tx:
            newest = await newest_record(tx) or runtime.clock.now()
        begin = since or newest - MARGIN
        run = Recovery(runtime.redemptions, progress=progress)
        rows = await run.run(since=begin, merchants=sorted(runtime.partners))
        done = Report(begin, rows, run.unreached)
        async with runtime.database.transaction() as tx:
            body = {"counts": dict(done.counts), "unreached": dict(done.unreached)}
            await audit.record(
                tx,
                kind="database.recovered",
                subject=begin.isoformat(),
                actor="gateway",
                body=body,
                now=runtime.clock.now(),
            )
        return done
    finally:
        await runtime.close()
