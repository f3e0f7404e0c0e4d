"""Access requirements: what interfaces inherit, what `@requires` must ask for as well."""

import pytest

from tests.unit.federation.composition.federations import codes, definition, supergraph

STAFF = """
    --- people
    use 2.9 key authenticated policy requiresScopes
    type Query { staff: [Person] }
    type Person @key(fields: "id") { id: ID! pay: Int PAY grade: Grade }
    type Grade { level: Int @authenticated }
    --- taxes
    use 2.9 key authenticated policy requiresScopes requires external
    type Person @key(fields: "id") { id: ID! EXTERNAL tax: Int @requires(fields: "SET") TAX }
    """
EXTERNAL = {
    "pay": "pay: Int @external",
    "grade { level }": "grade: Grade @external",
}


def staff(pay: str, tax: str, fields: str = "pay") -> str:
    text = STAFF.replace("PAY", pay).replace("TAX", tax).replace("SET", fields)
    grade = "type Grade { level: Int @external }" if "grade" in fields else ""
    return text.replace("EXTERNAL", EXTERNAL[fields]) + grade


ACCESS = {
    "nothing asked, nothing needed": (staff("", ""), True),
    "as much as needed": (staff("@authenticated", "@authenticated"), True),
    "nothing where something is needed": (staff("@authenticated", ""), False),
    "one way of several": (
        staff('@policy(policies: [["a"], ["b"]])', '@policy(policies: [["a"]])'),
        True,
    ),
    "a way too many": (
        staff('@policy(policies: [["a"]])', '@policy(policies: [["a"], ["b"]])'),
        False,
    ),
    "more than needed": (
        staff('@requiresScopes(scopes: [["a"]])', '@requiresScopes(scopes: [["a", "b"]])'),
        True,
    ),
    "deep in the selection": (staff("", "", "grade { level }"), False),
    "asked deep in the selection": (staff("", "@authenticated", "grade { level }"), True),
}


@pytest.mark.parametrize("name", ACCESS)
def test_requirements_ask_for_access(name: str) -> None:
    federation, right = ACCESS[name]
    assert codes(federation) == (set() if right else {"MISSING_TRANSITIVE_AUTH_REQUIREMENTS"})


def test_an_interface_asks_for_all_its_implementations_ask_for() -> None:
    sdl = supergraph(
        """
        --- one
        use 2.9 authenticated policy
        type Query { pets: [Pet] }
        interface Pet { name: String }
        type Cat implements Pet @authenticated { name: String }
        type Dog implements Pet { name: String @policy(policies: [["walk"]]) }
        """
    )
    assert definition(sdl, "Pet") == (
        'interface Pet\n  @authenticated\n{\n  name: String @policy(policies: [["walk"]])\n}'
    )
