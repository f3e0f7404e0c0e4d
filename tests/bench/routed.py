"""The processes of the router's bench: four subgraphs, and two floors. Each tells its port.

Subgraphs answer the same body with the same bytes, which graphql-core made the first time, so that
they cost little. The floors are servers as the router's: one sends its answer at once, the other
first makes the same calls to the subgraphs, in the same order, and reads what comes.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from graphql import build_schema, execute, parse

from gateway.federation.http import Reply
from gateway.federation.services import SubgraphRequest
from gateway.federation.serving import Server
from gateway.federation.sharing import Flights
from gateway.federation.transport import Transport

LINK = 'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", import: [IMPORT])'
SDL = {
    "places": """
type Query { cities: [City!]! }
type City @key(fields: "id") { id: ID! name: String! shops: [Shop!]! }
type Shop @key(fields: "id", resolvable: false) { id: ID! }
""",
    "shops": """
type Shop @key(fields: "id") { id: ID! title: String! weight: Int! owner: Person! }
type Person @key(fields: "id", resolvable: false) { id: ID! }
""",
    "people": """
type Person @key(fields: "id") { id: ID! name: String! about: String friends: [Person!]! }
""",
    "stock": """
type Shop @key(fields: "id") {
  id: ID! weight: Int! @external left: Int estimate: Int @requires(fields: "weight")
}
""",
}
QUERY = """query Walk($about: Boolean = true) {
  cities { id name shops { title left estimate owner {
    name about @include(if: $about) friends { id name } } } } }"""
PEOPLE = 12
KINDS = {"places": "City", "shops": "Shop", "people": "Person", "stock": "Shop"}


def subgraph(name: str) -> tuple[str, str]:
    """A subgraph's SDL, and the schema its server has."""
    directives = [f'"@{one}"' for one in ("key", "external", "requires")]
    link = LINK.replace("IMPORT", ", ".join(directives))
    machinery = "scalar _Any union _Entity = " + KINDS[name]
    field = "_entities(representations: [_Any!]!): [_Entity]!"
    root = "extend type Query" if "type Query" in SDL[name] else "type Query"
    known = "directive @key(fields: String!, resolvable: Boolean) on OBJECT "
    known += "directive @external on FIELD_DEFINITION "
    known += "directive @requires(fields: String!) on FIELD_DEFINITION "
    return link + SDL[name], f"{known}{SDL[name]} {machinery} {root} {{ {field} }}"


def _city(number: int) -> dict[str, Any]:
    shops = [{"id": f"s{number}{each}"} for each in range(6)]
    return {"__typename": "City", "id": f"c{number}", "name": f"City {number}", "shops": shops}


def _shop(name: str, weight: int | None) -> dict[str, Any]:
    number = int(name[1:])
    return {
        "__typename": "Shop", "id": name, "title": f"Shop {name}", "left": number % 7,
        "weight": 10 * number, "owner": {"id": f"p{number % PEOPLE}"},
        "estimate": None if weight is None else weight * 3,
    }  # fmt: skip


def _person(name: str) -> dict[str, Any]:
    number = int(name[1:])
    friends = [
        {"id": f"p{n % PEOPLE}", "name": f"Person {n % PEOPLE}"} for n in (number + 1, number + 5)
    ]
    about = f"Person {number} of whom there is much to tell. " * 4
    return {"__typename": "Person", "id": name, "name": f"Person {number}", "about": about,
            "friends": friends}  # fmt: skip


def _entities(_: Any, representations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        _shop(one["id"], one.get("weight")) if one["__typename"] == "Shop" else _person(one["id"])
        for one in representations
    ]


class Subgraphs:
    """All four, on one port."""

    def __init__(self) -> None:
        self._schemas = {name: build_schema(subgraph(name)[1]) for name in SDL}
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        self.asked = 0

    async def answer(self, _method: bytes, target: bytes, _headers: Any, body: bytes) -> Reply:
        if target == b"/asked":
            return Reply(200, "application/json", b"%d" % self.asked)
        self.asked += 1
        found = self._known.get((target, body))
        if found is None:
            found = self._known[target, body] = self._made(target.decode()[1:], body)
        return Reply(200, "application/json", found)

    def _made(self, name: str, body: bytes) -> bytes:
        sent = json.loads(body)
        root = {"cities": [_city(number) for number in range(4)], "_entities": _entities}
        result: Any = execute(
            self._schemas[name], parse(sent["query"]), root,
            variable_values=sent.get("variables"),
            type_resolver=lambda value, *_: value["__typename"],
        )  # fmt: skip
        assert not result.errors, result.errors
        return json.dumps(result.formatted).encode()


class Floor:
    """Answers with bytes that are ready; first makes `calls`, each after those it names."""

    def __init__(self, answer: bytes, calls: list[dict[str, Any]], flights: Flights) -> None:
        self._answer, self._calls, self._flights = answer, calls, flights
        self.transport = Transport()

    async def answer(self, *_: Any) -> Reply:
        done: list[asyncio.Task[Any]] = []
        for number, call in enumerate(self._calls):
            before = [done[other] for other in call["after"]]
            done.append(asyncio.create_task(self._call(number, call, before)))
        if done:
            await asyncio.gather(*done)
        return Reply(200, "application/json", self._answer)

    async def _call(self, number: int, call: dict[str, Any], before: list[Any]) -> None:
        if before:
            await asyncio.wait(before)
        request = SubgraphRequest(call["service"], "query", call["text"], call["variables"])
        flight = self._flights.send(self.transport.service(call["url"]), request, None)
        await flight.task


async def _serve(kind: str, known: dict[str, Any] | None) -> None:
    if known is None:
        server = Server(Subgraphs().answer)
        print(await server.listen("127.0.0.1", 0), flush=True)  # noqa: T201 - it is what it tells
        await asyncio.Event().wait()
        return
    calls = known["calls"] if kind != "bare" else []
    floor = Floor(known["answer"].encode(), calls, Flights(share=kind == "calls"))
    async with floor.transport:
        server = Server(floor.answer)
        print(await server.listen("127.0.0.1", 0), flush=True)  # noqa: T201 - it is what it tells
        await asyncio.Event().wait()


if __name__ == "__main__":
    import uvloop

    recorded = json.loads(Path(sys.argv[2]).read_text("utf-8")) if len(sys.argv) > 2 else None
    uvloop.run(_serve(sys.argv[1], recorded))
