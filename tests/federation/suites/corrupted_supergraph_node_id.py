"""A supergraph that says too little: the shared key is external in one subgraph.

Where no path leads to a field the answer is null with an error. A wrong guess would be to ask
the subgraph that does not have it.
"""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import PerGraph, World

CARS = (
    V2
    + """
type Query { node(id: ID!): Node @shareable car(id: ID!): Car }
interface Node { id: ID! }
type Car implements Node @key(fields: "id") { id: ID! plate: String }
"""
)
CHATS = (
    V2
    + """
type Query { node(id: ID!): Node @shareable chat(id: ID!): Chat }
interface Node { id: ID! }
type Chat implements Node @key(fields: "id") { id: ID! words: String! about: Car }
type Car implements Node @key(fields: "id") { id: ID! mileage: Int }
"""
)


def world() -> World:
    """A car and a chat about it."""
    w = World()
    car = w.add("Car", id="car-1", plate="Q-1", mileage=90)
    w.add("Chat", id="chat-1", words="Noise", about=car)
    w.query |= {"car": w.finder("Car"), "chat": w.finder("Chat")}
    w.query["node"] = PerGraph(w.finder("Car", "Chat"), {"cars": w.finder("Car")})
    return w


FEDERATION = Federation(
    "corrupted-supergraph-node-id",
    {"cars": CARS, "chats": CHATS},
    world,
    (
        Case("an id that is there", '{ car(id: "car-1") { id plate } }'),
        Case("what needs no id", '{ chat(id: "chat-1") { words } }'),
        Case(
            "an id nobody has",
            '{ chat(id: "chat-1") { id words } }',
            None,
            errors=True,
            monolith=False,
            requests=0,
        ),
        Case("a stub's own field", '{ chat(id: "chat-1") { about { mileage } } }'),
        Case(
            "a stub's id",
            '{ chat(id: "chat-1") { about { id } } }',
            None,
            errors=True,
            monolith=False,
            requests=0,
        ),
        Case(
            "a stub's other side",
            '{ chat(id: "chat-1") { about { plate } } }',
            None,
            errors=True,
            monolith=False,
            requests=0,
        ),
        Case("the interface's id", '{ node(id: "car-1") { id } }', {"node": {"id": "car-1"}}),
        Case("the interface's name", '{ node(id: "car-1") { __typename } }'),
        Case("a fragment with an id", '{ node(id: "car-1") { ... on Car { id } } }'),
        Case("a fragment without", '{ node(id: "chat-1") { ... on Chat { words } } }'),
    ),
    random=False,
    by_hand="composition refuses an external key without an owner to reach",
)
