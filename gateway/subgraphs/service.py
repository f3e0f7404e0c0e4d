"""Publish and unpublish subgraphs, activate versions of the one graph, keep saved operations."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.audit import service as audit
from gateway.errors import NotFound
from gateway.subgraphs import store
from gateway.subgraphs.model import (
    Impact,
    Live,
    Operation,
    Prefix,
    Subgraph,
    Submitted,
    Version,
    digest,
)
from gateway.values import InvalidInput, new_id

OPERATIONS_KEPT = 100  # of one client's traffic
CLIENTS_KEPT = 100
_ROLLED_BACK = "supergraph.rolled_back"
_LOOKED_AT = 20  # entries of the audit trail about one number


# -- reading ------------------------------------------------------------------------------------


async def live(tx: AsyncConnection) -> Live:
    """Which version is answered with."""
    return await store.get_live(tx)


async def version(tx: AsyncConnection, number: int) -> Version:
    """One version of the graph.

    Raises:
        NotFound: There is none of that number.
    """
    found = await store.select_versions(tx, store.versions.c.number == number)
    if not found:
        raise NotFound(id=str(number))
    return found[0]


async def versions(tx: AsyncConnection, *, newest: int) -> list[Version]:
    """The newest versions of the graph, newest first."""
    return await store.select_versions(tx, newest=newest)


async def subgraphs(tx: AsyncConnection, ids: Collection[str]) -> list[Subgraph]:
    """Subgraphs by id, in the order of their merchants."""
    if not ids:
        return []
    return await store.select_subgraphs(tx, store.subgraphs.c.subgraph_id.in_(sorted(ids)))


async def published(tx: AsyncConnection, merchant_id: str) -> list[Subgraph]:
    """Every version of a merchant's subgraph, newest first."""
    found = await store.select_subgraphs(tx, store.subgraphs.c.merchant_id == merchant_id)
    return found[::-1]


async def subgraph(tx: AsyncConnection, id: str) -> Subgraph:
    """One version of a subgraph.

    Raises:
        NotFound: There is none.
    """
    found = await subgraphs(tx, [id])
    if not found:
        raise NotFound(id=id)
    return found[0]


async def members_of(tx: AsyncConnection, number: int | None) -> list[Subgraph]:
    """The merchants' subgraphs in a version of the graph."""
    if number is None:
        return []
    return await subgraphs(tx, list((await version(tx, number)).members.values()))


# -- publishing ---------------------------------------------------------------------------------


async def publish(
    tx: AsyncConnection,
    *,
    submitted: Submitted,
    prefix: Prefix,
    sdl: str,
    ours: str,
    impact: Impact,
    seen: Live,
    actor: str,
    now: datetime,
) -> Subgraph:
    """Keep a subgraph that composes, make a version of the graph with it, and activate that.

    Args:
        sdl: What it composes to with the members of `seen`.
        ours: Our own schema that is in `sdl`.
        impact: What was found to change, and was allowed.

    Raises:
        Raced: Another version was activated after `seen`.
        InvalidInput: The prefix is another merchant's.
    """
    merchant_id = submitted.merchant_id
    if not await store.take_prefix(tx, merchant_id, prefix.types.lower()):
        raise InvalidInput("sdl", "the prefix {prefix} is another merchant's", prefix=prefix.types)
    base = await members_of(tx, seen.number)
    made = Subgraph(
        id=new_id("sgr"),
        merchant_id=merchant_id,
        number=await store.last_number(tx, merchant_id) + 1,
        url=submitted.url,
        sdl=submitted.sdl,
        published_by=actor,
        published_at=now,
    )
    await store.insert_subgraph(tx, made)
    members = {each.merchant_id: each.id for each in base} | {merchant_id: made.id}
    composed = Composed(members, sdl, ours, impact, seen)
    body = {"number": made.number, "url": made.url, "sdl_sha256": digest(made.sdl)}
    await _activate(tx, "subgraph.published", made, composed, body=body, actor=actor, now=now)
    return made


