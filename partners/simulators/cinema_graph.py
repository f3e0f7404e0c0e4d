"""The cinema chain's own GraphQL service: a federation subgraph beside its REST API.

`SDL` is what the chain publishes to the coalition. What a router needs of a subgraph besides is
small: `_entities`, which takes references to offers, and `_service`.
"""

from typing import Any

from graphql import GraphQLSchema, GraphQLUnionType, build_schema, graphql_sync
from starlette.requests import Request

from partners.simulators.core import Shop
from partners.simulators.surface import body

SDL = """\
extend schema
  @link(
    url: "https://specs.apollo.dev/federation/v2.5"
    import: ["@key", "@external", "@requires"]
  )

type Offer @key(fields: "id") {
  id: ID!
  nameZh: String! @external
  xinghui_posterText: String @requires(fields: "nameZh")
  xinghui_halls: [Xinghui_Hall!]
}

type Xinghui_Hall @key(fields: "name") {
  name: ID!
  seats: Int!
  screen: String!
}

type Query {
  xinghui_halls: [Xinghui_Hall!]
}
"""

_SERVED = """
scalar _Any
union _Entity = Offer | Xinghui_Hall
type _Service { sdl: String! }
type Offer { id: ID! nameZh: String xinghui_posterText: String xinghui_halls: [Xinghui_Hall!] }
type Xinghui_Hall { name: ID! seats: Int! screen: String! }
type Query {
  _service: _Service!
  _entities(representations: [_Any!]!): [_Entity]!
  xinghui_halls: [Xinghui_Hall!]
}
"""
HALLS = (
    {"name": "1", "seats": 96, "screen": "2D"},
    {"name": "2", "seats": 220, "screen": "IMAX"},
)
TICKETS = {"XH-01": ("1",), "XH-02": ("2",)}


def _schema() -> GraphQLSchema:
    made = build_schema(_SERVED)
    union = made.type_map["_Entity"]
    assert isinstance(union, GraphQLUnionType)
    union.resolve_type = lambda value, *_: value["__typename"]
    return made


_SCHEMA = _schema()


class _Root:
    """The root of every answer."""

    def _service(self, _info: Any) -> dict[str, str]:
        return {"sdl": SDL}

    def _entities(self, _info: Any, representations: list[dict[str, Any]]) -> list[Any]:
        return [_entity(given) for given in representations]

    def xinghui_halls(self, _info: Any) -> list[dict[str, Any]]:
        return list(HALLS)


def _entity(given: dict[str, Any]) -> dict[str, Any] | None:
    """What the chain knows of an offer it sells tickets for, or of a hall; None of any other."""
    halls = {hall["name"]: hall for hall in HALLS}
    if given["__typename"] == "Xinghui_Hall":
        found = halls.get(given["name"])
        return given | found if found else None
    shown = TICKETS.get(given["id"])
    if shown is None:
        return None
    name = given.get("nameZh")
    text = f"今晚就看:{name}" if name else None
    return given | {"xinghui_posterText": text, "xinghui_halls": [halls[one] for one in shown]}


async def answer(_shop: Shop, request: Request) -> dict[str, Any]:
    """`POST /subgraph`: one GraphQL request."""
    asked = await body(request)
    found = graphql_sync(
        _SCHEMA,
        str(asked.get("query", "")),
        _Root(),
        variable_values=asked.get("variables") or None,
        operation_name=asked.get("operationName"),
    )
    return dict(found.formatted)
