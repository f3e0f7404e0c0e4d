"""What federation refuses, with codes that are published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompositionError:
    """Why subgraphs make no supergraph: Apollo's code, a message, the subgraphs it lies in."""

    code: str
    message: str
    subgraphs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hint:
    """What composed but deserves a look."""

    code: str
    message: str
    subgraphs: tuple[str, ...] = ()


class InvalidSupergraph(ValueError):
    """The text is no supergraph we can read: syntax, a missing join spec, an unknown version."""


class NoPlan(Exception):
    """No subgraph can answer a selected field from where it is: `path` is the field's."""

    def __init__(self, message: str, path: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.path = path
