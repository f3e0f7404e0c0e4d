"""Composition of 50 subgraphs with 200 types each, against reading their documents."""

from pathlib import Path

from graphql import parse

from gateway.federation.composition import compose
from tests.bench.race import Figure, race
from tests.support.federations import large

SUBGRAPHS = 50
TYPES = 200


async def run(path: Path, *, rounds: int) -> list[Figure]:
    """`path`, the database of other parts, is not needed."""
    subgraphs = large(SUBGRAPHS, TYPES)

    async def composed() -> None:
        assert compose(subgraphs).sdl

    async def read() -> None:
        for _, _, sdl in subgraphs:
            parse(sdl, no_location=True)

    figure = Figure(
        f"composition, {SUBGRAPHS} subgraphs of {TYPES} types",
        "the documents parsed by graphql-core, nothing more",
    )
    return [await race(figure, ours=composed, floor=read, rounds=max(3, rounds // 3), times=1)]
