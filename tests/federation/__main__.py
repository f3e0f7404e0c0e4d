"""`python -m tests.federation`: all cases and what they cost; one case with its plan."""

import argparse
import asyncio
import json
import sys

from graphql import parse

from gateway.federation.errors import NoPlan
from gateway.federation.normalise import normalise
from gateway.federation.planner import Planner
from gateway.federation.printing import print_plan
from tests.federation import suites
from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.gateway import Gateway, supergraph
from tests.federation.harness.running import Running


def main() -> int:
    """Run what the arguments name; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.federation", description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases whose name has them all")
    parser.add_argument("--plans", action="store_true", help="show plans and requests of all")
    asked = parser.parse_args()
    chosen = [
        (federation, case)
        for federation in suites.load().values()
        for case in federation.cases
        if all(word in f"{federation.name}: {case.name}" for word in asked.words)
    ]
    bad = requests = 0
    for federation, case in chosen:
        running, answer = asyncio.run(_run(federation, case))
        wrong = running.complaints(case, answer)
        requests += len(running.log.requests)
        bad += bool(wrong)
        if wrong or asked.plans:
            _show(federation, case, running, answer, wrong)
    budget = sum(case.requests for _, case in chosen)
    print(
        f"{len({f.name for f, _ in chosen})} behaviours, {len(chosen)} cases,"
        f" {len(chosen) - bad} pass, {requests} requests of {budget}"
    )
    return int(bad > 0)


async def _run(federation: Federation, case: Case) -> tuple[Running, dict]:
    running = Running(federation)
    return running, await Gateway(running, case.labels).answer_case(case)


def _show(
    federation: Federation, case: Case, running: Running, answer: dict, wrong: list[str]
) -> None:
    print(f"\n{'WRONG' if wrong else 'ok'} {federation.name}: {case.name}\n{case.query}")
    if case.variables:
        print("  variables", json.dumps(dict(case.variables)))
    if not case.refused:
        print(_plan(federation, case))
    for number, request in enumerate(running.log.requests):
        print(f"  {number} → {request.graph}: {request.query} {json.dumps(dict(request.variables))}")
    print("  answer", json.dumps(answer, ensure_ascii=False))
    for complaint in wrong:
        print("  ✗", complaint)


def _plan(federation: Federation, case: Case) -> str:
    found = supergraph(federation.supergraph)
    operation = normalise(found.api_schema, parse(case.query), case.operation, case.variables)
    try:
        return print_plan(Planner(found).plan(operation, case.labels))
    except NoPlan as impossible:
        return f"no plan: {impossible} at {impossible.path}"


if __name__ == "__main__":
    sys.exit(main())
