"""An entity whose next key is null is skipped; its fields are null and its siblings whole."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

SCANS = (
    V2
    + """
type Query { scans: [Scan] scan(id: ID!): Scan }
type Scan { id: ID! ticket: Ticket }
type Ticket @key(fields: "barcode") { barcode: String! }
"""
)
BARCODES = (
    V2
    + """
type Ticket @key(fields: "barcode") @key(fields: "serial") {
  barcode: String! serial: ID place: Place @shareable
}
type Place @shareable { gate: String lanes: [Lane] }
type Lane @shareable { number: Int }
"""
)
DOORS = (
    V2
    + """
type Ticket @key(fields: "place { gate lanes { number } }") {
  place: Place @shareable opened: String
}
type Place @shareable { gate: String lanes: [Lane] }
type Lane @shareable { number: Int }
"""
)
SEATS = (
    V2
    + """
type Ticket @key(fields: "serial") { serial: ID seat: Seat }
type Seat @key(fields: "row number") { row: String number: Int }
"""
)
HALLS = (
    V2
    + """
type Seat @key(fields: "row number") { row: String number: Int comfort: String }
"""
)


def world() -> World:
    """Tickets: a whole one, one without a serial, one nobody knows, one with half a seat."""
    w = World()
    whole = w.add("Seat", row="C", number=7, comfort="wide")
    half = w.add("Seat", row="D", number=None, comfort=None)
    tickets = [
        w.add("Ticket", barcode="t1", serial="s1", seat=whole),
        w.add("Ticket", barcode="t2", serial=None, seat=None),
        w.add("Ticket", barcode="t3", serial="s3", seat=None, **{"@absent": {"seats"}}),
        w.add("Ticket", barcode="t4", serial="s4", seat=half),
    ]
    places = [("north", [1, 2]), (None, [1]), ("south", [1, None]), ("west", [])]
    for ticket, (gate, lanes) in zip(tickets, places, strict=True):
        found = [w.add("Lane", number=number) for number in lanes]
        ticket["place"] = w.add("Place", gate=gate, lanes=found)
        ticket["opened"] = f"{gate} door" if gate in {"north", "west"} else None
    w.query["scans"] = [
        *(w.add("Scan", id=f"x{n}", ticket=t) for n, t in enumerate(tickets, 1)),
        w.add("Scan", id="x5", ticket=None),
    ]
    w.query["scan"] = w.finder("Scan")
    return w


FEDERATION = Federation(
    "null-keys",
    {"scans": SCANS, "barcodes": BARCODES, "seats": SEATS, "halls": HALLS, "doors": DOORS},
    world,
    (
        Case(
            "siblings of a null key are whole",
            "{ scans { ticket { seat { comfort } } } }",
            {
                "scans": [
                    {"ticket": {"seat": {"comfort": "wide"}}},
                    {"ticket": {"seat": None}},
                    {"ticket": {"seat": None}},
                    {"ticket": {"seat": {"comfort": None}}},
                    {"ticket": None},
                ]
            },
            requests=4,
        ),
        Case(
            "nobody is asked when every key is null",
            '{ scan(id: "x2") { ticket { seat { row } } } }',
            {"scan": {"ticket": {"seat": None}}},
            requests=2,
        ),
        Case(
            "half a composite key is no key",
            '{ scan(id: "x4") { ticket { seat { row number comfort } } } }',
            {"scan": {"ticket": {"seat": {"row": "D", "number": None, "comfort": None}}}},
            requests=3,
        ),
        Case(
            "a null inside a nested key",
            "{ scans { ticket { opened } } }",
            {
                "scans": [
                    {"ticket": {"opened": "north door"}},
                    {"ticket": {"opened": None}},
                    {"ticket": {"opened": None}},
                    {"ticket": {"opened": "west door"}},
                    {"ticket": None},
                ]
            },
            requests=3,
        ),
        Case(
            "a null key that the client asked for is shown",
            "{ scans { ticket { barcode serial } } }",
            requests=2,
        ),
    ),
)
