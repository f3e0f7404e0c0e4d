"""Every behaviour a gateway must get right: answers, errors and requests, case by case.

Goal: no federation of any listed kind is answered wrongly, asked for what nobody needs, or asked
more often than necessary. Method: each case runs over subgraphs that throw when called wrongly,
on fresh data; the answer is compared with the written one and with a monolith's.
"""

import pytest

from tests.federation import suites
from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.gateway import Gateway
from tests.federation.harness.running import Running

FEDERATIONS = suites.load()
CASES = [
    pytest.param(federation, case, id=f"{name}: {case.name}")
    for name, federation in FEDERATIONS.items()
    for case in federation.cases
]
BEHAVIOURS = {
    "abstract-types", "child-type-mismatch", "circular-reference-interface",
    "complex-entity-call", "corrupted-supergraph-node-id", "enum-intersection",
    "fed1-external-extends", "fed1-external-extends-resolvable", "fed1-external-extension",
    "fed2-external-extends", "fed2-external-extension", "include-skip",
    "input-object-intersection", "interface-object-indirect-extension",
    "interface-object-with-requires", "keys-mashup", "mutations", "mysterious-external",
    "nested-provides", "node", "non-resolvable-interface-object", "null-keys",
    "override-type-interface", "override-with-requires", "parent-entity-call",
    "parent-entity-call-complex", "partial-union", "partial-union-complex",
    "provides-on-interface", "provides-on-union", "requires-circular", "requires-interface",
    "requires-requires", "requires-with-argument", "requires-with-argument-conflict",
    "requires-with-fragments", "shared-root", "simple-entity-call", "simple-inaccessible",
    "simple-interface-object", "simple-override", "simple-requires-provides", "typename",
    "unavailable-override", "union-interface-distributed", "union-intersection",
    "progressive-override", "fed1-supergraph", "conditions-by-variables",
    "errors-and-partial-data", "subscriptions",
}  # fmt: skip


@pytest.mark.parametrize(("federation", "case"), CASES)
async def test_a_case_is_answered(federation: Federation, case: Case) -> None:
    running = Running(federation)
    answer = await Gateway(running, case.labels).answer_case(case)
    assert running.complaints(case, answer) == []


def test_every_behaviour_has_its_federation() -> None:
    assert BEHAVIOURS - set(FEDERATIONS) == set()
