"""The one graph from the terminal: exported, listed, rolled back, a merchant's part unpublished."""

import contextlib
from collections.abc import AsyncIterator, Sequence

from graphql import GraphQLError, GraphQLSchema, parse, validate
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api.schema import ours
from gateway.db import Clock, Database, system_now
from gateway.federation.supergraph import Supergraph
from gateway.oauth.service import require_client
from gateway.settings import Settings
from gateway.subgraphs import service as subgraphs
from gateway.subgraphs.composing import Verdict, put_together
from gateway.subgraphs.model import Operation, Submitted, document_hash
from gateway.subgraphs.publishing import Publishing, Unpublishing
from gateway.values import new_id

ACTOR = "operator:terminal"


async def supergraph(settings: Settings) -> str:
    """Our schema composed with the merchants' subgraphs that are live; alone without a database.

    Raises:
        ValueError: They do not compose; says why.
    """
    members: list[Submitted] = []
    if not settings.embedded or (settings.home / "gateway.db").exists():
        async with _reading(settings) as tx:
            found = await subgraphs.members_of(tx, (await subgraphs.live(tx)).number)
        members = [Submitted(each.merchant_id, each.url, each.sdl) for each in found]
    made = put_together(ours(), members)
    if isinstance(made, Verdict):
        raise ValueError("; ".join(str(each) for each in made.told()))
    return made[0] if made[0].endswith("\n") else f"{made[0]}\n"


async def versions(settings: Settings, *, limit: int) -> list[tuple[str, ...]]:
    """Number, whether it is live, merchants with their versions, who made it and when, and who
    rolled back to the live one and when. Version 0 is our own schema alone, listed while it is
    live."""
    async with _reading(settings) as tx:
        live = (await subgraphs.live(tx)).number
        back = await subgraphs.rolled_back(tx, live)
        rows: list[tuple[str, ...]] = []
        if live is None:
            rows.append(("0", "live", "", "", "", back))
        for each in await subgraphs.versions(tx, newest=limit):
            members = await subgraphs.subgraphs(tx, list(each.members.values()))
            named = ", ".join(f"{one.merchant_id} {one.number}" for one in members)
            at = each.made_at.isoformat() if each.made_at else ""
            live_mark, since = ("live", back) if each.number == live else ("", "")
            rows.append((str(each.number), live_mark, named, each.made_by, at, since))
    return rows


async def roll_back(settings: Settings, to: int | None) -> tuple[int | None, int | None]:
    """Answer with another version; returns the one before and the one now."""
    async with _database(settings) as database:
        clock = Clock()
        async with database.transaction() as tx:
            await clock.refresh(tx)
            return await subgraphs.roll_back(tx, to=to, actor=ACTOR, now=clock.now())


async def unpublish(
    settings: Settings, merchant_id: str, *, breaking: bool
) -> tuple[int, int, list[str]]:
    """Answer without a merchant's subgraph from now on; its versions stay.

    Returns:
        The subgraph's version that was live, the graph's version that is now, and what the API
        and saved operations lose.

    Raises:
        NotFound: The merchant has no subgraph in the graph.
        SchemaBreaking: Something is lost, and `breaking` does not allow it.
    """
    async with _database(settings) as database:
        clock = Clock()
        async with database.reading() as tx:
            await clock.refresh(tx)
        publishing = Publishing(
            database, clock, ours(), sandbox=settings.sandbox, connected=lambda _merchant: True
        )
        key = new_id("key")
        asked = Unpublishing(merchant_id, scope=ACTOR, key=key, actor=ACTOR, breaking=breaking)
        gone, verdict, _ = await publishing.unpublish(asked)
        assert verdict is not None, "the key is new"
        async with database.reading() as tx:
            number = (await subgraphs.live(tx)).number
    impact = verdict.impact
    hit = [f"{each.client_id} {each.name or each.hash}: {each.error}" for each in impact.operations]
    return gone.number, number or 0, [*impact.changes, *hit]


async def trust(
    settings: Settings, client_id: str, documents: Sequence[tuple[str, str]]
) -> list[str]:
    """Register a client's documents; returns their SHA-256.

    Args:
        documents: What each is called, as a file's name, and its text.

    Raises:
        NotFound: There is no such client.
        ValueError: One is not valid in the live graph; says which.
    """
    async with _database(settings) as database:
        async with database.reading() as tx:
            await require_client(tx, client_id, now=system_now())
            number = (await subgraphs.live(tx)).number
            version = None if number is None else await subgraphs.version(tx, number)
        schema = Supergraph.parse(version.sdl).api_schema if version else ours().schema
        for name, text in documents:
            if error := _first_error(schema, text):
                at = error.locations[0] if error.locations else None
                place = f"{name}:{at.line}:{at.column}" if at else name
                raise ValueError(f"{place}: {error.message}")
        made = [Operation(document_hash(text), client_id, text, True) for _, text in documents]
        async with database.transaction() as tx:
            await subgraphs.save_operations(tx, made, now=system_now())
    return [each.hash for each in made]


def _first_error(schema: GraphQLSchema, text: str) -> GraphQLError | None:
    try:
        errors = validate(schema, parse(text), max_errors=1)
    except GraphQLError as error:
        return error
    return errors[0] if errors else None


@contextlib.asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings.url)
    try:
        yield database
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def _reading(settings: Settings) -> AsyncIterator[AsyncConnection]:
    async with _database(settings) as database, database.reading() as tx:
        yield tx
