"""Record evidence, seal it after commit, sign the chain's head, verify everything."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway import db
from gateway.audit import store
from gateway.audit.model import (
    BadHead,
    BrokenChain,
    Fault,
    Head,
    Link,
    Verified,
    digest,
    id_floor,
    instant_ms,
    seal_of,
    signed_head,
)
from gateway.audit.store import Source
from gateway.values import business_day, made_at, new_id, start_of

_MS = timedelta(milliseconds=1)

LATEST = timedelta(hours=1)  # No transaction is open for longer.
USUAL = timedelta(minutes=1)  # Hardly one is: to look no further back costs a round little.


class Signer(Protocol):
    """Signs claims with the gateway's key of the moment."""

    async def __call__(self, claims: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """A compact JWS, and the public JWK that verifies it."""
        ...


async def record(
    tx: AsyncConnection,
    *,
    kind: str,
    subject: str,
    actor: str,
    body: Mapping[str, object],
    now: datetime,
) -> str:
    """Record what was decided, in the transaction of its effect; the chain seals it.

    Args:
        kind: Room and deed, as in `settlement.approved`.
        subject: Id of what it is about.
        body: What was seen and decided: amounts, hashes, the approver's limit.

    Returns:
        Id of the entry.
    """
    row: dict[str, Any] = {"entry_id": new_id("aud"), "kind": kind, "subject": subject}
    await store.insert_entry(tx, row | {"actor": actor, "body": dict(body), "recorded_at": now})
    return str(row["entry_id"])


async def entries(
    tx: AsyncConnection, *, subject: str | None = None, limit: int
) -> list[Mapping[str, Any]]:
    """What was recorded, newest first."""
    return [row._asdict() for row in await store.select_entries(tx, subject=subject, limit=limit)]


async def seal(tx: AsyncConnection, *, limit: int, margin: timedelta = LATEST) -> int:
    """Chain committed rows that have no link yet. One sealer runs at a time.

    The sealer numbers them itself, because a database's own numbers can become visible out of
    order. A row committed late is sealed late, up to an hour after those made with it.

    Args:
        margin: How long before the newest sealed row one may have been made that is found now.

    Returns:
        How many were sealed; less than `limit` when none is left.

    Source: ADR 13; security §0.9, sealing after commit costs the hot path nothing.
    """
    await db.lock_exclusive(tx, store.SEAL_LOCK)
    last = await _last(tx)
    number, previous = last.number, last.seal
    rows: list[dict[str, Any]] = []
    for source in store.sources():
        if len(rows) == limit:
            break
        above = await _floor(tx, source, margin)
        for row in await store.unsealed(tx, source, above=above, limit=limit - len(rows)):
            number += 1
            row_id, row_digest = row[source.key.name], digest(row)
            link = seal_of(number, previous, source.name, row_id, row_digest)
            rows.append({"number": number, "source": source.name, "row_id": row_id})
            rows[-1] |= {"digest": row_digest, "previous": previous, "seal": link}
            previous = link
    if rows:
        await store.insert_links(tx, rows)
    return len(rows)


async def state(tx: AsyncConnection, *, limit: int) -> tuple[int, int, datetime | None]:
    """How far the chain is behind.

    Returns:
        The number of the newest link; how many rows wait for one, up to `limit` a table; when the
        oldest of them was made (system time).
    """
    waiting, oldest = 0, None
    for source in store.sources():
        above = await _floor(tx, source)
        count, first = await store.waiting(tx, source, above=above, limit=limit)
        waiting += count
        if first is not None:
            oldest = min(oldest or made_at(first), made_at(first))
    return (await _last(tx)).number, waiting, oldest


async def sign_head(
    tx: AsyncConnection, *, sign: Signer, issuer: str, since: datetime, now: datetime
) -> str | None:
    """The first signed head made since an instant; if there is none, the head is signed now.

    Args:
        since: The day's begin, or a settlement's approval: whoever asks again gets the same head.

    Returns:
        A compact JWS; None while nothing is sealed.
    """
    await db.lock_exclusive(tx, store.SEAL_LOCK)
    known = await store.first_head(tx, since)
    if known is not None:
        return str(known.token)
    link = await _last(tx)
    if not link.number:
        return None
    made = Head(link.number, link.seal, now, business_day(now), issuer)
    token, jwk = await sign(made.claims())
    row: dict[str, Any] = {"head_id": new_id("hed"), "number": made.number, "seal": made.seal}
    row |= {"business_date": made.business_date, "made_at": now, "kid": jwk["kid"]}
    await store.insert_head(tx, row | {"jwk": dict(jwk), "token": token})
    return token


async def head_since(tx: AsyncConnection, since: datetime) -> str | None:
    """The first signed head made since an instant, if there is one: a compact JWS."""
    known = await store.first_head(tx, since)
    return None if known is None else str(known.token)


async def head_of_day(tx: AsyncConnection, day: date) -> str | None:
    """What a business day's statement goes out with: the first signed head after the day's end.

    Whoever asks, and how often, gets the same one. The worker signs it a minute after midnight,
    when what began on the day has committed and is sealed.

    Returns:
        A compact JWS; None while the day runs, or until the head is signed.
    """
    if day == date.max:  # It never ends.
        return None
    return await head_since(tx, start_of(day + timedelta(days=1)) + USUAL)


def head_due(now: datetime) -> datetime:
    """Since when there has to be a head: a minute after a business day began, see `head_of_day`."""
    return start_of(business_day(now - USUAL)) + USUAL


async def newest_head(tx: AsyncConnection) -> Mapping[str, Any] | None:
    """The newest signed head: number, seal, business_date, made_at, kid, jwk, token."""
    row = await store.newest_head(tx)
    return row._asdict() if row else None


async def length(tx: AsyncConnection) -> int:
    """How many links the chain has."""
    return (await _last(tx)).number


async def key_of_head(tx: AsyncConnection, kid: str) -> Mapping[str, Any] | None:
    """The public key that signed heads, as stored with one of them."""
    for row in await store.select_heads(tx):
        if row.kid == kid:
            return dict(row.jwk)
    return None


async def verify(
    tx: AsyncConnection,
    *,
    kept: Head | None = None,
    batch: int = 5_000,
    progress: Callable[[int], None] | None = None,
) -> Verified:
    """Recompute every link from the rows as they are, then compare the heads.

    How long a row waits for its seal is measured by the newest row, not by the clock: a backup
    that was made a moment after a commit stays good.

    Args:
        kept: A head that somebody kept, whose signature was checked: only this finds a chain that
            was rewritten as a whole, or cut together with the heads stored here.
        progress: Told the number of the last link verified, after each batch.

    Raises:
        BrokenChain: It names the first bad row, and what is wrong with it.
    """
    by_name = {source.name: source for source in store.sources()}
    await _no_stranger(tx, by_name)
    link, tables = Link(), Counter[str]()
    while found := await store.links(tx, after=link.number, limit=batch):
        first, last = found[0].number, found[-1].number
        rows = {
            name: await store.sealed_rows(tx, by_name[name], first=first, last=last)
            for name in sorted({row.source for row in found} & by_name.keys())
        }
        for row in found:
            link = await _follow(tx, link, row, by_name, rows)
            tables[row.source] += 1
        if progress:
            progress(link.number)
    newest, keys = await _newest_ms(tx), await store.signing_keys(tx)
    await _nobody_waits(tx, newest)
    heads = await _heads_agree(tx, link, newest, keys)
    if kept is not None:
        await _agrees(tx, link, kept.number, kept.seal, who=f"the head kept of {kept.made_at}")
    return Verified(link.number, link.seal, dict(sorted(tables.items())), heads)


async def _follow(
    tx: AsyncConnection,
    link: Link,
    row: sa.Row[Any],
    sources: Mapping[str, Source],
    rows: Mapping[str, Mapping[str, dict[str, Any]]],
) -> Link:
    """The link after `link`, if it and the row it seals are what they were."""
    number = link.number + 1
    if row.number != number:
        raise BrokenChain(
            table="audit_seals", row_id=str(number), fault=Fault.SEAL_DELETED, number=number
        )
    expected = seal_of(number, link.seal, row.source, row.row_id, row.digest)
    if (row.previous, row.seal) != (link.seal, expected):
        raise BrokenChain(
            table="audit_seals",
            row_id=str(number),
            fault=Fault.SEAL_CHANGED,
            number=number,
            detail=f"it seals {row.source} {row.row_id}",
        )
    found = rows.get(row.source, {}).get(row.row_id)
    if found is None:
        raise BrokenChain(table=row.source, row_id=row.row_id, fault=Fault.DELETED, number=number)
    if digest(found) != row.digest:
        other = await _swapped_with(tx, sources[row.source], row, after=number)
        raise BrokenChain(
            table=row.source,
            row_id=row.row_id,
            fault=Fault.SWAPPED if other else Fault.CHANGED,
            number=number,
            detail=f"with {other}" if other else "",
        )
    return Link(number, expected)


async def _swapped_with(
    tx: AsyncConnection, source: Source, bad: sa.Row[Any], *, after: int, batch: int = 5_000
) -> str | None:
    """The later row that has the content the bad row was sealed with."""
    while found := await store.links(tx, after=after, limit=batch):
        rows = await store.sealed_rows(tx, source, first=after + 1, last=found[-1].number)
        for row_id, row in rows.items():
            if digest(row | {source.key.name: bad.row_id}) == bad.digest:
                return row_id
        after = found[-1].number
    return None


async def _no_stranger(tx: AsyncConnection, sources: Mapping[str, Source]) -> None:
    """No row is older than what is sealed, and has no link."""
    for source in sources.values():
        floor = await _floor(tx, source)
        if floor and (late := await store.unsealed(tx, source, below=floor, limit=1)):
            row_id = str(late[0][source.key.name])
            raise BrokenChain(
                table=source.name,
                row_id=row_id,
                fault=Fault.INSERTED,
                number=None,
                detail="it was never sealed",
            )


async def _newest_ms(tx: AsyncConnection) -> int:
    """When the newest row of all sealed tables was made."""
    found = [await store.newest(tx, source) for source in store.sources()]
    return max((instant_ms(row_id) for row_id in found if row_id), default=0)


async def _nobody_waits(tx: AsyncConnection, newest: int) -> None:
    """No row has waited for its link for longer than any sealer lets it wait."""
    latest = newest - LATEST // _MS
    for source in store.sources():
        above = await _floor(tx, source)
        _, first = await store.waiting(tx, source, above=above, limit=1)
        if first is not None and instant_ms(first) < latest:
            raise BrokenChain(
                table=source.name,
                row_id=first,
                fault=Fault.UNSEALED,
                number=None,
                detail="a worker would have sealed it long ago",
            )


async def _heads_agree(
    tx: AsyncConnection, link: Link, newest: int, keys: Sequence[sa.Row[Any]]
) -> int:
    """Every head names a link that is there, and says so by our signature."""
    heads = await store.select_heads(tx)
    if keys and link.number and not heads:
        (first,) = await store.links(tx, after=0, limit=1)
        if instant_ms(first.row_id) < newest - LATEST // _MS:
            raise BrokenChain(
                table="audit_heads",
                row_id="none",
                fault=Fault.HEADS_DELETED,
                number=link.number,
                detail="the chain was never signed",
            )
    for head in heads:
        _check_signature(head, keys)
        await _agrees(tx, link, head.number, head.seal, who=f"the head of {head.made_at}")
    return len(heads)


def _check_signature(row: sa.Row[Any], keys: Sequence[sa.Row[Any]]) -> None:
    """A stored head says what was signed, with a key of ours.

    A retired key goes some time after its last token; then the copy beside the head must do. It
    cannot have signed after the second of the keys that are left was made: that happened when
    the first of them took its place.
    """
    known = {key.kid: key.jwk for key in keys}
    try:
        if row.kid not in known and len(keys) > 1 and made_at(row.head_id) > keys[1].created_at:
            raise BadHead(f"key {row.kid} is not ours")
        said = signed_head(row.token, known.get(row.kid, row.jwk))
        if (said.number, said.seal, said.made_at) != (row.number, row.seal, row.made_at):
            raise BadHead("it says something else than was signed")
    except ValueError as error:
        raise BrokenChain(
            table="audit_heads",
            row_id=row.head_id,
            fault=Fault.HEAD_CHANGED,
            number=row.number,
            detail=str(error),
        ) from error


async def _agrees(tx: AsyncConnection, link: Link, number: int, seal: str, *, who: str) -> None:
    """Whether the chain, verified up to `link`, holds what a head says."""
    if number > link.number:
        raise BrokenChain(
            table="audit_seals",
            row_id=str(link.number + 1),
            fault=Fault.TAIL_CUT,
            number=link.number + 1,
            detail=f"{who} names link {number}",
        )
    if await store.seal_at(tx, number) != seal:
        raise BrokenChain(
            table="audit_seals",
            row_id=str(number),
            fault=Fault.REWRITTEN,
            number=number,
            detail=f"{who} names another seal",
        )


async def _last(tx: AsyncConnection) -> Link:
    row = await store.last_link(tx)
    return Link(row.number, row.seal) if row else Link()


async def _floor(tx: AsyncConnection, source: Source, margin: timedelta = LATEST) -> str:
    """The id below which all rows of a table are sealed."""
    newest = await store.newest_sealed(tx, source)
    return id_floor(newest, margin_ms=margin // timedelta(milliseconds=1)) if newest else ""
