"""Runs the mutants of one suite. A script: `tests` must first be imported from the mutated copy.

Reads one JSON object from the command line and writes another to a file; see `__main__`.
"""

import dataclasses
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.pop(0)  # This folder.

from mutmut import __main__ as mutmut
from mutmut import configuration
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.workers.isolation import ForkRunner

# A mutant that loops is stopped at four times what its tests took, and some seconds.
PATIENCE, PATIENCE_SECONDS = 4.0, 5.0


def main() -> None:
    """Mutate, choose, run, and write down what became of each chosen mutant."""
    asked = json.loads(sys.argv[1])
    modules = [f"gateway/{module}.py" for module in asked["modules"]]
    configuration._config = dataclasses.replace(
        configuration._load_config(),
        only_mutate=modules,
        do_not_mutate_patterns=asked["not_mutated"],
        pytest_add_cli_args=["-k", "not postgresql", "-p", "no:cacheprovider"],
        pytest_add_cli_args_test_selection=asked["tests"],
        timeout_multiplier=PATIENCE,
        timeout_constant=PATIENCE_SECONDS,
        use_setproctitle=False,
    )
    # The tests have just passed while their coverage was noted.
    ForkRunner.run_clean_tests = lambda self, tests: 0  # type: ignore[method-assign]
    mutmut.set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    with mutmut.CatchOutput():
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(asked["children"])
    names = chosen(modules, asked)
    if names:
        mutmut._run(names, asked["children"])
    Path(asked["out"]).write_text(json.dumps(outcome(modules, names)), "utf-8")


def chosen(modules: list[str], asked: dict[str, Any]) -> list[str]:
    """Names of the mutants to run: those asked for, all, or as many of each module, at random."""
    names: list[str] = []
    for module in modules:
        every = sorted(_data(module).exit_code_by_key)
        if asked["names"]:
            names += [name for name in every if name in asked["names"]]
        elif asked["sample"] is None:
            names += every
        else:
            dice = random.Random(f"{asked['seed']} {module}")  # noqa: S311
            names += dice.sample(every, min(asked["sample"], len(every)))
    return names


def outcome(modules: list[str], names: list[str]) -> dict[str, Any]:
    """Of each module: how many mutants there are, and what became of the chosen ones."""
    wanted, made = set(names), {}
    for module in modules:
        data = _data(module)
        results = {
            name: status_by_exit_code[code]
            for name, code in data.exit_code_by_key.items()
            if name in wanted
        }
        made[module.removeprefix("gateway/").removesuffix(".py")] = {
            "mutants": len(data.exit_code_by_key),
            "results": results,
            "diffs": {
                name: str(get_diff_for_mutant(name, path=module))
                for name, status in results.items()
                if status not in ("killed", "timeout")
            },
        }
    return made


def _data(module: str) -> SourceFileMutationData:
    data = SourceFileMutationData(path=Path(module))
    data.load()
    return data


if __name__ == "__main__":
    main()
