"""What the specs that composition knows define: directives and types, by version.

The tables say which directive each version of the federation spec has and how it is defined; the
definitions are those every subgraph library prints. A spec outside these tables is the subgraph's
own business: it defines its directives itself.
"""

from functools import cache

from graphql import DirectiveDefinitionNode, parse

APOLLO = "https://specs.apollo.dev"
FEDERATION = f"{APOLLO}/federation"
LINK = f"{APOLLO}/link"
CORE = f"{APOLLO}/core"
CONNECT = f"{APOLLO}/connect"

Version = tuple[int, int]
VERSION_ONE: Version = (1, 0)
NEWEST: Version = (2, 14)

_TAGGED = (
    "FIELD_DEFINITION | OBJECT | INTERFACE | UNION | ARGUMENT_DEFINITION | SCALAR | ENUM"
    " | ENUM_VALUE | INPUT_OBJECT | INPUT_FIELD_DEFINITION"
)
_GUARDED = "FIELD_DEFINITION | OBJECT | INTERFACE | SCALAR | ENUM"
_COUNTED = (
    "ARGUMENT_DEFINITION | ENUM | FIELD_DEFINITION | INPUT_FIELD_DEFINITION | OBJECT | SCALAR"
)

_HISTORY: tuple[tuple[Version, str], ...] = (
    (
        (1, 0),
        "@key(fields: FieldSet!, resolvable: Boolean = true) repeatable on OBJECT | INTERFACE",
    ),
    ((1, 0), "@requires(fields: FieldSet!) on FIELD_DEFINITION"),
    ((1, 0), "@provides(fields: FieldSet!) on FIELD_DEFINITION"),
    ((1, 0), "@external(reason: String) on OBJECT | FIELD_DEFINITION"),
    ((1, 0), f"@tag(name: String!) repeatable on {_TAGGED}"),
    ((1, 0), "@extends on OBJECT | INTERFACE"),
    ((2, 0), "@shareable on OBJECT | FIELD_DEFINITION"),
    ((2, 0), f"@inaccessible on {_TAGGED}"),
    ((2, 0), "@override(from: String!) on FIELD_DEFINITION"),
    ((2, 1), "@composeDirective(name: String) repeatable on SCHEMA"),
    ((2, 2), "@shareable repeatable on OBJECT | FIELD_DEFINITION"),
    ((2, 3), "@interfaceObject on OBJECT"),
    ((2, 3), f"@tag(name: String!) repeatable on {_TAGGED} | SCHEMA"),
    ((2, 5), f"@authenticated on {_GUARDED}"),
    ((2, 5), f"@requiresScopes(scopes: [[Scope!]!]!) on {_GUARDED}"),
    ((2, 6), f"@policy(policies: [[Policy!]!]!) on {_GUARDED}"),
    ((2, 7), "@override(from: String!, label: String) on FIELD_DEFINITION"),
    ((2, 8), "@context(name: String!) repeatable on INTERFACE | OBJECT | UNION"),
    ((2, 8), "@fromContext(field: ContextFieldValue) on ARGUMENT_DEFINITION"),
    ((2, 9), f"@cost(weight: Int!) on {_COUNTED}"),
    (
        (2, 9),
        "@listSize(assumedSize: Int, slicingArguments: [String!], sizedFields: [String!],"
        " requireOneSlicingArgument: Boolean = true) on FIELD_DEFINITION",
    ),
    ((2, 12), "@cacheTag(format: String!) repeatable on OBJECT | FIELD_DEFINITION"),
)
_SCALARS: tuple[tuple[Version, str], ...] = (
    ((1, 0), "FieldSet"),
    ((2, 5), "Scope"),
    ((2, 6), "Policy"),
    ((2, 8), "ContextFieldValue"),
)
_OWN_SPECS: dict[str, tuple[Version, tuple[str, ...], tuple[str, ...]]] = {
    # name: (federation version it implies, directives, scalars), definitions as in federation's
    "tag": (VERSION_ONE, ("tag",), ()),
    "inaccessible": (VERSION_ONE, ("inaccessible",), ()),
    "authenticated": ((2, 5), ("authenticated",), ()),
    "requiresScopes": ((2, 5), ("requiresScopes",), ("Scope",)),
    "policy": ((2, 6), ("policy",), ("Policy",)),
    "context": ((2, 8), ("context", "fromContext"), ("ContextFieldValue",)),
    "cost": ((2, 9), ("cost", "listSize"), ()),
    "cacheTag": ((2, 12), ("cacheTag",), ()),
    "connect": ((2, 10), ("connect", "source"), ("URLTemplate", "JSONSelection")),
}
_LINK_SDL = """
directive @link(url: String, as: String, for: Purpose, import: [Import]) repeatable on SCHEMA
scalar Import
enum Purpose { SECURITY EXECUTION }
"""


@cache
def federation_directives(version: Version) -> dict[str, DirectiveDefinitionNode]:
    """The directives of a federation version by canonical name; types in them unprefixed."""
    found: dict[str, DirectiveDefinitionNode] = {}
    for since, text in _HISTORY:
        if since <= version:
            node = parse(f"directive {text}").definitions[0]
            assert isinstance(node, DirectiveDefinitionNode)
            found[node.name.value] = node
    return found


@cache
def federation_scalars(version: Version) -> tuple[str, ...]:
    """The scalars that federation's directives use in a version."""
    return tuple(name for since, name in _SCALARS if since <= version)


@cache
def own_spec(identity: str) -> tuple[Version, dict[str, DirectiveDefinitionNode], tuple[str, ...]]:
    """A spec of one feature (tag, cost, …): the federation version it implies, what it defines."""
    name = identity.removeprefix(f"{APOLLO}/")
    if not identity.startswith(APOLLO) or name not in _OWN_SPECS:
        return VERSION_ONE, {}, ()
    implied, directives, scalars = _OWN_SPECS[name]
    known = federation_directives(NEWEST)
    if name == "connect":
        # What connectors are made of is not checked: no engine of ours runs them.
        return implied, {}, scalars
    return implied, {directive: known[directive] for directive in directives}, scalars


@cache
def link_directive() -> DirectiveDefinitionNode:
    """The definition of `@link`; its types unprefixed."""
    node = parse(_LINK_SDL).definitions[0]
    assert isinstance(node, DirectiveDefinitionNode)
    return node


PURPOSES = ("SECURITY", "EXECUTION")
LINK_TYPES = ("Purpose", "Import")
OPERATION_FIELDS = ("_entities", "_service")
OPERATION_TYPES = ("_Any", "_Entity", "_Service")
