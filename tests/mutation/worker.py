"""Runs the mutants of one suite. A script: `tests` must first be imported from the mutated copy.

One pytest session collects the tests, runs each once and notes which functions it comes by.
Then each mutant gets a process forked from it: nothing is imported, collected or seeded again.
Reads one JSON object from the command line and writes another to a file; see `__main__`.
"""

import dataclasses
import gc
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.pop(0)  # This folder.

import pytest
from mutmut import __main__ as mutmut
from mutmut import configuration
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.state import state
from mutmut.utils.file_utils import setup_source_paths
from mutmut.utils.format_utils import mangled_name_from_mutant_name

# A test that takes four times as long as it did, and some seconds, is stopped: of the processor's
# time what loops, of the clock's what waits; the clock's is much more, for a busy machine.
PATIENCE, CPU_SECONDS, SECONDS = 4.0, 5.0, 60.0
MEMORY = 8 << 30  # bytes that a mutant may ask for
SURVIVED, KILLED = 0, 1
UNCHANGED = "unchanged"  # No mutant: all tests must pass.


def main() -> None:
    """Mutate, choose, run, and write down what became of each chosen mutant."""
    asked = json.loads(sys.argv[1])
    modules = [f"gateway/{module}.py" for module in asked["modules"]]
    configuration._config = dataclasses.replace(
        configuration._load_config(),
        only_mutate=modules,
        do_not_mutate_patterns=asked["not_mutated"],
        use_setproctitle=False,
    )
    mutmut.set_mutant_under_test("mutant_generation")
    Path("mutants").mkdir(exist_ok=True)
    with mutmut.CatchOutput():
        mutmut.copy_src_dir()
        mutmut.copy_also_copy_files()
        mutmut.create_mutants(asked["children"])
    names = chosen(modules, asked)
    until = time.monotonic() + 60 * asked["minutes"]
    judge = Judge(names, asked["children"], most=asked["most_tests"], until=until)
    if names:
        setup_source_paths()
        root = Path.cwd()
        os.chdir("mutants")
        more = ["-p", "no:cacheprovider", "-o", "tmp_path_retention_policy=none"]
        pytest.main(
            [
                "--rootdir=.",
                "-q",
                "--tb=native",
                "-k",
                "not postgresql",
                "--capture=no",
                *more,
                *asked["tests"],
            ],
            plugins=[judge],
        )
        os.chdir(root)
    Path(asked["out"]).write_text(json.dumps(outcome(modules, judge)), "utf-8")


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
            dice = random.Random(f"{asked['seed']} {module}")
            names += dice.sample(every, min(asked["sample"], len(every)))
    random.Random(asked["seed"]).shuffle(names)
    return names


@dataclasses.dataclass
class Trial:
    """A mutant being tried in a process of its own."""

    name: str
    function: str
    told: int = -1  # The end of a pipe: which test failed.
    folder: str = ""  # of its tests' files


