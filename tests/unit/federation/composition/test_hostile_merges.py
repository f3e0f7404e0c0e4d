"""Input made to hurt: bounded time, coded errors, nothing else."""

import random
import time

import pytest

from gateway.federation.composition import CompositionFailed, compose
from tests.support.federations import large
from tests.unit.federation.composition.federations import codes, subgraphs

SECONDS = 20.0
"""Far more than any of these takes, far less than they would take unbounded."""


def _conditions(letters: str, count: int) -> str:
    terms = ", ".join(f'["{letters}{number}"]' for number in range(count))
    return f"@policy(policies: [{terms}])"


def _multiplying() -> str:
    return "\n".join(
        f"""
        --- s{letter}
        use 2.9 policy shareable
        type Query {{ n: Int @shareable {_conditions(letter, 40)} }}
        """
        for letter in "abcdef"
    )


def _abstracted() -> str:
    kinds = " ".join(
        f'type T{number} implements N @key(fields: "id") {{ id: ID! }}' for number in range(600)
    )
    fields = " ".join(f"f{number}: Int" for number in range(600))
    return f"""
        --- one
        use 2.3 key
        type Query {{ n: N }}
        interface N @key(fields: "id") {{ id: ID! }}
        {kinds}
        --- two
        use 2.3 key interfaceObject
        type N @interfaceObject @key(fields: "id") {{ id: ID! {fields} }}
        """


def _chained() -> str:
    inputs = " ".join(f"input I{n} {{ next: I{n + 1}! }}" for n in range(3_000))
    return f"""
        --- one
        use 2.3
        type Query {{ n(i: I0): Int }}
        {inputs}
        input I3000 {{ n: Int }}
        """


def _quarrelling() -> str:
    return "\n".join(
        f"""
        --- s{number}
        use 2.3
        type Query {{ {" ".join(f"f{field}: T{number % 3}" for field in range(300))} }}
        type T{number % 3} {{ n: Int }}
        """
        for number in range(12)
    )


HOSTILE = {
    "conditions that multiply": (_multiplying(), {"COMPOSITION_TOO_LARGE"}),
    "fields times implementations": (_abstracted(), {"COMPOSITION_TOO_LARGE"}),
    "a long chain of required inputs": (_chained(), set()),
    "everything wrong at once": (
        _quarrelling(),
        {"FIELD_TYPE_MISMATCH", "INVALID_FIELD_SHARING"},
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bounded(name: str) -> None:
    federation, expected = HOSTILE[name]
    began = time.process_time()
    assert codes(federation) == expected
    assert time.process_time() - began < SECONDS


def test_cut_and_mixed_documents_give_coded_errors_only() -> None:
    rng = random.Random(20_26)  # The same documents each time.
    whole = [
        *large(3, 10),
        *subgraphs(_quarrelling().replace("300", "3"))[:2],
    ]
    for _ in range(60):
        mixed = [(name, url, _damaged(rng, sdl)) for name, url, sdl in rng.sample(whole, 3)]
        try:
            compose(mixed)
        except CompositionFailed as failed:
            assert all(error.code and error.message for error in failed.errors)


def _damaged(rng: random.Random, sdl: str) -> str:
    words = sdl[:4_000].split(" ")
    for _ in range(rng.randrange(3)):
        place = rng.randrange(len(words))
        words[place : place + rng.randrange(3)] = rng.sample(words, rng.randrange(2))
    return " ".join(words)


def test_a_large_federation_takes_time_in_proportion() -> None:
    compose(large(2, 20))
    few = _seconds(5)
    assert _seconds(20) < 4 * few * 2 + 0.5


def _seconds(count: int) -> float:
    federation = large(count, 50)
    began = time.process_time()
    compose(federation)
    return time.process_time() - began
