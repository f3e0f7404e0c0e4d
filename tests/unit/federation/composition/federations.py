"""Small federations as text: subgraphs under `--- name` lines, composed and looked at."""

import re

from gateway.federation.composition import CompositionFailed, compose

LINK = 'extend schema @link(url: "https://specs.apollo.dev/federation/v{}", import: [{}])'


def subgraphs(text: str) -> list[tuple[str, str, str]]:
    """(name, URL, SDL) of each. `use 2.7 key tag` stands for the `@link` that imports them."""
    found = []
    for part in re.split(r"^\s*--- ", text, flags=re.MULTILINE)[1:]:
        name, _, sdl = part.partition("\n")
        found.append((name.strip(), f"http://{name.strip()}", re.sub(_USE, _link, sdl)))
    return found


_USE = re.compile(r"^\s*use ([\d.]+)(.*)$", flags=re.MULTILINE)


def _link(match: re.Match[str]) -> str:
    names = ", ".join(f'"@{name}"' for name in match.group(2).split())
    return LINK.format(match.group(1), names)


def supergraph(text: str) -> str:
    """The supergraph of a federation; its errors fail the test that asks."""
    return compose(subgraphs(text)).sdl


def codes(text: str) -> set[str]:
    """The codes a federation is refused with, none when it composes."""
    try:
        compose(subgraphs(text))
    except CompositionFailed as failed:
        return {error.code for error in failed.errors}
    return set()


def hints(text: str) -> set[str]:
    """The codes of the hints on a federation that composes."""
    return {hint.code for hint in compose(subgraphs(text)).hints}


def definition(sdl: str, name: str) -> str:
    """The definition of a type or `@directive` in a supergraph, without `join__type` lines."""
    word = rf"directive {name}" if name.startswith("@") else rf"\w+ {name}"
    found = re.search(rf"^{word}\b.*?(?=\n\n(?:\w|\"\"\")|\Z)", sdl, re.MULTILINE | re.DOTALL)
    assert found, f"{name} is not in the supergraph"
    lines = [line for line in found.group().split("\n") if "@join__type(" not in line]
    return "\n".join(lines)
