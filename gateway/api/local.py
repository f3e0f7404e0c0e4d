"""Our own schema answered in this process: by a compiled function if there is one, or Strawberry.

It is what `/graphql` runs, and what the one graph asks as its first subgraph; there is no HTTP
between, and the request's transactions, policies, loaders and limits are the same.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphql import (
    DocumentNode,
    GraphQLError,
    OperationDefinitionNode,
    OperationType,
    get_variable_values,
)
from graphql.execution.values import VariableValues
from strawberry.extensions import SchemaExtension
from strawberry.federation import Schema

from gateway.api import catalog_reads
from gateway.api.catalog_compiler import Compiled, compiled
from gateway.api.context import Context
from gateway.federation.errors import OperationTooLarge
from gateway.federation.normalise import condition_variables, find_operation, normalise

_KEPT = 64  # Compiled functions of one document: by operation and by decided conditions.


class Prepared(SchemaExtension):
    """Hand the parsed and validated document to Strawberry's executor."""

    def on_parse(self) -> Iterator[None]:
        asked = self.execution_context
        asked.graphql_document = asked.context.documents[asked.query]
        yield

    def on_validate(self) -> Iterator[None]:
        self.execution_context.pre_execution_errors = []
        yield


@dataclass(slots=True)
class Document:
    """A valid document of our own schema, with what was compiled of it."""

    text: str = field(repr=False)
    node: DocumentNode = field(repr=False)
    operations: dict[str | None, "_Operation"] = field(default_factory=dict)


@dataclass(slots=True)
class _Operation:
    """An operation of a document: what decides its conditions, and its functions by that."""

    definition: OperationDefinitionNode
    conditions: tuple[str, ...]
    functions: dict[tuple[object, ...], Compiled | None] = field(default_factory=dict)


@dataclass(slots=True)
class Answer:
    """What our schema answers; no data and no path in any error: nothing has run."""

    data: dict[str, Any] | None
    errors: Sequence[GraphQLError] = ()


class Local:
    """Answers documents of one schema.

    Args:
        compile: Use compiled functions; off, everything is Strawberry's.
    """

    def __init__(self, schema: Schema, *, compile: bool = True) -> None:
        self.schema = schema
        self.core = schema._schema
        self._compile = compile

    async def answer(
        self,
        document: Document,
        name: str | None,
        variables: Mapping[str, Any],
        context: Context,
    ) -> Answer:
        """Answer one operation of a valid document."""
        if self._compile and (found := await self._compiled(document, name, variables, context)):
            return found
        context.documents[document.text] = document.node
        result = await self.schema.execute(
            document.text,
            variable_values=dict(variables),
            context_value=context,
            operation_name=name,
        )
        return Answer(result.data, result.errors or ())

    async def events(
        self,
        document: Document,
        name: str | None,
        variables: Mapping[str, Any],
        context: Context,
    ) -> AsyncGenerator[Answer, None]:
        """Answer a subscription, event by event."""
        context.documents[document.text] = document.node
        results: Any = await self.schema.stream(
            document.text,
            variable_values=dict(variables),
            context_value=context,
            operation_name=name,
        )
        async with contextlib.aclosing(results):
            async for result in results:
                yield Answer(result.data, result.errors or ())

    async def _compiled(
        self, document: Document, name: str | None, variables: Mapping[str, Any], context: Context
    ) -> Answer | None:
        operation = document.operations.get(name)
        if operation is None:
            definition = find_operation(document.node, name)
            operation = _Operation(definition, condition_variables(document.node, name))
            document.operations[name] = operation
        if not operation.conditions and operation.functions.get((), True) is None:
            return None
        definitions = operation.definition.variable_definitions or ()
        values: VariableValues | None = None
        if definitions:
            read = get_variable_values(self.core, definitions, dict(variables), max_errors=1)
            if isinstance(read, list):
                return None
            values = read
        function = self._function(document, name, operation, values.coerced if values else {})
        if function is None:
            return None
        data = await catalog_reads.answer(function, self.core, values, context)
        return None if data is None else Answer(data)

    def _function(
        self,
        document: Document,
        name: str | None,
        operation: _Operation,
        values: Mapping[str, Any],
    ) -> Compiled | None:
        decided = tuple(values.get(one) for one in operation.conditions)
        if decided not in operation.functions:
            made = None
            with contextlib.suppress(OperationTooLarge):
                if operation.definition.operation is OperationType.QUERY:
                    made = compiled(normalise(self.core, document.node, name, values))
            if len(operation.functions) >= _KEPT:
                operation.functions.pop(next(iter(operation.functions)))
            operation.functions[decided] = made
        return operation.functions[decided]
