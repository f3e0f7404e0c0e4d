"""What merging makes of types, by kind: the lines that the supergraph must have."""

import pytest

from tests.unit.federation.composition.federations import definition, hints, supergraph

MERGED = {
    "objects unite their fields": (
        """
        --- hotels
        use 2.3 key
        type Query { hotel: Hotel }
        type Hotel @key(fields: "id") { id: ID! name: String }
        --- stars
        use 2.3 key
        type Hotel @key(fields: "id") { id: ID! stars: Int }
        """,
        "Hotel",
        [
            "  id: ID!",
            "  name: String @join__field(graph: HOTELS)",
            "  stars: Int @join__field(graph: STARS)",
        ],
    ),
    "an input object keeps what all have": (
        """
        --- one
        use 2.3
        type Query { book(stay: Stay): Int }
        input Stay { nights: Int guests: Int pets: Boolean }
        --- two
        use 2.3
        type Query { price(stay: Stay): Int }
        input Stay { nights: Int! guests: Int }
        """,
        "Stay",
        [
            '  nights: Int! @join__field(graph: ONE, type: "Int") '
            '@join__field(graph: TWO, type: "Int!")',
            "  guests: Int",
        ],
    ),
    "an argument that some lack is dropped": (
        """
        --- one
        use 2.3 shareable
        type Query { rooms(floor: Int, sea: Boolean): Int @shareable }
        --- two
        use 2.3 shareable
        type Query { rooms(floor: Int): Int @shareable }
        """,
        "Query",
        ["  rooms(floor: Int): Int"],
    ),
    "an enum only asked for unites": (
        """
        --- one
        use 2.3
        type Query { board: Board }
        enum Board { NONE HALF }
        --- two
        use 2.3
        type Query { other: Board }
        enum Board { NONE FULL }
        """,
        "Board",
        [
            "  NONE @join__enumValue(graph: ONE) @join__enumValue(graph: TWO)",
            "  HALF @join__enumValue(graph: ONE)",
            "  FULL @join__enumValue(graph: TWO)",
        ],
    ),
    "an enum only given intersects": (
        """
        --- one
        use 2.3
        type Query { by(board: Board): Int }
        enum Board { NONE HALF }
        --- two
        use 2.3
        type Query { with(board: Board): Int }
        enum Board { NONE FULL }
        """,
        "Board",
        ["  NONE @join__enumValue(graph: ONE) @join__enumValue(graph: TWO)"],
    ),
    "a hidden value stays in an enum that is only given": (
        """
        --- one
        use 2.3 inaccessible
        type Query { by(board: Board): Int }
        enum Board { NONE HALF @inaccessible }
        --- two
        use 2.3
        enum Board { NONE }
        """,
        "Board",
        [
            "  NONE @join__enumValue(graph: ONE) @join__enumValue(graph: TWO)",
            "  HALF @join__enumValue(graph: ONE) @inaccessible",
        ],
    ),
    "a union has the members of all": (
        """
        --- one
        use 2.3 shareable
        type Query { found: Found }
        union Found = Room | Suite
        type Room @shareable { n: Int }
        type Suite { n: Int }
        --- two
        use 2.3 shareable
        union Found = Room
        type Room @shareable { n: Int }
        """,
        "Found",
        [
            '  @join__unionMember(graph: ONE, member: "Room")',
            '  @join__unionMember(graph: TWO, member: "Room")',
            '  @join__unionMember(graph: ONE, member: "Suite")',
            " = Room | Suite",
        ],
    ),
    "output types widen": (
        """
        --- one
        use 2.3 shareable
        type Query { a: [Int!]! @shareable b: Place @shareable }
        interface Place { n: Int }
        type Room implements Place @shareable { n: Int }
        --- two
        use 2.3 shareable
        type Query { a: [Int] @shareable b: Room! @shareable }
        type Room @shareable { n: Int }
        """,
        "Query",
        [
            '  a: [Int] @join__field(graph: ONE, type: "[Int!]!") '
            '@join__field(graph: TWO, type: "[Int]")',
            '  b: Place @join__field(graph: ONE, type: "Place") '
            '@join__field(graph: TWO, type: "Room!")',
        ],
    ),
    "roots get their usual names": (
        """
        --- one
        use 2.3 shareable
        schema { query: Ask mutation: Do }
        type Ask { me: Ask @shareable }
        type Do { it: Ask }
        --- two
        use 2.3 shareable
        type Query { me: Query @shareable }
        """,
        "Mutation",
        ["  it: Query"],
    ),
    "requirements, provisions and external fields are annotated": (
        """
        --- goods
        use 2.3 key shareable
        type Query { good: Good }
        type Good @key(fields: "id") { id: ID! weight: Int label: String @shareable }
        --- freight
        use 2.3 key external requires provides
        type Query { any: Good @provides(fields: "label") }
        type Good @key(fields: "id") {
          id: ID!
          weight: Int @external
          label: String @external
          cost: Int @requires(fields: "weight")
        }
        """,
        "Good",
        [
            "  id: ID!",
            '  cost: Int @join__field(graph: FREIGHT, requires: "weight")',
            "  label: String @join__field(graph: FREIGHT, external: true) "
            "@join__field(graph: GOODS)",
        ],
    ),
    "an interface object's fields reach its implementations": (
        """
        --- media
        use 2.3 key
        type Query { latest: Medium }
        interface Medium @key(fields: "id") { id: ID! }
        type Song implements Medium @key(fields: "id") { id: ID! seconds: Int }
        --- likes
        use 2.3 key interfaceObject
        type Medium @interfaceObject @key(fields: "id") { id: ID! likes: Int }
        """,
        "Song",
        ["  id: ID!", "  seconds: Int", "  likes: Int @join__field"],
    ),
    "descriptions go by majority": (
        """
        --- one
        use 2.3 shareable
        type Query { "first" n: Int @shareable }
        --- three
        use 2.3 shareable
        type Query { "other" n: Int @shareable }
        --- two
        use 2.3 shareable
        type Query { "other" n: Int @shareable }
        """,
        "Query",
        ['  """other"""', "  n: Int"],
    ),
    "defaults keep their form": (
        """
        --- one
        use 2.3
        type Query { n(a: Float = 1.50, b: In = {k: A, s: "q\\"t"}, c: [Int] = 3, d: ID = 4): Int }
        input In { k: K s: String }
        enum K { A }
        """,
        "Query",
        ['  n(a: Float = 1.5, b: In = {k: A, s: "q\\"t"}, c: [Int] = 3, d: ID = 4): Int'],
    ),
    "a default that some lack is dropped": (
        """
        --- one
        use 2.3 shareable
        type Query { n(a: Int = 1): Int @shareable }
        --- two
        use 2.3 shareable
        type Query { n(a: Int): Int @shareable }
        """,
        "Query",
        ["  n(a: Int): Int"],
    ),
    "a hidden input field stays though some lack it": (
        """
        --- one
        use 2.3 inaccessible
        type Query { n(i: In): Int }
        input In { a: Int b: Int @inaccessible }
        --- two
        use 2.3
        input In { a: Int }
        """,
        "In",
        ["  a: Int", "  b: Int @join__field(graph: ONE) @inaccessible"],
    ),
    "a contextual argument is no client's": (
        """
        --- one
        use 2.8 key context fromContext
        type Query { order: Order }
        type Order @key(fields: "id") @context(name: "order") { id: ID! unit: String! part: Part }
        type Part @key(fields: "id") {
          id: ID! size(in: Int, unit: String @fromContext(field: "$order { unit }")): Int
        }
        """,
        "Part",
        [
            "  size(in: Int): Int @join__field(graph: ONE, contextArguments: "
            '[{context: "one__order", name: "unit", type: "String", selection: " { unit }"}])',
        ],
    ),
    "what is cached stays with its graphs": (
        """
        --- one
        use 2.12 cacheTag shareable
        type Query { n: Int @shareable @cacheTag(format: "n") }
        --- two
        use 2.12 cacheTag shareable
        type Query { n: Int @shareable @cacheTag(format: "n") }
        """,
        "Query",
        [
            '  n: Int @join__directive(graphs: [ONE, TWO], name: "federation__cacheTag", '
            'args: {format: "n"})'
        ],
    ),
    "executable directives intersect": (
        """
        --- one
        use 2.3
        directive @live(every: Int, only: Int) on FIELD | QUERY
        type Query { a: Int }
        --- two
        use 2.3
        directive @live(every: Int) on FIELD
        type Query { b: Int }
        """,
        "@live",
        ["directive @live(every: Int) on FIELD"],
    ),
}


