"""Composition from files: a list of subgraphs in YAML or JSON, each with the file of its SDL."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gateway.federation.composition import CompositionFailed, compose
from gateway.federation.errors import CompositionError, Hint


@dataclass(frozen=True, slots=True)
class Made:
    """A supergraph, or the errors that prevent it; hints either way."""

    sdl: str | None
    errors: Sequence[CompositionError]
    hints: Sequence[Hint]


def from_file(path: Path) -> Made:
    """Compose the subgraphs a file lists; SDL files are relative to it.

    Raises:
        ValueError: The file is no such list.
        OSError: It, or an SDL file, cannot be read.
    """
    return composed([(name, url, sdl.read_text("utf-8")) for name, url, sdl in listed(path)])


def listed(path: Path) -> list[tuple[str, str, Path]]:
    """Name, URL and SDL file of each subgraph a file lists."""
    try:
        written: Any = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    if isinstance(written, dict):
        written = written.get("subgraphs")
    if not isinstance(written, list) or not written:
        raise ValueError(f"{path}: a list of name, url and sdl is needed")
    found: list[tuple[str, str, Path]] = []
    for number, one in enumerate(written):
        if not isinstance(one, dict) or not all(isinstance(one.get(k), str) for k in _NEEDED):
            raise ValueError(f"{path}: subgraph {number}: name and sdl are needed, as texts")
        if unknown := one.keys() - {"name", "url", "sdl"}:
            raise ValueError(f"{path}: subgraph {number}: there is no {', '.join(sorted(unknown))}")
        found.append((one["name"], str(one.get("url") or ""), path.parent / one["sdl"]))
    names = [name for name, _, _ in found]
    if len(set(names)) != len(names):
        raise ValueError(f"{path}: two subgraphs of one name")
    return found


_NEEDED = ("name", "sdl")


def composed(subgraphs: Sequence[tuple[str, str, str]]) -> Made:
    """Compose (name, url, SDL) of each subgraph."""
    try:
        made = compose(subgraphs)
    except CompositionFailed as failed:
        return Made(None, failed.errors, failed.hints)
    return Made(made.sdl, (), made.hints)
