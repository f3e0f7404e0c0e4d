"""One entity at many places, in lists of lists and among nulls: one call for all of them."""

import itertools

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

GRID = (
    V2
    + """
type Query { hall: Hall! seats: [[Seat]!] best: Seat }
type Hall { name: String! rows: [[Seat]] front: Row balcony: Row }
type Row { first: Seat last: Seat! all: [Seat!] }
type Seat @key(fields: "id") { id: ID! }
"""
)
PLACES = (
    V2
    + """
type Seat @key(fields: "id") @key(fields: "row number") {
  id: ID! row: String! number: Int! left: Seat right: Seat
}
"""
)
COMFORT = (
    V2
    + """
type Seat @key(fields: "row number") { row: String! number: Int! width: Int guests: [Guest]! }
type Guest @key(fields: "name") { name: String! seat: Seat }
"""
)
GUESTS = (
    V2
    + """
type Guest @key(fields: "name") { name: String! age: Int friend: Guest }
"""
)


def world() -> World:
    """Six seats in two rows, two guests."""
    w = World()
    seats = [
        w.add("Seat", id=f"{row}{n}", row=row, number=n, width=50 + n, guests=[])
        for row in "AB"
        for n in (1, 2, 3)
    ]
    for left, right in itertools.pairwise(seats):
        left["right"], right["left"] = right, left
    seats[0]["left"] = seats[-1]["right"] = None
    ann = w.add("Guest", name="Ann", age=30, seat=seats[0])
    bo = w.add("Guest", name="Bo", age=None, seat=None, friend=ann)
    ann["friend"] = bo
    seats[0]["guests"], seats[4]["guests"] = [ann, None], [bo, ann]
    front = w.add("Row", first=seats[0], last=seats[2], all=seats[:3])
    balcony = w.add("Row", first=None, last=seats[5], all=None)
    rows = [seats[:3], None, [seats[3], None, seats[5]], []]
    w.query["hall"] = w.add("Hall", name="Big", rows=rows, front=front, balcony=balcony)
    w.query |= {"seats": [[seats[1], None], [seats[1]]], "best": seats[4]}
    return w


FEDERATION = Federation(
    "many-paths",
    {"grid": GRID, "places": PLACES, "comfort": COMFORT, "guests": GUESTS},
    world,
    (
        Case(
            "lists of lists with nulls",
            "{ hall { rows { row number } } seats { number } }",
            {
                "hall": {
                    "rows": [
                        [{"row": "A", "number": n} for n in (1, 2, 3)],
                        None,
                        [{"row": "B", "number": 1}, None, {"row": "B", "number": 3}],
                        [],
                    ]
                },
                "seats": [[{"number": 2}, None], [{"number": 2}]],
            },
            requests=2,
        ),
        Case(
            "six places, one call",
            "{ best { row } seats { row } hall { rows { row } front { first { row } last { row }"
            " all { row } } balcony { last { row } first { row } } } }",
            requests=2,
        ),
        Case(
            "other fields at each place",
            "{ best { row } seats { number } hall { front { first { width } last { number } } } }",
            requests=3,
        ),
        Case(
            "two hops from everywhere",
            "{ hall { front { all { width } } balcony { last { width } } } best { width id } }",
            requests=3,
        ),
        Case(
            "round and round",
            "{ best { left { left { right { width } } } right { id } } }",
            {"best": {"left": {"left": {"right": {"width": 51}}}, "right": {"id": "B3"}}},
            requests=3,
        ),
        Case(
            "guests of guests",
            "{ best { guests { name age friend { age seat { width row } } } } }",
            {
                "best": {
                    "guests": [
                        {
                            "name": "Bo",
                            "age": None,
                            "friend": {"age": 30, "seat": {"width": 51, "row": "A"}},
                        },
                        {"name": "Ann", "age": 30, "friend": {"age": None, "seat": None}},
                    ]
                }
            },
            requests=5,
        ),
        Case(
            "a key under a foreign name",
            "{ best { id: number row: id number: width name: row } }",
            {"best": {"id": 2, "row": "B2", "number": 52, "name": "B"}},
            requests=3,
        ),
    ),
)