@pytest.mark.parametrize("name", MERGED)
def test_merging(name: str) -> None:
    federation, where, lines = MERGED[name]
    found = definition(supergraph(federation), where).split("\n")
    assert [line for line in lines if line not in found] == [], found


def test_what_only_some_subgraphs_have_is_not_in_the_intersections() -> None:
    enum, _, _ = MERGED["an enum only given intersects"]
    stay, _, _ = MERGED["an input object keeps what all have"]
    assert "HALF" not in definition(supergraph(enum), "Board")
    assert "pets" not in definition(supergraph(stay), "Stay")


HINTED = {
    "an input object keeps what all have": "INCONSISTENT_INPUT_OBJECT_FIELD",
    "an argument that some lack is dropped": "INCONSISTENT_ARGUMENT_PRESENCE",
    "an enum only asked for unites": "INCONSISTENT_ENUM_VALUE_FOR_OUTPUT_ENUM",
    "an enum only given intersects": "INCONSISTENT_ENUM_VALUE_FOR_INPUT_ENUM",
    "a union has the members of all": "INCONSISTENT_UNION_MEMBER",
    "output types widen": "INCONSISTENT_BUT_COMPATIBLE_FIELD_TYPE",
    "descriptions go by majority": "INCONSISTENT_DESCRIPTION",
    "a default that some lack is dropped": "INCONSISTENT_DEFAULT_VALUE_PRESENCE",
    "executable directives intersect": "INCONSISTENT_EXECUTABLE_DIRECTIVE_LOCATIONS",
}


@pytest.mark.parametrize("name", HINTED)
def test_what_is_lost_is_hinted(name: str) -> None:
    assert HINTED[name] in hints(MERGED[name][0])
