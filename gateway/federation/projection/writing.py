"""Writing Python: functions, lines, names of variables and constants.

Nothing from a document or a schema ever becomes an identifier: variables are letters and numbers
given out here, and GraphQL's names stand in the code only as string literals.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from gateway.federation.errors import AnswerTooLarge
from gateway.federation.projection.layout import TooInvolved

_INDENT_MAX = 60  # The parser allows 100 levels.
_LOOPS_MAX = 12  # The compiler allows 20 blocks in one another.
_LINES_MAX = 20_000


MAX_ITEMS = 2_000_000
"""Items of lists in one answer, each counted wherever it stands."""


class Suspect(Exception):
    """Generated code met something that the careful way has to judge."""


def tuple_of(parts: Sequence[str]) -> str:
    """The expression of a tuple."""
    return f"({', '.join(parts)},)" if parts else "()"


class Function:
    """A function being written."""

    def __init__(self, name: str, parameters: str) -> None:
        self.name = name
        self.parameters = parameters
        self.lines: list[str] = []
        self.depth = 1
        self.loops = 0
        self.loaded: dict[str, str] = {}
        self.calls: list[str] = []

    def text(self) -> str:
        head = [f"def {self.name}({self.parameters}):"]
        loads = [f" {name} = {expression}" for name, expression in self.loaded.items()]
        return "\n".join([*head, *loads, *(self.lines or [" pass"])])


class Module:
    """Functions and constants; a function is compiled when it is asked for."""

    def __init__(self) -> None:
        self.constants: dict[str, Any] = {"Suspect": Suspect, "AnswerTooLarge": AnswerTooLarge}
        self._known: dict[Any, str] = {}
        self._functions: list[Function] = []
        self._waiting: dict[str, Function] = {}
        self._names = 0
        self._lines = 0

    def name(self, letter: str) -> str:
        """A name nobody else has."""
        self._names += 1
        return f"{letter}{self._names}"

    def constant(self, value: Any) -> str:
        """The name of a hashable constant."""
        found = self._known.get(value)
        if found is None:
            found = self._known[value] = self.name("C")
            self.constants[found] = value
        return found

    def held(self, value: Any) -> str:
        """The name of any other object."""
        name = self.name("C")
        self.constants[name] = value
        return name

    def function(self, parameters: str, name: str | None = None) -> Function:
        made = Function(name or self.name("p"), parameters)
        self._functions.append(made)
        self._waiting[made.name] = made
        return made

    def begin(self) -> int:
        """A mark to go back to with `drop`."""
        return len(self._functions)

    def drop(self, mark: int) -> None:
        """Forget functions begun after a mark."""
        for one in self._functions[mark:]:
            del self._waiting[one.name]
        del self._functions[mark:]

    def count(self) -> None:
        self._lines += 1
        if self._lines > _LINES_MAX:
            raise TooInvolved("more code than is worth generating")

    def text(self) -> str:
        """The code, for those who want to read it."""
        return "\n\n".join(one.text() for one in self._functions)

    def compiled(self, name: str) -> Callable[..., Any]:
        """A function, compiled with those it calls if it is not yet."""
        first = self._waiting.pop(name, None)
        if first is not None:
            found = [first]
            for one in found:
                found += [self._waiting.pop(each) for each in one.calls]
            text = "\n\n".join(one.text() for one in found)
            # The text holds literals, numbers and names given out by this module, nothing else.
            exec(compile(text, "<projection>", "exec"), self.constants)  # noqa: S102 - our own text, see above
        made: Callable[..., Any] = self.constants[name]
        return made


class Writer:
    """Writes into one function at a time."""

    def __init__(self, module: Module, function: Function) -> None:
        self.module = module
        self.function = function

    def line(self, text: str) -> None:
        self.module.count()
        self.function.lines.append(" " * self.function.depth + text)

    def block(self, head: str) -> "_Block":
        """Lines one level in, under `head`."""
        return _Block(self, head)

    def load(self, name: str, expression: str) -> str:
        """A variable set once at the function's beginning."""
        self.function.loaded[name] = expression
        return name

    def deep(self) -> bool:
        """Whether what is to come should be a function of its own."""
        return self.function.depth > _INDENT_MAX or self.function.loops >= _LOOPS_MAX

    @contextmanager
    def inside(self, function: Function) -> Iterator[None]:
        """Write into another function for a while."""
        outer, self.function = self.function, function
        outer.calls.append(function.name)
        yield
        self.function = outer


class _Block:
    """A block while it is written; many are, so it is no generator."""

    __slots__ = ("before", "head", "loop", "writer")

    def __init__(self, writer: Writer, head: str) -> None:
        self.writer = writer
        self.head = head
        self.loop = head.startswith("for ")
        self.before = 0

    def __enter__(self) -> None:
        self.writer.line(self.head)
        function = self.writer.function
        function.depth += 1
        function.loops += self.loop
        self.before = len(function.lines)

    def __exit__(self, *_: object) -> None:
        function = self.writer.function
        if len(function.lines) == self.before:
            self.writer.line("pass")
        function.depth -= 1
        function.loops -= self.loop
