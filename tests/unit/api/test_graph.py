"""The one graph, without its services: what no operation may reach in it."""

from typing import Any

import orjson

from gateway.api.graph import Graph
from gateway.api.local import Local
from gateway.api.schema import build, subgraph_sdl
from gateway.federation.composition import compose
from gateway.federation.services import Answer, SubgraphRequest
from gateway.federation.supergraph import Supergraph
from gateway.subgraphs.model import OURS

LEADS_BACK = """
type Query { x_home: X_Home }
type X_Home { back: Query }
"""


class Leading:
    """A merchant's subgraph that leads back to the root of all."""

    async def fetch(self, request: SubgraphRequest) -> Answer:
        return Answer.of({"data": {"x_home": {"back": {"__typename": "Query"}}}})


async def test_no_merchants_field_leads_to_our_root_fields() -> None:
    """They are admitted by the names at the operation's root, so nothing below may be one."""
    composed = compose(
        [(OURS, "http://ours.test", subgraph_sdl()), ("x", "http://x.test", LEADS_BACK)]
    )
    graph = Graph(
        Local(build()),
        supergraph=Supergraph.parse(composed.sdl),
        services={"x": Leading()},
        introspection=False,
    )
    query = "{ x_home { back { me { id } } } }"
    nobody: Any = type("Nobody", (), {"request_id": "r"})()
    result = await graph.answer(query, None, {}, nobody)
    answer = orjson.loads(result.body())
    assert answer["data"] is None
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["NO_PLAN"]
