"""`@override`: whose field it is afterwards, and what it may not take."""

import pytest

from tests.unit.federation.composition.federations import codes, definition, hints, supergraph

BILL = """
    --- new
    use 2.7 key override
    type Query { bill: Bill }
    type Bill @key(fields: "id") { id: ID! sum: Int @override(from: "old"LABEL) }
    --- old
    use 2.7 key
    type Bill @key(fields: "id") @key(fields: KEY) { id: ID! sum: Int }
    """


def bill(label: str = "", key: str = "id") -> str:
    written = f', label: "{label}"' if label else ""
    return BILL.replace("LABEL", written).replace("KEY", f'"{key}"')


TAKEN = {
    "the source loses the field": (bill(), '  sum: Int @join__field(graph: NEW, override: "old")'),
    "a source that needs it keeps it for itself": (
        bill(key="id sum"),
        '  sum: Int @join__field(graph: NEW, override: "old") '
        "@join__field(graph: OLD, usedOverridden: true)",
    ),
    "with a label both have it": (
        bill(label="percent(5)"),
        '  sum: Int @join__field(graph: NEW, override: "old", overrideLabel: "percent(5)") '
        '@join__field(graph: OLD, overrideLabel: "percent(5)")',
    ),
    "with a label and a need both have it": (
        bill(label="slow.start", key="id sum"),
        '  sum: Int @join__field(graph: NEW, override: "old", overrideLabel: "slow.start") '
        '@join__field(graph: OLD, usedOverridden: true, overrideLabel: "slow.start")',
    ),
}


@pytest.mark.parametrize("name", TAKEN)
def test_override(name: str) -> None:
    federation, line = TAKEN[name]
    assert line in definition(supergraph(federation), "Bill").split("\n")


def test_hints_on_what_is_overridden() -> None:
    assert "OVERRIDDEN_FIELD_CAN_BE_REMOVED" in hints(bill())
    assert "OVERRIDE_MIGRATION_IN_PROGRESS" in hints(bill(label="percent(5)"))
    gone = bill().replace("sum: Int }\n    \n", "}").replace("id: ID! sum: Int }", "id: ID! }")
    assert "OVERRIDE_DIRECTIVE_CAN_BE_REMOVED" in hints(gone)
    assert "FROM_SUBGRAPH_DOES_NOT_EXIST" in hints(
        """
        --- new
        use 2.7 override
        type Query { n: Int @override(from: "nobody") }
        """
    )


LABELS = {
    "percent(0)": True,
    "percent(100)": True,
    "percent(12.345)": True,
    "percent(100.5)": False,
    "percent(-1)": False,
    "percent(101)": False,
    "night-shift_2:a/b.c": True,
    "2fast": False,
    "with space": False,
}


@pytest.mark.parametrize("label", LABELS)
def test_labels(label: str) -> None:
    expected = set() if LABELS[label] else {"OVERRIDE_LABEL_INVALID"}
    assert codes(bill(label=label)) == expected


REFUSED = {
    "from itself": (
        "OVERRIDE_FROM_SELF_ERROR",
        """
        --- new
        use 2.7 override
        type Query { n: Int @override(from: "new") }
        """,
    ),
    "from what overrides": (
        "OVERRIDE_SOURCE_HAS_OVERRIDE",
        """
        --- a
        use 2.7 override shareable
        type Query { n: Int @override(from: "b") @shareable }
        --- b
        use 2.7 override shareable
        type Query { n: Int @override(from: "c") @shareable }
        --- c
        use 2.7 shareable
        type Query { n: Int @shareable }
        """,
    ),
    "on an interface": (
        "OVERRIDE_ON_INTERFACE",
        """
        --- a
        use 2.7 override
        type Query { n: Named }
        interface Named { name: String @override(from: "b") }
        type Person implements Named { name: String }
        --- b
        use 2.7
        interface Named { name: String }
        """,
    ),
    "what the source requires for": (
        "OVERRIDE_COLLISION_WITH_ANOTHER_DIRECTIVE",
        """
        --- a
        use 2.7 key override shareable
        type Query { t: Thing }
        type Thing @key(fields: "id") { id: ID! n: Int @override(from: "b") @shareable m: Int }
        --- b
        use 2.7 key requires external shareable
        type Thing @key(fields: "id") {
          id: ID! m: Int @external n: Int @requires(fields: "m") @shareable
        }
        """,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    code, federation = REFUSED[name]
    assert codes(federation) == {code}
