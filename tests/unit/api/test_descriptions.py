"""Everything that clients see is described, and what is said of access and values is the code's."""

from typing import Any

from gateway.api.described import public_types
from gateway.api.described.fields import EXACT, NAMED
from gateway.api.described.operations import CODES
from gateway.api.described.types import ROOTS
from gateway.api.described.values import LISTED
from gateway.api.enums import ENUMS
from gateway.api.policies import MUTATIONS
from gateway.api.schema import ours
from gateway.docgen import leaves
from gateway.reconciliation.model import BreakState

SEEN: dict[str, Any] = {each.name: each for each in public_types(ours().schema)}


def test_everything_that_clients_see_is_described():
    bare = []
    for found in SEEN.values():
        bare += [found.name] if not found.description else []
        for name, field in getattr(found, "fields", {}).items():
            each = {name: field} | {f"{name}({one})": at for one, at in _args(field).items()}
            bare += [f"{found.name}.{one}" for one, at in each.items() if not at.description]
        for name, value in getattr(found, "values", {}).items():
            bare += [] if value.description else [f"{found.name}.{name}"]
    assert bare == []


def _args(field: Any) -> Any:
    return getattr(field, "args", {})


def test_no_description_is_of_something_that_is_gone():
    places, names = set(), set()
    for found in SEEN.values():
        for name, field in getattr(found, "fields", {}).items():
            places |= {f"{found.name}.{name}"}
            places |= {f"{found.name}.{name}.{one}" for one in _args(field)}
            names |= {name, *_args(field)}
    assert set(NAMED) <= names
    assert {*EXACT, *ROOTS, *LISTED} <= places
    assert set(CODES) == set(MUTATIONS)
    told = {code for codes in CODES.values() for code in codes.split()}
    assert told <= {leaf.code for leaf in leaves()}


def test_a_field_says_what_the_policy_asks():
    fields = SEEN["Query"].fields | SEEN["Mutation"].fields
    assert "Needs scope `points:read`, role member." in fields["me"].description
    assert "Needs scope `catalog:read`, any role." in fields["offers"].description
    both = "Needs scope `offers:write`, role partner; or scope `promotions:write`, role operator."
    assert both in fields["suspendOffer"].description
    assert "`settlement:ack:<merchant>`" in fields["acknowledgeSettlementLeg"].description
    assert "Needs no token." in fields["registerClientKey"].description
    states = SEEN["BreaksFilter"].fields["states"].description
    assert states.endswith("One of: " + ", ".join(BreakState) + ".")


def test_an_enum_is_said_as_it_is_stored():
    """A value's name is what clients read; the rooms' value is what events and books have."""
    for name, (kind, *_) in ENUMS.items():
        assert {each.name for each in kind} == {each.value for each in kind}, name
