"""A slice of the fuzz: mutated SDL and operations end in coded errors, in bounded time."""

from tests.federation.fuzz import Fuzz, run


def test_nothing_but_coded_errors_comes_of_mutated_texts() -> None:
    findings = run(Fuzz(seed=1), iter(range(60)))
    assert findings.wrong == []
    assert sum(findings.ends.values()) == 180
