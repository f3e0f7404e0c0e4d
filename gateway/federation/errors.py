"""What federation refuses, with codes that are published."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CompositionError:
    """Why subgraphs make no supergraph: Apollo's code, a message, the subgraphs it lies in.

    `line` and `column` are known of what cannot be read as GraphQL.
    """

    code: str
    message: str
    subgraphs: tuple[str, ...] = ()
    line: int | None = None
    column: int | None = None


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


class AnswerTooLarge(Exception):
    """What the client asked for is more than is sent: entities that stand in too many places."""

    code = "RESPONSE_TOO_LARGE"

    def __init__(self) -> None:
        super().__init__("The answer would be too large; ask for less of it.")


class OperationTooLarge(ValueError):
    """An operation that is above a limit once its fragments are written out.

    `code` is published; `what` is counted ("selections" or "depth"), `limit` is the most allowed.
    """

    code = "QUERY_TOO_EXPENSIVE"

    def __init__(self, what: str, limit: int) -> None:
        super().__init__(f"the operation is above the limit of {limit} {what}")
        self.what = what
        self.limit = limit
