"""What a merchant's subgraph may say, rule by rule."""

import re
from pathlib import Path

import pytest

from gateway.api.schema import ours
from gateway.compliance.model import red_phrases, red_words
from gateway.federation.composition.loading import load
from gateway.subgraphs import governance
from gateway.subgraphs.model import prefix_of
from tests.support.merchant_graph import SDL

ROOT = Path(__file__).parents[3]
SPEC = "https://specs.apollo.dev/federation/v2.5"
IMPORTED = (
    '"@key", "@external", "@requires", "@provides", "@shareable", "@override",'
    ' "@interfaceObject", "@inaccessible", "@tag", "@composeDirective"'
)
HEAD = f'extend schema @link(url: "{SPEC}", import: [{IMPORTED}])\n'
XINGHUI = prefix_of("xinghui", "M05")
OWN = 'type Xinghui_Seat @key(fields: "id") { id: ID! row: Int }\n'
OFFER = 'type Offer @key(fields: "id") { id: ID! '


def judged(sdl: str, head: str = HEAD) -> set[tuple[str, str]]:
    """Rules broken, with where."""
    read, errors = load("M05", "https://cinema.example/graphql", head + sdl)
    assert errors == [], errors
    assert read is not None
    found = governance.judge(read, prefix=XINGHUI, ours=ours().schema)
    return {(each.code, each.coordinate) for each in found}