async def unpublish(
    tx: AsyncConnection,
    *,
    merchant_id: str,
    sdl: str,
    ours: str,
    impact: Impact,
    seen: Live,
    actor: str,
    now: datetime,
) -> Subgraph:
    """Make a version of the graph without a merchant's subgraph, and activate that.

    Args:
        sdl: What the others among the members of `seen` compose to.
        ours, impact: As for `publish`.

    Returns:
        The subgraph that was live; it stays among the published ones.

    Raises:
        Raced: Another version was activated after `seen`.
        NotFound: The merchant has none in the graph.
    """
    members = {each.merchant_id: each for each in await members_of(tx, seen.number)}
    gone = members.pop(merchant_id, None)
    if gone is None:
        raise NotFound(id=merchant_id)
    left = {name: each.id for name, each in members.items()}
    composed = Composed(left, sdl, ours, impact, seen)
    body = {"number": gone.number}
    await _activate(tx, "subgraph.unpublished", gone, composed, body=body, actor=actor, now=now)
    return gone


@dataclass(frozen=True, slots=True)
class Composed:
    """A version to be: its members, what they and `ours` compose to, what that changes."""

    members: Mapping[str, str]
    sdl: str
    ours: str
    impact: Impact
    seen: Live


async def _activate(
    tx: AsyncConnection,
    kind: str,
    about: Subgraph,
    made: Composed,
    *,
    body: Mapping[str, object],
    actor: str,
    now: datetime,
) -> None:
    """Keep a new version, answer with it from now on, and record why."""
    number, seen = await store.newest_number(tx) + 1, made.seen
    version = Version(number, made.members, made.sdl, digest(made.ours), actor, now)
    await store.insert_version(tx, version)
    await store.set_live(tx, number, seen=seen.activation)
    told: dict[str, object] = {"merchant": about.merchant_id, **body}
    told |= {"version": number, "before": seen.number, "breaking": list(made.impact.changes)}
    told |= {"operations_hit": [each.hash for each in made.impact.operations]}
    await audit.record(tx, kind=kind, subject=about.id, actor=actor, body=told, now=now)


async def roll_back(
    tx: AsyncConnection, *, to: int | None, actor: str, now: datetime
) -> tuple[int | None, int | None]:
    """Answer with another version of the graph again; the versions stay.

    Args:
        to: Its number, 0 for our own schema alone; None: the one before the present one.

    Returns:
        The version before and the version now; None is our own schema alone.

    Raises:
        NotFound: There is no such version, or nothing to roll back.
        Raced: Another version was activated meanwhile.
    """
    seen = await store.get_live(tx)
    if to is None:
        if seen.number is None:
            raise NotFound(id="version")
        older = store.versions.c.number < seen.number
        found = await store.select_versions(tx, older, newest=1)
        target = found[0].number if found else None
    else:
        target = (await version(tx, to)).number if to else None
    await store.set_live(tx, target, seen=seen.activation)
    body = {"before": seen.number, "version": target}
    subject = str(target or 0)
    await audit.record(tx, kind=_ROLLED_BACK, subject=subject, actor=actor, body=body, now=now)
    return seen.number, target


async def rolled_back(tx: AsyncConnection, number: int | None) -> str:
    """Who answered with a version again last, and when; nothing if nobody has."""
    for entry in await audit.entries(tx, subject=str(number or 0), limit=_LOOKED_AT):
        if entry["kind"] == _ROLLED_BACK:
            return f"{entry['actor']}, {entry['recorded_at'].isoformat()}"
    return ""


# -- saved operations ---------------------------------------------------------------------------


async def save_operations(
    tx: AsyncConnection, given: Sequence[Operation], *, now: datetime
) -> None:
    """Save documents that clients use; of one client's traffic the newest OPERATIONS_KEPT.

    Beyond CLIENTS_KEPT clients only registered documents are taken: nobody fills the table.
    """
    clients = sorted({each.client_id for each in given})
    known = await store.known_clients(tx)
    new = [each for each in clients if each not in known]
    welcome = known | set(new[: max(0, CLIENTS_KEPT - len(known))])
    taken = [each for each in given if each.registered or each.client_id in welcome]
    await store.put_operations(tx, taken, now=now)
    for client_id in clients:
        await store.forget_operations(tx, client_id, keep=OPERATIONS_KEPT)


async def operations(tx: AsyncConnection, client_id: str | None = None) -> Sequence[Operation]:
    """Saved operations, of one client or all; those seen last first."""
    where = [] if client_id is None else [store.operations.c.client_id == client_id]
    return await store.select_operations(tx, *where)


async def trusted(tx: AsyncConnection, client_id: str, hash: str) -> str | None:
    """A client's registered document by its SHA-256."""
    o = store.operations.c
    here = (o.client_id == client_id) & (o.hash == hash) & o.registered.is_(True)
    found = await store.select_operations(tx, here)
    return found[0].text if found else None
