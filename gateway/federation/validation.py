"""The rules documents are validated by: graphql-core's, bounded, and what this gateway refuses."""

from typing import Any

from graphql import (
    ASTValidationRule,
    DirectiveNode,
    DocumentNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OverlappingFieldsCanBeMergedRule,
    specified_rules,
    validate,
)
from graphql.validation import KnownDirectivesRule

from gateway.federation.overlap import OverlappingFields

_INCREMENTAL = frozenset({"defer", "stream"})


class KnownDirectives(KnownDirectivesRule):
    """Known directives only; `@defer` and `@stream` are refused for what they are."""

    def enter_directive(self, node: DirectiveNode, *rest: Any) -> None:
        name = node.name.value
        if name in _INCREMENTAL:
            message = f"@{name} is not supported: an answer comes as one."
            self.report_error(GraphQLError(message, node))
            return
        super().enter_directive(node, *rest)


def rules(*, introspection: bool = True) -> tuple[type[ASTValidationRule], ...]:
    """All rules of the specification; without `introspection`, no field of it may be asked for."""
    replaced: dict[type[ASTValidationRule], type[ASTValidationRule]] = {
        OverlappingFieldsCanBeMergedRule: OverlappingFields,
        KnownDirectivesRule: KnownDirectives,
    }
    own = tuple(replaced.get(rule, rule) for rule in specified_rules if not _incremental(rule))
    return own if introspection else (*own, NoSchemaIntrospectionCustomRule)


def _incremental(rule: type[ASTValidationRule]) -> bool:
    return rule.__name__.startswith(("DeferStream", "StreamDirective"))


def validated(
    schema: GraphQLSchema,
    document: DocumentNode,
    given: tuple[type[ASTValidationRule], ...] | None = None,
) -> list[GraphQLError]:
    """What is wrong with a document; nothing is suggested, as that would show the schema."""
    return validate(schema, document, given or rules(), max_errors=20, hide_suggestions=True)
