"""The plans of all cases as text, kept in `plans`: a change of plans is read in a diff.

`python -m tests.federation --write-plans` writes them anew.
"""

import json
from pathlib import Path

from graphql import parse

from gateway.federation.errors import NoPlan
from gateway.federation.normalise import normalise
from gateway.federation.planner import Planner
from gateway.federation.printing import print_plan
from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.gateway import supergraph

FOLDER = Path(__file__).parent / "plans"
RULE = "=" * 8


def plan_of(federation: Federation, case: Case) -> str:
    """A case's plan, or why there is none."""
    found = supergraph(federation.supergraph)
    operation = normalise(found.api_schema, parse(case.query), case.operation, case.variables)
    try:
        return print_plan(Planner(found).plan(operation, case.labels))
    except NoPlan as impossible:
        return f"no plan: {impossible}\n"


def snapshot(federation: Federation) -> str:
    """All plans of a federation, case by case."""
    parts = []
    for case in federation.cases:
        if case.refused:
            continue
        more = f"\nlabels: {', '.join(sorted(case.labels))}" if case.labels else ""
        if case.variables:
            more += f"\nvariables: {json.dumps(dict(case.variables), sort_keys=True)}"
        parts.append(f"{case.name}\n{case.query}{more}\n\n{plan_of(federation, case)}")
    return f"{RULE}\n".join(parts)


def kept(federation: Federation) -> Path:
    """The file of a federation's plans."""
    return FOLDER / f"{federation.name}.txt"


def write(federations: list[Federation]) -> None:
    """Write all plans as they are now, and none of federations that are gone."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for one in federations:
        text = snapshot(one)
        if text:
            kept(one).write_text(text, encoding="utf-8")
