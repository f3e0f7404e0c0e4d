"""L6 of contracts §9: the audit chain verifies, no gap."""

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service
from gateway.audit.model import BrokenChain
from gateway.ledger.model import Result

AT_ONCE = 100  # links: requests of the process wait for no more


async def check(tx: AsyncConnection) -> list[Result]:
    """Check L6."""
    title = "the hash chain verifies, no gap"
    try:
        found = await service.verify(tx, batch=AT_ONCE)
    except BrokenChain as broken:
        return [Result("L6", title, ok=False, detail=str(broken))]
    return [Result("L6", title, ok=True, detail=f"{found.links} links, {found.heads} heads")]
