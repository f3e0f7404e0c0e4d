"""@requires of a fragment on an implementation that another subgraph does not know."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

COURIER = (
    V2
    + """
type Query { parcelOfCourier: Parcel }
interface Place { id: ID! }
type Home implements Place @key(fields: "id") { id: ID! street: String @shareable }
type Locker implements Place @key(fields: "id") { id: ID! street: String }
type Parcel @key(fields: "id") {
  id: ID! place: Place @external
  city: String @requires(fields: "place { ... on Home { id } ... on Locker { id } }")
  country: String @requires(fields: "place { ... on Home { id } }")
}
"""
)
SENDERS = (
    V2
    + """
type Query { parcel: Parcel parcels: [Parcel] }
interface Place { id: ID! }
type Home implements Place @key(fields: "id") { id: ID! street: String @shareable }
type Locker implements Place @key(fields: "id") { id: ID! box: Int }
type Counter implements Place @key(fields: "id") { id: ID! clerk: String }
type Parcel @key(fields: "id") { id: ID! sender: String place: Place @shareable }
"""
)


def world() -> World:
    """Parcels to a home, a locker, a counter and nowhere."""
    w = World()
    places = [
        w.add("Home", id="h1", street="Elm"),
        w.add("Locker", id="k1", street="Oak", box=4),
        w.add("Counter", id="c1", clerk="Qi"),
        None,
    ]
    parcels = []
    for n, place in enumerate(places, 1):
        city = {"h1": "Nanjing", "k1": "Suzhou"}.get(place["id"]) if place else None
        country = "CN" if n == 1 else None
        parcels.append(
            w.add("Parcel", id=f"p{n}", sender=f"s{n}", place=place, city=city, country=country)
        )
    w.query |= {"parcel": parcels[0], "parcels": parcels, "parcelOfCourier": parcels[1]}
    return w


FEDERATION = Federation(
    "requires-interface",
    {"courier": COURIER, "senders": SENDERS},
    world,
    (
        Case(
            "each by its place",
            "{ parcels { id city country } }",
            {"parcels": [
                {"id": "p1", "city": "Nanjing", "country": "CN"},
                {"id": "p2", "city": "Suzhou", "country": None},
                {"id": "p3", "city": None, "country": None},
                {"id": "p4", "city": None, "country": None}]},
            requests=2,
        ),
        Case("out and back", "{ parcelOfCourier { city } }", requests=3),
        Case(
            "the client selects other fields of the place",
            "{ parcels { place { __typename ... on Counter { clerk } ... on Locker { box street } }"
            " city } }",
            requests=2,
        ),
        Case("nothing required", "{ parcels { sender place { id } } }"),
        Case(
            "a required fragment under the client's alias",
            "{ parcel { here: place { ... on Home { id: street } } country } }",
            {"parcel": {"here": {"id": "Elm"}, "country": "CN"}},
            requests=2,
        ),
    ),
)  # fmt: skip
