"""Events of one subgraph, completed by others; the events themselves are in their own tests."""

from collections.abc import AsyncIterator

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import Record, World

BOOKINGS = (
    V2
    + """
type Query { last: Booking }
type Subscription { booked(city: String = "Wuhan"): Booking! counted: Int failing: Booking }
type Booking @key(fields: "id") { id: ID! nights: Int! hotel: Hotel }
type Hotel @key(fields: "id") { id: ID! }
"""
)
HOTELS = (
    V2
    + """
type Hotel @key(fields: "id") { id: ID! name: String stars: Int }
type Booking @key(fields: "id") {
  id: ID! nights: Int! @external points: Int @requires(fields: "nights")
}
"""
)


def world() -> World:
    """Three bookings in two cities, to come one after the other."""
    w = World()
    lake = w.add("Hotel", id="h1", name="Lakeside", stars=4)
    hill = w.add("Hotel", id="h2", name="Hill", stars=ValueError("not rated"))
    made = [
        w.add("Booking", id="b1", nights=2, hotel=lake, points=20),
        w.add("Booking", id="b2", nights=1, hotel=None, points=10),
        w.add("Booking", id="b3", nights=5, hotel=hill, points=50),
    ]

    async def booked(city: str) -> AsyncIterator[Record]:
        for booking in made if city == "Wuhan" else made[2:]:
            yield booking

    async def counted() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    async def failing() -> AsyncIterator[Record]:
        yield made[0]
        raise ValueError("the source dried up")

    w.query["last"] = made[2]
    w.subscription |= {"booked": booked, "counted": counted, "failing": failing}
    return w


FEDERATION = Federation(
    "subscriptions",
    {"bookings": BOOKINGS, "hotels": HOTELS},
    world,
    (Case("the same by a query", "{ last { points hotel { name } } }", requests=2),),
)
