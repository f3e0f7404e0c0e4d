"""@requires fetches what a field needs first; @provides saves a fetch, on its own path only."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

MEMBERS = (
    V2
    + """
type Query { me: Member members: [Member] }
type Member @key(fields: "id") { id: ID! name: String nick: String @shareable }
"""
)
STOCK = (
    V2
    + """
type Gift @key(fields: "code") {
  code: String!
  weight: Int @external
  points: Int @external
  inStock: Boolean
  postage: Int @requires(fields: "points weight")
  label: String @requires(fields: "weight")
}
"""
)
GIFTS = (
    V2
    + """
type Query { gifts: [Gift] gift(code: String!): Gift }
type Gift @key(fields: "code") { code: String! name: String points: Int weight: Int }
"""
)
VOICES = (
    V2
    + """
type Query { voice(id: ID!): Voice }
type Voice @key(fields: "id") {
  id: ID! text: String member: Member @provides(fields: "nick") gift: Gift teller: Member
}
type Member @key(fields: "id") { id: ID! nick: String @external voices: [Voice] }
type Gift @key(fields: "code") { code: String! voices: [Voice] }
"""
)


def world() -> World:
    """Two members, three gifts, their voices."""
    w = World()
    ann = w.add("Member", id="m1", name="Ann", nick="annie")
    bo = w.add("Member", id="m2", name="Bo", nick="bo")
    kettle = w.add("Gift", code="k", name="Kettle", points=900, weight=1200, inStock=True)
    lamp = w.add("Gift", code="l", name="Lamp", points=1500, weight=300, inStock=False)
    none = w.add("Gift", code="n", name="Nothing", points=None, weight=0, inStock=None)
    for gift, postage in ((kettle, 20), (lamp, 0), (none, None)):
        gift |= {"postage": postage, "label": f"{gift['weight']} g"}
    one = w.add("Voice", id="v1", text="Boils", member=ann, gift=kettle, teller=ann)
    two = w.add("Voice", id="v2", text="Too hot", member=bo, gift=kettle, teller=ann)
    three = w.add("Voice", id="v3", text="Bright", member=ann, gift=lamp, teller=None)
    ann["voices"], bo["voices"] = [one, three], [two]
    kettle["voices"], lamp["voices"], none["voices"] = [one, two], [three], []
    w.query |= {"me": ann, "members": [ann, bo], "gifts": [kettle, lamp, none]}
    w.query |= {"gift": w.finder("Gift", by="code"), "voice": w.finder("Voice")}
    return w


CASES = (
    Case("required fields come from their owner", "{ gifts { postage } }", requests=2),
    Case(
        "what is required is not shown to the client",
        '{ gift(code: "k") { postage inStock } }',
        {"gift": {"postage": 20, "inStock": True}},
        requests=2,
    ),
    Case(
        "required nulls are sent as null",
        '{ gift(code: "n") { name postage label } }',
        {"gift": {"name": "Nothing", "postage": None, "label": "0 g"}},
        requests=2,
    ),
    Case("two @requires share a call", "{ gifts { postage label } }", requests=2),
    Case("required through two hops", "{ me { voices { gift { postage } } } }", requests=4),
    Case("provided on its path", "{ me { voices { member { nick id } } } }", requests=2),
    Case(
        "not provided on the path beside it",
        "{ me { voices { teller { nick } } } }",
        {"me": {"voices": [{"teller": {"nick": "annie"}}, {"teller": None}]}},
        requests=3,
    ),
    Case(
        "provided and more of the same entity",
        "{ me { voices { member { nick name } } } }",
        requests=3,
    ),
    Case(
        "back and forth between members and voices",
        "{ members { name voices { text gift { name voices { member { nick } } } } } }",
        requests=4,
    ),
    Case("in stock beside a hop", "{ gifts { inStock voices { text } } }", requests=3),
    Case(
        "the same field under two names",
        "{ gifts { a: postage b: postage w: weight } }",
        requests=2,
    ),
    Case(
        "a provided field where another is asked of its owner",
        '{ voice(id: "v2") { member { nick } teller { nick name } } }',
        {"voice": {"member": {"nick": "bo"}, "teller": {"nick": "annie", "name": "Ann"}}},
        requests=2,
    ),
)

FEDERATION = Federation(
    "simple-requires-provides",
    {"members": MEMBERS, "stock": STOCK, "gifts": GIFTS, "voices": VOICES},
    world,
    CASES,
)