class Judge:
    """A plugin that runs its own loop: each test once, then tests for each mutant."""

    def __init__(self, names: Sequence[str], children: int, *, most: int, until: float) -> None:
        self.names = names
        self.children = children
        self.most = most  # tests judge a mutant, where more come by its function
        self.until = until
        self.results: dict[str, str] = {}
        self.cpu_seconds = 0.0
        self._seconds: dict[int, float] = {}  # that each test took
        self._by: dict[str, list[int]] = defaultdict(list)  # tests that come by a function
        self._killers: dict[str, list[int]] = defaultdict(list)  # the last one first
        self._kills: Counter[int] = Counter()  # of each test, of any function
        self._trials: dict[int, Trial] = {}
        self._failed: list[str] = []
        self._tell: tuple[int, int] | None = None  # A mutant's process: its pipe, and the test.

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a failure; in a mutant's process it is the end, of whatever is open there."""
        if report.failed and self._tell is not None:
            os.write(self._tell[0], str(self._tell[1]).encode())
            os._exit(KILLED)
        if report.failed:
            self._failed.append(f"{report.nodeid}\n{report.longreprtext}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Rehearse, then try all mutants."""
        if session.testsfailed:
            sys.exit("tests cannot be collected")
        self._rehearse(session.items)
        gc.freeze()
        self._try(session, Trial(UNCHANGED, UNCHANGED))
        self._reap()
        if self.results.pop(UNCHANGED) != "survived":
            sys.exit("the tests pass, but not in a process of their own")
        began = _cpu()
        for done, name in enumerate(self.names):
            while len(self._trials) >= self.children:
                self._reap()
            if time.monotonic() > self.until:  # What was tried is a sample, too: they are mixed.
                break
            function = mangled_name_from_mutant_name(name)
            if self._by[function]:
                self._try(session, Trial(name, function))
            else:
                self.results[name] = "no tests"
            if done % 50 == 0:
                sys.stderr.write(f"\n{done} of {len(self.names)}\n")
        while self._trials:
            self._reap()
        self.cpu_seconds = _cpu() - began
        return True

    def _rehearse(self, items: list[pytest.Item]) -> None:
        """Each test, unchanged: which functions it comes by. Fixtures of the session remain."""
        mutmut.set_mutant_under_test("stats")
        for place, item in enumerate(items):
            began = time.perf_counter()
            _run(item, items[(place + 1) % len(items)])
            self._seconds[place] = time.perf_counter() - began
            for function in (UNCHANGED, *state()._stats):
                self._by[function].append(place)
            state()._stats.clear()
            if self._failed:
                sys.exit("the tests do not pass unchanged:\n" + self._failed[0])

    def _try(self, session: pytest.Session, trial: Trial) -> None:
        """Fork a process that tries one mutant."""
        trial.told, tell = os.pipe()
        trial.folder = tempfile.mkdtemp()
        pid = os.fork()
        if pid:
            os.close(tell)
            self._trials[pid] = trial
            return
        try:
            quiet = os.open(os.devnull, os.O_RDWR)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            session.config._tmp_path_factory._basetemp = Path(trial.folder)
            mutmut.set_mutant_under_test(trial.name)
            self._judge(session, self._order(trial.function), tell)
            os._exit(SURVIVED)
        finally:
            os._exit(2)  # Nothing is known.

    def _order(self, function: str) -> list[int]:
        """What failed for other mutants of this function, then what finds most in least time."""
        killers = self._killers[function]

        def price(place: int) -> float:
            return self._seconds[place] / (1 + self._kills[place])

        others = sorted(set(self._by[function]) - set(killers), key=price)
        return [*killers, *others][: self.most]

    def _judge(self, session: pytest.Session, places: list[int], tell: int) -> None:
        """Run tests up to the first that fails, which ends this process."""
        items = [session.items[place] for place in places]
        session._setupstate.teardown_exact(items[0])
        for place, item, following in zip(places, items, [*items[1:], None], strict=True):
            self._tell = (tell, place)
            patience = PATIENCE * self._seconds[place]
            signal.setitimer(signal.ITIMER_PROF, patience + CPU_SECONDS)
            signal.setitimer(signal.ITIMER_REAL, patience + SECONDS)
            _run(item, following)

    def _reap(self) -> None:
        """Wait for one process, and note what became of its mutant."""
        pid, status = os.wait()
        trial = self._trials.pop(pid)
        with os.fdopen(trial.told) as told:
            killer = told.read()
        shutil.rmtree(trial.folder, ignore_errors=True)
        code = os.waitstatus_to_exitcode(status)
        meanings = {
            SURVIVED: "survived",
            KILLED: "killed",
            -signal.SIGPROF: "timeout",
            -signal.SIGALRM: "timeout",
            -signal.SIGSEGV: "segfault",
        }
        self.results[trial.name] = meanings.get(code, "suspicious")
        if killer:
            place, known = int(killer), self._killers[trial.function]
            self._killers[trial.function] = [place, *(one for one in known if one != place)]
            self._kills[place] += 1


def _run(item: pytest.Item, following: pytest.Item | None) -> None:
    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def outcome(modules: list[str], judge: Judge) -> dict[str, Any]:
    """Of each module: how many mutants there are, and what became of the chosen ones."""
    made: dict[str, Any] = {}
    for module in modules:
        every = _data(module).exit_code_by_key
        results = {name: judge.results[name] for name in every if name in judge.results}
        made[module.removeprefix("gateway/").removesuffix(".py")] = {
            "mutants": len(every),
            "results": results,
            "diffs": {
                name: str(get_diff_for_mutant(name, path=module))
                for name, status in results.items()
                if status not in ("killed", "timeout")
            },
        }
    return {"modules": made, "cpu_seconds": judge.cpu_seconds}


def _data(module: str) -> SourceFileMutationData:
    data = SourceFileMutationData(path=Path(module))
    data.load()
    return data


if __name__ == "__main__":
    main()
