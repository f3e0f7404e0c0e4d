"""Random operations on a schema, and random changes to others': what clients may write.

Two sources: hypothesis-graphql makes documents that are valid by construction; `operation` here
makes wilder ones (response keys that clash, fragments on every type that may apply, names reused),
of which the valid are kept. `dressed` gives either aliases, variables, conditions and fragments.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    GraphQLSchema,
    InlineFragmentNode,
    ast_from_value,
    get_named_type,
    is_abstract_type,
    is_composite_type,
    is_enum_type,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    parse,
    print_ast,
    validate,
)

from tests.federation.harness.world import PerGraph, World

_ALIASES = ("a", "b", "id", "name", "c")


@dataclass
class Pool:
    """Values that arguments take: those that occur in the data, by kind of scalar."""

    texts: list[str] = field(default_factory=lambda: ["nothing"])
    numbers: list[int] = field(default_factory=lambda: [0, 1, 2, 3])

    @classmethod
    def of(cls, world: World) -> "Pool":
        """All ids and texts of a world."""
        pool = cls()
        for record in world.objects:
            for value in record.values():
                plain = value.truth if isinstance(value, PerGraph) else value
                if isinstance(plain, str):
                    pool.texts.append(plain)
        pool.texts = sorted(set(pool.texts))
        return pool

    def value(self, type_: Any, rng: random.Random) -> Any:
        """A JSON value of an input type."""
        if is_non_null_type(type_):
            return self.value(type_.of_type, rng)
        if is_list_type(type_):
            return [self.value(type_.of_type, rng) for _ in range(rng.randint(0, 2))]
        if is_enum_type(type_):
            return rng.choice(sorted(type_.values))
        if is_input_object_type(type_):
            return {
                name: self.value(one.type, rng)
                for name, one in type_.fields.items()
                if is_non_null_type(one.type) or rng.random() < 0.5
            }
        if type_.name in {"Int", "Float"}:
            return rng.choice(self.numbers)
        return rng.random() < 0.5 if type_.name == "Boolean" else rng.choice(self.texts)


@dataclass
class Writer:
    """One random operation while it is written."""

    schema: GraphQLSchema
    pool: Pool
    rng: random.Random
    fragments: dict[str, str] = field(default_factory=dict)
    declared: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    heads: list[tuple[str, str, Any]] = field(default_factory=list)

    def operation(self, depth: int) -> str:
        """Its text, with variables and fragments."""
        body = self.selections(self.schema.query_type, depth)
        return self.finished(body)

    def finished(self, body: str) -> str:
        """Selections of the root as a whole document."""
        declared = ", ".join(f"${name}: {type_}" for name, type_ in self.declared.items())
        head = f"query Q{f'({declared})' if declared else ''} "
        return "\n".join([head + body, *self.fragments.values()])

    def selections(self, type_: Any, depth: int) -> str:
        """A selection set on a type, at most `depth` levels deep."""
        parts = [self.one(type_, depth) for _ in range(self.rng.choice((1, 2, 2, 3, 4)))]
        if depth > 0 and self.rng.random() < 0.2:
            parts += self.again(type_, depth)
        return "{ " + " ".join(parts) + " }"

    def one(self, type_: Any, depth: int) -> str:
        """A field or a fragment."""
        chance = self.rng.random()
        if depth > 0 and chance < (0.35 if is_abstract_type(type_) else 0.12):
            return self.fragment(type_, depth)
        fields = dict(getattr(type_, "fields", {}))
        if depth <= 0:
            named = {name: get_named_type(one.type) for name, one in fields.items()}
            fields = {n: one for n, one in fields.items() if not is_composite_type(named[n])}
        if not fields or chance > 0.93:
            return self.alias() + "__typename" + self.condition()
        name = self.rng.choice(sorted(fields))
        inner = get_named_type(fields[name].type)
        arguments = self.arguments(fields[name].args)
        text = f"{self.alias()}{name}{arguments}{self.condition()}"
        if not is_composite_type(inner):
            return text
        self.heads.append((name, text, inner))
        return f"{text} {self.selections(inner, depth - 1)}"

    def again(self, type_: Any, depth: int) -> list[str]:
        """A field written before, with other selections, in a fragment too: all to be merged."""
        fields = getattr(type_, "fields", {})
        known = [
            (head, inner)
            for name, head, inner in self.heads
            if name in fields and get_named_type(fields[name].type) is inner
        ]
        if not known:
            return []
        head, inner = self.rng.choice(known)
        first, within, last = (f"{head} {self.selections(inner, depth - 1)}" for _ in range(3))
        on = self.rng.choice(self.overlapping(type_)).name
        return [first, f"... on {on} {{ {within} }}", last]

    def fragment(self, type_: Any, depth: int) -> str:
        """An inline or a named fragment on a type that may apply, or an old one again."""
        on = self.rng.choice(self.overlapping(type_))
        named = [name for name in self.fragments if name.startswith(f"F_{on.name}_")]
        if named and self.rng.random() < 0.3:
            return f"...{self.rng.choice(named)}{self.condition()}"
        body = self.selections(on, depth - 1)
        if self.rng.random() < 0.25:
            name = f"F_{on.name}_{len(self.fragments)}"
            self.fragments[name] = f"fragment {name} on {on.name} {body}"
            return f"...{name}{self.condition()}"
        condition = f" on {on.name}" if on is not type_ or self.rng.random() < 0.7 else ""
        return f"...{condition}{self.condition()} {body}"

    def overlapping(self, type_: Any) -> list[Any]:
        """Composite types some object may have together with `type_`."""
        mine = self.possible(type_)
        found = [
            one
            for name, one in self.schema.type_map.items()
            if is_composite_type(one) and not name.startswith("__") and self.possible(one) & mine
        ]
        return sorted(found, key=lambda one: one.name)

    def possible(self, type_: Any) -> set[str]:
        """Object types of a type."""
        if is_abstract_type(type_):
            return {one.name for one in self.schema.get_possible_types(type_)}
        return {type_.name}

    def alias(self) -> str:
        """An alias now and then."""
        return f"{self.rng.choice(_ALIASES)}: " if self.rng.random() < 0.12 else ""

    def condition(self) -> str:
        """@skip or @include now and then, by a literal or a variable with or without default."""
        if self.rng.random() > 0.07:
            return ""
        kind = self.rng.choice(("skip", "include"))
        if self.rng.random() < 0.3:
            return f" @{kind}(if: {self.rng.choice(('true', 'false'))})"
        name = f"c{self.rng.randint(0, 2)}"
        if name not in self.declared:
            default = self.rng.choice(("", " = true", " = false"))
            self.declared[name] = "Boolean!" + default
            if not default or self.rng.random() < 0.5:
                self.values[name] = self.rng.random() < 0.5
        return f" @{kind}(if: ${name})"

    def arguments(self, arguments: Mapping[str, Any]) -> str:
        """Values for a field's arguments: literals and variables."""
        parts = []
        for name, argument in arguments.items():
            if not is_required_argument(argument) and self.rng.random() < 0.4:
                continue
            value = self.pool.value(argument.type, self.rng)
            if self.rng.random() < 0.4:
                parts.append(f"{name}: ${self.variable(argument.type, value)}")
            else:
                parts.append(f"{name}: {print_ast(ast_from_value(value, argument.type))}")
        return f"({', '.join(parts)})" if parts else ""

    def variable(self, type_: Any, value: Any) -> str:
        """A variable of a type, new or used before."""
        for name, declared in self.declared.items():
            if declared == str(type_) and self.rng.random() < 0.3:
                return name
        name = f"v{len(self.declared)}"
        self.declared[name] = str(type_)
        self.values[name] = value
        return name


