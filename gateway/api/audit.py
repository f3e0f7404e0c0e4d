"""What compliance and the regulator see: the red lines and invariants, checked now, by SQL."""

import strawberry

from gateway import invariants
from gateway.api.context import Info


@strawberry.type
class RedLine:
    """One invariant: K the red lines, L the ledger, R redemptions, W settlement, B breaks."""

    id: str
    title: str
    holds: bool
    detail: str


@strawberry.type
class AuditQuery:
    @strawberry.field
    async def red_lines(self, info: Info) -> list[RedLine]:
        """Every invariant, over all rows, as they are at one instant."""
        async with info.context.services.database.reading(one_state=True) as tx:
            found = await invariants.check(tx)
        return [
            RedLine(id=row.id, title=row.title, holds=row.ok, detail=row.detail) for row in found
        ]
