"""Catalog queries past graphql-core's executor: the rooms' rows, one compiled function, the answer.

What is refused, or answered in a way that graphql-core words, is run again by Strawberry: nothing
is read here that has an effect, so an answer is the same whoever gave it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import FieldNode, GraphQLError, GraphQLSchema, get_argument_values
from graphql.execution.values import VariableValues
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.api import connections
from gateway.api.catalog_compiler import Compiled, NotCompiled, Root, Rows
from gateway.api.context import Context
from gateway.catalog import pages
from gateway.catalog import service as catalog
from gateway.catalog.model import Offer, OfferFilter
from gateway.errors import GatewayError
from gateway.merchants import service as merchants


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows with their cursors."""

    rows: Sequence[Any]
    cursors: Sequence[str]
    more: bool


async def answer(
    made: Compiled, schema: GraphQLSchema, variables: VariableValues | None, context: Context
) -> dict[str, Any] | None:
    """The answer's `data`; None where Strawberry has to say why not.

    Args:
        schema: Which the operation was compiled for.
        variables: Coerced; None: the operation has none.
    """
    reading = _Reading(made, schema, variables, context)
    try:
        async with context.reading() as tx:
            rows = await reading.all(tx)
        return made.project(rows)
    except (NotCompiled, GatewayError, GraphQLError):
        return None


@dataclass(slots=True)
class _Reading:
    made: Compiled
    schema: GraphQLSchema
    variables: VariableValues | None
    context: Context

    async def all(self, tx: AsyncConnection) -> Rows:
        """Read what is needed: as many statements as Strawberry's loaders would, or fewer."""
        needs = self.made.needs
        rows = Rows()
        offers: list[Offer] = []
        for root in needs.roots:
            found = await self.root(tx, root)
            rows.roots.append(found)
            if root.name in ("offers", "offer"):
                offers += found.rows if isinstance(found, _Page) else [found] if found else []
        found = await pages.facts(
            tx,
            offers=offers,
            at=self.context.now,
            programmes=needs.programmes,
            named=needs.merchants_of_offers,
            issuers=needs.issuers,
            prices=bool(needs.prices),
        )
        rows.programmes, rows.merchants = found.programmes, found.merchants
        for asked, worded in zip(needs.prices, needs.worded, strict=True):
            given = self.given("Offer", asked)
            rows.prices.append(
                await found.prices(
                    tx,
                    programme_ids=given.get("programmes") or (),
                    slot_on=given.get("slotOn"),
                    worded=worded,
                )
            )
        if needs.wallets:
            rows.balances = await self.balances(tx)
        return rows

    async def root(self, tx: AsyncConnection, root: Root) -> Any:
        given = self.given("Query", root.node)
        if root.name == "offers":
            return await self.offers(tx, given)
        if root.name == "offer":
            found = await catalog.offers(tx, [given["id"]])
            return found.get(given["id"])
        if root.name == "merchant":
            return (await merchants.get_many(tx, [given["id"]])).get(given["id"])
        if root.name == "programmes":
            await self.context.loaders.programmes.read(tx, ())
            return sorted(self.context.loaders.programmes.all_at_hand(), key=lambda row: row.id)
        asked = dict(given.get("filter") or {})
        role = asked.pop("role", None)
        everyone = await merchants.find(tx, roles=[role] if role else None, **asked)
        page = connections.page(
            everyone,
            lambda row: row,
            key=lambda row: row.id,
            first=given.get("first"),
            after=given.get("after"),
        )
        edges = page.edges
        more = page.page_info.has_next_page
        return _Page([each.node for each in edges], [each.cursor for each in edges], more)

    async def offers(self, tx: AsyncConnection, given: Mapping[str, Any]) -> _Page:
        asked = dict(given.get("filter") or {})
        asked["affordable"] = bool(asked.get("affordable"))
        balances: Mapping[str, int] = {}
        if asked["affordable"]:
            balances = await self.balances(tx) or {}
            if self.context.actor.member_id is None:
                raise NotCompiled
        page = await catalog.search(
            tx,
            filter=OfferFilter(**asked),
            programme_ids=sorted(balances),
            balances=balances,
            first=connections.size(given.get("first")),
            after=given.get("after"),
            at=self.context.now,
        )
        return _Page(page.offers, page.cursors, page.more)

    async def balances(self, tx: AsyncConnection) -> Mapping[str, int] | None:
        """The member's points by programme; None for others than members."""
        member_id = self.context.actor.member_id
        if member_id is None:
            return None
        await self.context.loaders.wallets.read(tx, [member_id])
        wallets = self.context.loaders.wallets.at_hand(member_id) or ()
        return {wallet.programme_id: wallet.available for wallet in wallets}

    def given(self, kind: str, node: FieldNode) -> dict[str, Any]:
        """A field's arguments as graphql-core reads them."""
        parent: Any = self.schema.type_map[kind]
        return get_argument_values(parent.fields[node.name.value], node, self.variables)
