"""`python -m tests.federation`: all cases and what they cost; one case with its plan.

`--random 250 --seed 3` asks so many random operations of each federation instead, beside the
monolith, and shows every difference as small as it can be made. `--invented 100` does so over
federations made up by chance, those of a hundred seeds that compose. `--write-plans` keeps all
cases' plans as they are now (see snapshots.py).
"""

import argparse
import asyncio
import json
import sys

from rich.console import Console

from tests.federation import suites
from tests.federation.differential import Figures, campaign, federations
from tests.federation.harness.cases import Case, Federation
from tests.federation.harness.gateway import Gateway
from tests.federation.harness.running import Running
from tests.federation.inventing import composed
from tests.federation.snapshots import plan_of, write

CONSOLE = Console(soft_wrap=True, markup=False, highlight=False)


def main() -> int:
    """Run what the arguments name; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.federation", description=__doc__)
    parser.add_argument("words", nargs="*", help="only cases whose name has them all")
    parser.add_argument("--plans", action="store_true", help="show plans and requests of all")
    parser.add_argument("--random", type=int, metavar="COUNT", help="random operations of each")
    parser.add_argument("--seed", type=int, default=1, help="of random operations")
    parser.add_argument("--invented", type=int, metavar="COUNT", help="federations made by chance")
    parser.add_argument("--write-plans", action="store_true", help="keep plans as they are now")
    asked = parser.parse_args()
    if asked.write_plans:
        write(list(suites.load().values()))
        return 0
    if asked.invented:
        seeds = range(asked.seed, asked.seed + asked.invented)
        return _random(asked.random or 10, asked.seed, composed(seeds))
    if asked.random:
        chosen = [one for one in federations() if all(word in one.name for word in asked.words)]
        return _random(asked.random, asked.seed, chosen)
    return _cases(asked.words, plans=asked.plans)


def _random(count: int, seed: int, chosen: list[Federation]) -> int:
    total = Figures()
    for federation in chosen:
        figures = asyncio.run(campaign([federation], count, seed))
        for difference in figures.differences:
            CONSOLE.print(f"✗ {difference}")
        total.queries += figures.queries
        total.requests += figures.requests
        total.differences += figures.differences
    CONSOLE.print(
        f"{len(chosen)} federations, {total.queries} operations, {total.requests} requests,"
        f" {len(total.differences)} differences"
    )
    return int(bool(total.differences))


def _cases(words: list[str], *, plans: bool) -> int:
    chosen = [
        (federation, case)
        for federation in suites.load().values()
        for case in federation.cases
        if all(word in f"{federation.name}: {case.name}" for word in words)
    ]
    bad = requests = 0
    for federation, case in chosen:
        running, answer = asyncio.run(_run(federation, case))
        wrong = running.complaints(case, answer)
        requests += len(running.log.requests)
        bad += bool(wrong)
        if wrong or plans:
            _show(federation, case, running, answer, wrong)
    budget = sum(case.requests for _, case in chosen)
    CONSOLE.print(
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
    CONSOLE.print(f"\n{'WRONG' if wrong else 'ok'} {federation.name}: {case.name}\n{case.query}")
    if case.variables:
        CONSOLE.print("  variables", json.dumps(dict(case.variables)))
    if not case.refused:
        CONSOLE.print(plan_of(federation, case))
    for number, request in enumerate(running.log.requests):
        CONSOLE.print(
            f"  {number} → {request.graph}: {request.query} {json.dumps(dict(request.variables))}"
        )
    CONSOLE.print("  answer", json.dumps(answer, ensure_ascii=False))
    for complaint in wrong:
        CONSOLE.print("  ✗", complaint)


if __name__ == "__main__":
    sys.exit(main())