def operation(
    schema: GraphQLSchema, pool: Pool, rng: random.Random
) -> tuple[str, dict[str, Any]] | None:
    """A random valid operation with its variables; None where chance made none."""
    for _ in range(20):
        writer = Writer(schema, pool, rng)
        text = writer.operation(rng.choice((2, 3, 4, 5)))
        if len(text) < 6_000 and not validate(schema, parse(text)):
            return text, writer.values
    return None


def dressed(
    schema: GraphQLSchema, pool: Pool, rng: random.Random, document: DocumentNode
) -> tuple[str, dict[str, Any]]:
    """Another's operation with values from the data, aliases, variables, conditions, fragments."""
    writer = Writer(schema, pool, rng)
    body = _dressed(writer, document.definitions[0].selection_set, schema.query_type)
    text = writer.finished(body)
    if validate(schema, parse(text)):
        return print_ast(document), {}
    return text, writer.values


def _dressed(writer: Writer, selections: Any, type_: Any) -> str:
    parts = []
    for node in selections.selections:
        if isinstance(node, InlineFragmentNode):
            name = node.type_condition.name.value if node.type_condition else type_.name
            inner = _dressed(writer, node.selection_set, writer.schema.type_map[name])
            if writer.rng.random() < 0.3:
                label = f"F_{name}_{len(writer.fragments)}"
                writer.fragments[label] = f"fragment {label} on {name} {inner}"
                parts.append(f"...{label}{writer.condition()}")
            else:
                parts.append(f"... on {name}{writer.condition()} {inner}")
        elif isinstance(node, FieldNode):
            parts.append(_dressed_field(writer, node, type_))
    return "{ " + " ".join(parts) + " }"


def _dressed_field(writer: Writer, node: FieldNode, type_: Any) -> str:
    name = node.name.value
    if name == "__typename":
        return writer.alias() + name
    definition = type_.fields[name]
    alias = f"{node.alias.value}: " if node.alias else writer.alias()
    text = f"{alias}{name}{writer.arguments(definition.args)}{writer.condition()}"
    if node.selection_set:
        text += " " + _dressed(writer, node.selection_set, get_named_type(definition.type))
    return text
