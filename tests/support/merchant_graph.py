"""A merchant's own subgraph over real HTTP: token endpoint, `_entities`, and ways to misbehave.

`python -m tests.support.merchant_graph PORT` serves it as a process of its own. `POST /behave`
takes `{"seconds": …, "status": …, "error": …}`; `GET /seen` lists what came.
"""

import asyncio
import base64
import sys
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from graphql import build_schema, graphql_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CLIENT, SECRET, TOKEN = "coalition-gateway", "secret-of-the-gateway", "token-of-the-cinema"
LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/v2.5",'
    ' import: ["@key", "@external", "@requires"])\n'
)
SDL = (
    LINK
    + """
type Offer @key(fields: "id") {
  id: ID!
  nameZh: String! @external
  xinghui_trailer(language: String): Xinghui_Trailer
  xinghui_blurb: String @requires(fields: "nameZh")
}
type Redemption @key(fields: "id") { id: ID! xinghui_seat: String }
type Xinghui_Trailer { url: String! seconds: Int offer: Offer }
type Xinghui_Showing @key(fields: "id") { id: ID! hall: String offer: Offer }
type Query { xinghui_showings(city: String): [Xinghui_Showing!] }
"""
)
_SERVED = """
scalar _Any
union _Entity = Offer | Redemption | Xinghui_Showing
type Offer {
  id: ID! nameZh: String xinghui_trailer(language: String): Xinghui_Trailer xinghui_blurb: String
  xinghui_rating: Int
}
type Redemption { id: ID! xinghui_seat: String }
type Xinghui_Trailer { url: String! seconds: Int offer: Offer }
type Xinghui_Showing { id: ID! hall: String offer: Offer }
type Query {
  xinghui_showings(city: String): [Xinghui_Showing!]
  _entities(representations: [_Any!]!): [_Entity]!
}
"""


@dataclass
class MerchantGraph:
    """What it is told to do, and what it was asked: operations, headers, representations."""

    seconds: float = 0.0
    status: int = 200
    error: str = ""
    tokens: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schema = build_schema(_SERVED)
        union: Any = self.schema.type_map["_Entity"]
        union.resolve_type = lambda value, *_: value["__typename"]

    async def token(self, request: Request) -> Response:
        """Client credentials, with the secret."""
        given = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
        if given != f"{CLIENT}:{SECRET}":
            return JSONResponse({"error": "invalid_client"}, 401)
        self.tokens += 1
        answer = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600}
        return JSONResponse(answer)

    async def answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return JSONResponse({"errors": [{"message": "who are you?"}]}, 401)
        given = await request.json()
        self.seen.append({"headers": dict(request.headers), **given})
        await asyncio.sleep(self.seconds)
        if self.status != 200:
            return Response("out of order", self.status)
        if self.error:
            return JSONResponse({"data": None, "errors": [{"message": self.error}]})
        found = graphql_sync(
            self.schema,
            given["query"],
            self,
            variable_values=given.get("variables"),
            operation_name=given.get("operationName"),
        )
        return JSONResponse(found.formatted)

    async def behave(self, request: Request) -> Response:
        for name, value in (await request.json()).items():
            setattr(self, name, value)
        return JSONResponse({})

    async def told(self, _request: Request) -> Response:
        return JSONResponse({"seen": self.seen, "tokens": self.tokens})

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/oauth/token", self.token, methods=["POST"]),
                Route("/graphql", self.answer, methods=["POST"]),
                Route("/behave", self.behave, methods=["POST"]),
                Route("/seen", self.told),
            ]
        )

    # -- the root of the schema served ----------------------------------------------------------

    def xinghui_showings(self, _info: Any, city: str | None = None) -> list[dict[str, Any]]:
        offer = {"__typename": "Offer", "id": "XH-01"}
        return [{"__typename": "Xinghui_Showing", "id": "s1", "hall": city, "offer": offer}]

    def _entities(self, _info: Any, representations: list[dict[str, Any]]) -> list[Any]:
        return [self._entity(one) for one in representations]

    def _entity(self, one: dict[str, Any]) -> dict[str, Any] | None:
        if one["__typename"] == "Offer":
            if not one["id"].startswith("XH-"):
                return None
            trailer = {"url": f"https://x.example/{one['id']}", "seconds": 90, "offer": one}
            blurb = f"{one['nameZh']}!" if "nameZh" in one else None
            return one | {"xinghui_trailer": trailer, "xinghui_blurb": blurb, "xinghui_rating": 5}
        if one["__typename"] == "Redemption":
            return one | {"xinghui_seat": "7-12"}
        return one | {"hall": "3"}


def main() -> None:
    """Serve until ended."""
    port = int(sys.argv[1])
    uvicorn.run(MerchantGraph().app(), port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()
