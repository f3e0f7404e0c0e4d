"""The schema: every role's queries and mutations in one graph, and its printed forms."""

import re
from copy import deepcopy
from functools import cache
from typing import Any

import strawberry
from graphql import (
    DirectiveDefinitionNode,
    DocumentNode,
    FieldDefinitionNode,
    ObjectTypeDefinitionNode,
    ScalarTypeDefinitionNode,
    SchemaDefinitionNode,
    SchemaExtensionNode,
    UnionTypeDefinitionNode,
    Visitor,
    build_schema,
    parse,
    print_ast,
    visit,
)
from strawberry.federation import Schema
from strawberry.federation.schema import FederationAny
from strawberry.schema.config import StrawberryConfig

from gateway.api.audit import AuditQuery
from gateway.api.catalog_query import CatalogQuery
from gateway.api.described import describe
from gateway.api.events import EventMutation, EventQuery, Subscription
from gateway.api.finance import FinanceQuery
from gateway.api.finance_effects import FinanceMutation
from gateway.api.local import Prepared
from gateway.api.member import MemberQuery
from gateway.api.member_effects import MemberMutation
from gateway.api.operator import OperatorMutation, OperatorQuery
from gateway.api.partner import PartnerQuery
from gateway.api.partner_effects import PartnerMutation
from gateway.api.reconciliation import ReconciliationMutation, ReconciliationQuery
from gateway.api.reviews import ReviewMutation, ReviewQuery
from gateway.api.scalars import SCALARS
from gateway.api.subgraphs import SubgraphMutation, SubgraphQuery
from gateway.subgraphs.composing import Ours
from gateway.values import InvalidInput

ENTITIES = ("Offer", "Merchant", "Redemption")
_BLANK = re.compile(r"[ ]+$", re.MULTILINE)  # Lines between two paragraphs of a description.
FEDERATION = frozenset({"_Any", "_Entity", "_Service", "_FieldSet", "FieldSet", "link__Import"})


@strawberry.type
class Query(
    CatalogQuery,
    MemberQuery,
    PartnerQuery,
    EventQuery,
    SubgraphQuery,
    FinanceQuery,
    ReconciliationQuery,
    OperatorQuery,
    ReviewQuery,
    AuditQuery,
):
    """What can be asked. Every field has a policy; a field without one is refused."""


@strawberry.type
class Mutation(
    MemberMutation,
    PartnerMutation,
    EventMutation,
    SubgraphMutation,
    FinanceMutation,
    ReconciliationMutation,
    OperatorMutation,
    ReviewMutation,
):
    """What can be done. A refusal is an entry of the payload's `errors` and changes nothing."""


class GatewaySchema(Schema):
    """The schema with errors left to the endpoint, which logs, masks and words them."""

    def process_errors(self, errors: object, execution_context: object = None) -> None:
        """Nothing is logged here: see `errors.present`."""

    def entities_resolver(
        self, info: strawberry.Info, representations: list[FederationAny]
    ) -> list[FederationAny]:
        """Resolve a router's references; one that names no entity of ours by its id is refused."""
        for number, given in enumerate(representations):
            where = f"representations.{number}"
            if not isinstance(given, dict) or set(given) != {"__typename", "id"}:
                raise InvalidInput(where, "an object of __typename and id")
            if given["__typename"] not in ENTITIES or not isinstance(given["id"], str):
                raise InvalidInput(where, "one of {values}, by an id", values=ENTITIES)
        copies: Any = deepcopy(representations)  # It writes into what it is given.
        return super().entities_resolver(info, copies)


@cache
def build() -> Schema:
    """The one schema."""
    schema = GatewaySchema(
        query=Query,
        mutation=Mutation,
        subscription=Subscription,
        extensions=[Prepared],
        config=StrawberryConfig(scalar_map=SCALARS, disable_field_suggestions=True),
        federation_version="2.7",
    )
    describe(schema)
    return schema


def api_sdl() -> str:
    """Our own API schema: what clients see, without federation's machinery."""
    document: DocumentNode = visit(parse(build().as_str()), _WithoutFederation())
    return _BLANK.sub("", print_ast(document)) + "\n"


def subgraph_sdl() -> str:
    """The federation SDL of our schema as a subgraph."""
    return build().as_str() + "\n"


@cache
def ours() -> Ours:
    """Our own schema as the first of the subgraphs."""
    return Ours(subgraph_sdl(), build_schema(api_sdl()))


class _WithoutFederation(Visitor):
    """Drops federation's types, fields and directives from an SDL."""

    def enter(self, node: object, *_: object) -> object:
        if isinstance(node, SchemaDefinitionNode | SchemaExtensionNode | DirectiveDefinitionNode):
            return self.REMOVE
        if isinstance(
            node, ScalarTypeDefinitionNode | UnionTypeDefinitionNode | ObjectTypeDefinitionNode
        ) and (node.name.value in FEDERATION):
            return self.REMOVE
        if isinstance(node, FieldDefinitionNode) and node.name.value in ("_service", "_entities"):
            return self.REMOVE
        return None

    def enter_directive(self, node: object, *_: object) -> object:
        return self.REMOVE
