"""A child process with one mutant planted: `python -m tests.simulation.planted NAME FIRST COUNT`.

With `--healthy` behind it, its weather and no fault.

Prints, as one line of JSON, the first seed that fails and its problem; null when none does.
"""

import json
import sys

from tests.simulation import mutants


def main() -> int:
    """Plant it before the product is imported, then look for it."""
    name, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    mutant = mutants.named(name)
    if "--healthy" not in sys.argv:
        mutants.plant(mutant)
    from tests.simulation.engine import Simulator  # The product, with its fault.

    simulator = Simulator()
    found = None
    try:
        for seed in range(first, first + count):
            run = simulator.run(seed, traced=count == 1, weather=mutant.weather)
            if count == 1:
                print("\n".join(run.trace), file=sys.stderr)  # noqa: T201 - asked for
            if run.problems:
                found = {"seed": seed, "problem": run.problems[0]}
                break
    finally:
        simulator.close()
    print(json.dumps(found, ensure_ascii=False))  # noqa: T201 - its answer
    return 0


if __name__ == "__main__":
    sys.exit(main())