ALLOWED = {
    "fields on an offer": OFFER + "xinghui_seats: [Xinghui_Seat!] }\n" + OWN,
    "fields on a merchant": 'type Merchant @key(fields: "id") { id: ID! xinghui_halls: Int }',
    "an extension": 'extend type Offer @key(fields: "id") { id: ID! @external xinghui_a: Int }',
    "a reference": 'type Offer @key(fields: "id", resolvable: false) { id: ID! }\n'
    "type Query { xinghui_best: Offer }",
    "a root query": "type Query { xinghui_seats(hall: Int): [Xinghui_Seat] }\n" + OWN,
    "what it needs of ours": OFFER
    + 'nameZh: String! @external xinghui_a: String @requires(fields: "nameZh") }',
    "its own kinds": OWN + "enum Xinghui_E { A B @inaccessible }\n"
    "input Xinghui_I { a: Int = 1 e: Xinghui_E }\ninterface Xinghui_N { id: ID! }\n"
    "union Xinghui_U = Xinghui_Seat\nscalar Xinghui_S\n"
    "type Query { xinghui_a(i: Xinghui_I): Xinghui_U xinghui_b: Xinghui_N xinghui_s: Xinghui_S }",
    "our scalars": "scalar Fen\nscalar DateTime\ntype Query { xinghui_a: Fen xinghui_b: DateTime }",
    "words that only look red": "type Xinghui_Calendar { blender: Int bestsellers: [String]"
    " counselling: Int }\ntype Query { xinghui_calendar: Xinghui_Calendar }",
    "the subgraph of the tests": SDL.partition("\n")[2],
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_merchant_may_say(name: str) -> None:
    assert judged(ALLOWED[name]) == set()


REFUSED = {
    "a link that is a script": (
        'scalar Xinghui_S @specifiedBy(url: "javascript:alert(1)")\n'
        'scalar Xinghui_T @specifiedBy(url: "https://x.example/t")',
        {("URL_NOT_WEB", "Xinghui_S")},
    ),
    "a type without the prefix": ("type Seat { a: Int }", {("TYPE_PREFIX", "Seat")}),
    "another merchant's prefix": ("type Chawei_A { a: Int }", {("TYPE_PREFIX", "Chawei_A")}),
    "a field without the prefix": (OFFER + "seats: Int }", {("FIELD_PREFIX", "Offer.seats")}),
    "a field that is never null": (
        OFFER + "xinghui_a: Int! }",
        {("FIELD_NOT_NULLABLE", "Offer.xinghui_a")},
    ),
    "our field again": (OFFER + "nameZh: String! }", {("OUR_FIELD", "Offer.nameZh")}),
    "our field, shared": (
        OFFER + "nameZh: String! @shareable }",
        {("OUR_FIELD", "Offer.nameZh")},
    ),
    "our field, overridden": (
        OFFER + 'nameZh: String! @override(from: "coalition") }',
        {("OUR_FIELD", "Offer.nameZh")},
    ),
    "its field from ours": (
        OFFER + 'xinghui_a: Int @override(from: "coalition") }',
        {("DIRECTIVE_NOT_ALLOWED", "Offer.xinghui_a")},
    ),
    "our type hidden": (
        'type Offer @key(fields: "id") @inaccessible { id: ID! }',
        {("DIRECTIVE_NOT_ALLOWED", "Offer")},
    ),
    "our id hidden": (
        'type Offer @key(fields: "id") { id: ID! @inaccessible }',
        {("DIRECTIVE_NOT_ALLOWED", "Offer.id")},
    ),
    "our type tagged": (
        'type Offer @key(fields: "id") @tag(name: "x") { id: ID! }',
        {("DIRECTIVE_NOT_ALLOWED", "Offer")},
    ),
    "our type all shareable": (
        'type Offer @key(fields: "id") @shareable { id: ID! xinghui_a: Int }',
        {("DIRECTIVE_NOT_ALLOWED", "Offer")},
    ),
    "our type as an interface object": (
        'type Offer @key(fields: "id") @interfaceObject { id: ID! }',
        {("DIRECTIVE_NOT_ALLOWED", "Offer")},
    ),
    "our type as another kind": (
        'interface Offer @key(fields: "id") { id: ID! }',
        {("OUR_TYPE", "Offer")},
    ),
    "our type with an interface": (
        "interface Xinghui_N { id: ID! }\n"
        'type Offer implements Xinghui_N @key(fields: "id") { id: ID! }',
        {("INTERFACE_ON_OURS", "Offer")},
    ),
    "another key": (
        'type Offer @key(fields: "nameZh") { id: ID! nameZh: String! }',
        {("ENTITY_KEY", "Offer"), ("OUR_FIELD", "Offer.nameZh")},
    ),
    "no key": ("type Offer { id: ID! xinghui_a: Int }", {("ENTITY_KEY", "Offer")}),
    "an id of another type": (
        'type Offer @key(fields: "id") { id: String! }',
        {("ENTITY_KEY", "Offer")},
    ),
    "a type of ours": ("type Price { points: Int }", {("OUR_TYPE", "Price")}),
    "an input of ours": (
        "input OffersFilter { x: Int }\ntype Query { xinghui_a(f: OffersFilter): Int }",
        {("OUR_TYPE", "OffersFilter")},
    ),
    "points": ("scalar Points\ntype Query { xinghui_a: Points }", {("OUR_TYPE", "Points")}),
    "a way back to the root": (
        "type Xinghui_Seat { again: [Query!] }\ntype Query { xinghui_a: Xinghui_Seat }",
        {("ROOT_AGAIN", "Xinghui_Seat.again")},
    ),
    "a way back from ours, by another name": (
        "schema { query: Q }\n" + OFFER + "xinghui_q: Q }\ntype Q { xinghui_a: Int }",
        {("ROOT_AGAIN", "Offer.xinghui_q")},
    ),
    "mutations": ("type Mutation { xinghui_a: Int }", {("ROOT_EFFECT", "Mutation")}),
    "mutations by another name": (
        "schema { query: Q mutation: M }\ntype Q { xinghui_a: Int }\ntype M { xinghui_b: Int }",
        {("ROOT_EFFECT", "M")},
    ),
    "subscriptions": ("type Subscription { xinghui_a: Int }", {("ROOT_EFFECT", "Subscription")}),
    "a root query without the prefix": (
        "type Query { seats: Int }",
        {("FIELD_PREFIX", "Query.seats")},
    ),
    "a root query of ours": ("type Query { offers: Int }", {("FIELD_PREFIX", "Query.offers")}),
    "a root query that is never null": (
        "type Query { xinghui_a: Int! }",
        {("FIELD_NOT_NULLABLE", "Query.xinghui_a")},
    ),
    "provided fields": (
        'type Offer @key(fields: "id") { id: ID! nameZh: String! @external }\n'
        'type Query { xinghui_a: Offer @provides(fields: "nameZh") }',
        {("DIRECTIVE_NOT_ALLOWED", "Query.xinghui_a")},
    ),
    "a member's field asked for": (
        'type Redemption @key(fields: "id") { id: ID! state: String! @external'
        ' xinghui_a: Int @requires(fields: "state") }',
        {("EXTERNAL_FIELD", "Redemption.state")},
    ),
    "a field of ours with another type": (
        OFFER + 'nameZh: String @external xinghui_a: Int @requires(fields: "nameZh") }',
        {("EXTERNAL_FIELD", "Offer.nameZh")},
    ),
    "a directive of its own": (
        "directive @mine on FIELD_DEFINITION\ntype Query { xinghui_a: Int }",
        {("DIRECTIVE_DEFINITION", "@mine")},
    ),
    "our description": (
        '"""A swindle."""\ntype Offer @key(fields: "id") { id: ID! }',
        {("OUR_DESCRIPTION", "Offer")},
    ),
    "points that move": (
        "type Query { xinghui_pointsTransfer(to: ID): Boolean }",
        {("RED_LINE", "Query.xinghui_pointsTransfer")},
    ),
    "points that become money": (
        "type Xinghui_A { b(cashOut: Int): Int }\nenum Xinghui_E { SWAP }",
        {("RED_LINE", "Xinghui_A.b(cashOut:)"), ("RED_LINE", "Xinghui_E.SWAP")},
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_merchant_may_not_say(name: str) -> None:
    sdl, broken = REFUSED[name]
    padding = "" if "type Query" in sdl or "schema" in sdl else "type Query { xinghui_z: Int }\n"
    assert judged(sdl + "\n" + padding) == broken


def test_directives_are_known_under_any_name() -> None:
    head = (
        f'extend schema @link(url: "{SPEC}",'
        ' import: ["@key", {name: "@override", as: "@moved"}])\n'
    )
    sdl = (
        OFFER
        + 'xinghui_a: Int @moved(from: "coalition") xinghui_b: Int @federation__tag(name: "x") }'
    )
    places = {("DIRECTIVE_NOT_ALLOWED", f"Offer.xinghui_{x}") for x in "ab"}
    assert judged(sdl, head) == places


def test_other_specs_are_not_linked() -> None:
    head = HEAD + 'extend schema @link(url: "https://specs.apollo.dev/cost/v0.1")\n'
    assert judged("type Query { xinghui_a: Int }", head) == {("LINK_NOT_ALLOWED", "schema")}


LARGE = {
    "bytes": "#" + "x" * governance.SDL_BYTES,
    "tokens": "a " * (governance.TOKENS + 1),
    "nesting": "[" * 20 + "]" * 20,
}


@pytest.mark.parametrize("what", LARGE)
def test_a_text_that_is_too_large_is_not_read(what: str) -> None:
    (found,) = governance.measure(LARGE[what])
    assert found.code == "SIZE_LIMIT"
    assert what in found.en


def test_brackets_in_texts_and_comments_are_no_nesting() -> None:
    assert (
        governance.measure('"""' + "[" * 50 + '"""\ntype A { "{{{{" a: Int } # ' + "(" * 50) == []
    )


def test_too_many_of_anything_is_refused() -> None:
    fields = " ".join(f"f{n}: Int" for n in range(governance.FIELDS + 1))
    arguments = ", ".join(f"a{n}: Int" for n in range(governance.ARGUMENTS + 1))
    types = "\n".join(f"type Xinghui_T{n} {{ a: Int }}" for n in range(governance.TYPES))
    sdl = f"type Xinghui_A {{ {fields} }}\ntype Query {{ xinghui_a({arguments}): Int }}\n{types}"
    assert judged(sdl) == {
        ("SIZE_LIMIT", ""),
        ("SIZE_LIMIT", "Xinghui_A"),
        ("SIZE_LIMIT", "Query.xinghui_a"),
    }


PREFIXES = {
    ("xinghui", "M05"): ("Xinghui_", "xinghui_"),
    ("star-cinema", "M05"): ("StarCinema_", "starCinema_"),
    ("7days", "M05"): ("M05_", "m05_"),
    ("星汇", "M05"): ("M05_", "m05_"),
}


@pytest.mark.parametrize("given", PREFIXES)
def test_a_prefix_is_made_of_the_slug(given: tuple[str, str]) -> None:
    made = prefix_of(*given)
    assert (made.types, made.fields) == PREFIXES[given]


def test_our_own_names_leave_the_underscore_to_merchants() -> None:
    schema = ours().schema
    names = [name for name in schema.type_map if not name.startswith("__")]
    names += [field for kind in schema.type_map.values() for field in getattr(kind, "fields", ())]
    assert [name for name in names if "_" in name] == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pointsTransfer", ["transfer"]),
        ("exchange_points", ["exchange"]),
        ("CASH_OUT", ["cash out"]),
        ("withdrawalLimit", ["withdrawal"]),
        ("points_trans_fer", ["transfer"]),
        ("pointsToCash", ["cash"]),
        ("coalitionCoin", ["coin"]),
        ("universalPoints", ["universal"]),
        ("sendPoints", ["send"]),
        ("giftPoints", ["gift"]),
        ("encash", ["encash"]),
        ("monetise", ["monetise"]),
        ("jifenZhuanrang", ["zhuanrang"]),
        ("calendar", []),
        ("totalPoints", []),
        ("giftShop", []),
        ("sharedRide", []),
        ("bestseller", []),
        ("slender", []),
        ("cashFen", []),
    ],
)
def test_red_words(name: str, words: list[str]) -> None:
    assert red_words(name) == words


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("积分可提现,也可转让给好友", ["提现", "转让"]),
        ("积分不可提现、转让", []),
        ("通用积分", ["通用积分"]),
        ("Points can be transferred to friends.", ["transferred"]),
        ("Your points are as good as cash", ["points are as good as cash"]),
        ("one point = 1 yuan", []),
        ("100 points equals RMB 1", ["points equals RMB"]),
        ("Points cannot be transferred and are never cash.", []),
        ("Pay with points and cash. We sell tickets.", []),
        ("points earned here, cash price in yuan", []),
    ],
)
def test_red_phrases(text: str, phrases: list[str]) -> None:
    assert red_phrases(text) == phrases


SAID = {
    "a type": ('"积分可提现" type Xinghui_A { a: Int }', "Xinghui_A"),
    "a field": ('type Xinghui_A { "积分可提现" a: Int }', "Xinghui_A.a"),
    "an added field": (OFFER + '"积分可提现" xinghui_a: Int }', "Offer.xinghui_a"),
    "an argument": ('type Xinghui_A { a("积分可提现" b: Int): Int }', "Xinghui_A.a(b:)"),
    "a default": ('type Xinghui_A { a(b: String = "积分可提现"): Int }', "Xinghui_A.a(b:)"),
    "a value": ('enum Xinghui_E { "积分可提现" A }', "Xinghui_E.A"),
    "a reason": ('type Xinghui_A { a: Int @deprecated(reason: "积分可提现") }', "Xinghui_A.a"),
}


@pytest.mark.parametrize("where", SAID)
def test_texts_keep_to_the_red_lines(where: str) -> None:
    sdl, place = SAID[where]
    assert judged(sdl) == {("RED_LINE", place)}


def test_what_is_ours_is_described_by_nobody_else() -> None:
    assert judged('"a" scalar Fen type Query { xinghui_a: Fen }') == {("OUR_DESCRIPTION", "Fen")}
    head = f'"""a""" schema @link(url: "{SPEC}") {{ query: Query }}\n'
    assert judged("type Query { xinghui_a: Int }", head) == {("OUR_DESCRIPTION", "schema")}


@pytest.mark.parametrize(
    "sdl",
    [
        "#\r type Query { xinghui_a: " + "[" * 20 + "Int" + "]" * 20 + " }",
        'type Query { "\\"" xinghui_a: ' + "[" * 20 + "Int" + "]" * 20 + ' "\\"" xinghui_b: Int }',
        '"""a \\""" b""" type Query { xinghui_a: ' + "[" * 20 + "Int" + "]" * 20 + " }",
    ],
)
def test_brackets_are_counted_as_they_are_read(sdl: str) -> None:
    assert [each.code for each in governance.measure(sdl)] == ["SIZE_LIMIT"]


def test_every_rule_is_published() -> None:
    text = (ROOT / "docs/partners.md").read_text("utf-8")
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))
    assert set(governance.RULES) <= listed
