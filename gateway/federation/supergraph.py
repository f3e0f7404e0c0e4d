"""A supergraph's SDL as data: what every subgraph knows of every type, and the clients' schema.

Read are the join spec's versions 0.1 (version 1 supergraphs, with owners) to 0.5, under whatever
names `@link` or `@core` give them. Nothing here plans; nothing is left out of `views`, not even
what clients may not see: an inaccessible field may be a key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from graphql import (
    ConstDirectiveNode,
    DocumentNode,
    EnumTypeDefinitionNode,
    FieldDefinitionNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    OperationType,
    SchemaDefinitionNode,
    SelectionSetNode,
    TypeDefinitionNode,
    UnionTypeDefinitionNode,
    parse,
    print_ast,
)

from gateway.federation.api_schema import api_schema
from gateway.federation.errors import InvalidSupergraph
from gateway.federation.links import SPECS, Feature, arguments_of, features

JOIN_VERSIONS = frozenset({(0, 1), (0, 2), (0, 3), (0, 4), (0, 5)})
_UNDERSTOOD = frozenset(SPECS + name for name in ("link", "core", "join", "inaccessible", "tag"))
_REFUSED = frozenset(
    SPECS + name for name in ("authenticated", "requiresScopes", "policy", "context")
)


class TypeKind(Enum):
    """The kinds of types that fields lead to."""

    OBJECT = "object"
    INTERFACE = "interface"
    UNION = "union"
    LEAF = "leaf"


@dataclass(frozen=True, slots=True)
class Graph:
    """A subgraph: its name, its URL, and the value that stands for it in the join spec's enum."""

    name: str
    url: str
    enum: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key a subgraph declares; by a resolvable one its entities can be asked for."""

    text: str
    fields: SelectionSetNode
    resolvable: bool = True


@dataclass(frozen=True, slots=True)
class GraphField:
    """A field as one subgraph has it.

    `type` is the subgraph's own, written out. `override` names the subgraph it takes the field
    from, `label` the condition under which it does. What is `external` or `used_overridden` is
    not resolved here, but may be sent in a representation.
    """

    name: str
    type: str
    external: bool = False
    used_overridden: bool = False
    requires: SelectionSetNode | None = None
    provides: SelectionSetNode | None = None
    override: str | None = None
    label: str | None = None

    @property
    def always_replaced(self) -> bool:
        """Overridden whatever the labels; with a label, who overrides it decides."""
        return self.used_overridden and self.label is None

    @property
    def named(self) -> str:
        """The name of the type within lists and non-null."""
        return self.type.strip("[]!")

    @property
    def lists(self) -> int:
        """How many lists are around the named type."""
        return self.type.count("[")


@dataclass(slots=True)
class GraphType:
    """A type as one subgraph has it.

    `interfaces` are those it implements there, `possible` the object types an abstract type has
    there. An interface object is of kind OBJECT: to its subgraph it is one.
    """

    name: str
    kind: TypeKind
    keys: tuple[Key, ...] = ()
    interface_object: bool = False
    extension: bool = False
    fields: dict[str, GraphField] = field(default_factory=dict)
    interfaces: frozenset[str] = frozenset()
    possible: frozenset[str] = frozenset()


@dataclass(slots=True)
class MergedType:
    """A type as the supergraph has it; `possible` are the object types of an abstract one."""

    name: str
    kind: TypeKind
    fields: dict[str, str] = field(default_factory=dict)
    interfaces: frozenset[str] = frozenset()
    possible: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Supergraph:
    """All a gateway knows of its subgraphs.

    `graphs` and `views` are by the subgraph's name; a view holds its types by name. `types` are
    the supergraph's, with what is inaccessible. `roots` maps query, mutation and subscription to
    their types. `api_schema` is what clients see.
    """

    sdl: str
    graphs: Mapping[str, Graph]
    views: Mapping[str, Mapping[str, GraphType]]
    types: Mapping[str, MergedType]
    roots: Mapping[str, str]
    api_schema: GraphQLSchema
    labels: frozenset[str] = frozenset()

    @staticmethod
    def parse(sdl: str, *, to_answer: bool = True) -> "Supergraph":
        """Read a supergraph; `to_answer` refuses, by name, what no engine of ours carries out.

        Composition reads what it composed without that: it asks for paths only.

        Raises:
            InvalidSupergraph: it has no valid syntax, links no join spec or one we do not know,
                uses a spec that must be understood and is not, or is no valid schema.
        """
        try:
            document = parse(sdl, no_location=True)
        except GraphQLError as error:
            raise InvalidSupergraph(f"The supergraph is no valid SDL: {error.message}") from error
        except RecursionError as error:
            raise InvalidSupergraph("The supergraph is nested too deeply.") from error
        linked = features(document)
        join = _join(linked, to_answer=to_answer)
        reader = _Reader(document, join, linked, to_answer=to_answer)
        reader.read()
        return Supergraph(
            sdl=sdl,
            graphs={graph.name: graph for graph in reader.graphs.values()},
            views={graph.name: reader.views[graph.enum] for graph in reader.graphs.values()},
            types=reader.types,
            roots=reader.roots,
            api_schema=api_schema(document, linked, valid=to_answer),
            labels=frozenset(reader.labels),
        )


def _join(linked: tuple[Feature, ...], *, to_answer: bool) -> Feature:
    """The join spec; refuses specs that change what may be answered and that we do not know."""
    for feature in linked if to_answer else ():
        if feature.identity in _REFUSED or (
            feature.purpose in ("SECURITY", "EXECUTION") and feature.identity not in _UNDERSTOOD
        ):
            raise InvalidSupergraph(f"The supergraph needs {feature.identity}: not supported.")
    join = next((one for one in linked if one.identity == SPECS + "join"), None)
    if join is None:
        raise InvalidSupergraph("The supergraph links no join spec.")
    if join.version not in JOIN_VERSIONS:
        raise InvalidSupergraph(f"The join spec {join.version} is unknown.")
    return join


def field_set(text: str) -> SelectionSetNode:
    """The selections of a key, `requires` or `provides`, with or without braces around.

    Raises:
        InvalidSupergraph: it is none.
    """
    source = text if text.lstrip().startswith("{") else "{" + text + "}"
    try:
        document = parse(source, no_location=True)
    except (GraphQLError, RecursionError) as error:
        raise InvalidSupergraph(f"Not a set of fields: {text!r}") from error
    selected = getattr(document.definitions[0], "selection_set", None)
    if len(document.definitions) != 1 or not isinstance(selected, SelectionSetNode):
        raise InvalidSupergraph(f"Not a set of fields: {text!r}")
    return selected


class _Reader:
    """Reads the definitions of one supergraph; keyed by enum values until the end."""

    def __init__(
        self,
        document: DocumentNode,
        join: Feature,
        linked: tuple[Feature, ...],
        *,
        to_answer: bool,
    ) -> None:
        self.document = document
        self.to_answer = to_answer
        self.join = join
        self.linked = linked
        self.names = {
            name: join.directive(name)
            for name in ("graph", "owner", "type", "field", "implements", "unionMember")
        }
        self.graphs: dict[str, Graph] = {}
        self.views: dict[str, dict[str, GraphType]] = {}
        self.types: dict[str, MergedType] = {}
        self.roots: dict[str, str] = {}
        self.labels: set[str] = set()
        self._sets: dict[str, SelectionSetNode] = {}

    def read(self) -> None:
        definitions = [
            one
            for one in self.document.definitions
            if isinstance(one, TypeDefinitionNode)
            and not any(feature.defines_type(one.name.value) for feature in self.linked)
        ]
        self._read_graphs()
        for definition in definitions:
            self._read_type(definition)
        self._read_roots()
        self._set_possible()
        self._complete_first_version()

    def _applied(
        self, directives: tuple[ConstDirectiveNode, ...] | None, name: str
    ) -> list[dict[str, object]]:
        local = self.names[name]
        return [arguments_of(one) for one in directives or () if one.name.value == local]

    def _read_graphs(self) -> None:
        enum = self.join.type("Graph")
        for definition in self.document.definitions:
            if isinstance(definition, EnumTypeDefinitionNode) and definition.name.value == enum:
                for value in definition.values or ():
                    about = self._applied(value.directives, "graph")
                    name = str(about[0].get("name", value.name.value)) if about else ""
                    url = str(about[0].get("url") or "") if about else ""
                    key = value.name.value
                    self.graphs[key] = Graph(name or key, url, key)
                    self.views[key] = {}
        if not self.graphs:
            raise InvalidSupergraph(f"The supergraph has no subgraphs in {enum}.")

    def _read_roots(self) -> None:
        for definition in self.document.definitions:
            if isinstance(definition, SchemaDefinitionNode):
                for one in definition.operation_types:
                    self.roots[one.operation.value] = one.type.name.value
        if not self.roots:
            for kind in OperationType:
                if kind.value.capitalize() in self.types or ():
                    self.roots[kind.value] = kind.value.capitalize()

    def _read_type(self, node: TypeDefinitionNode) -> None:
        name = node.name.value
        kind = _kind(node)
        merged = MergedType(name, kind)
        self.types[name] = merged
        joined = self._applied(node.directives, "type")
        owners = self._applied(node.directives, "owner")
        owner = self._graph(owners[0].get("graph")) if owners else None
        here = [self._graph(one.get("graph")) for one in joined]
        for graph in dict.fromkeys(here) if here else list(self.graphs):
            entries = [one for one in joined if one.get("graph") == graph]
            self.views[graph][name] = self._type_in_graph(name, kind, entries)
        if isinstance(node, ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode):
            merged.interfaces = frozenset(one.name.value for one in node.interfaces or ())
            self._read_implements(node)
            for defined in node.fields or ():
                merged.fields[defined.name.value] = print_ast(defined.type)
                self._read_field(name, defined, owner)
        elif isinstance(node, UnionTypeDefinitionNode):
            self._read_members(node)

    def _graph(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.graphs:
            raise InvalidSupergraph(f"The supergraph names an unknown subgraph: {value!r}.")
        return value

    def _type_in_graph(
        self, name: str, kind: TypeKind, entries: list[dict[str, object]]
    ) -> GraphType:
        stands = any(one.get("isInterfaceObject") is True for one in entries)
        return GraphType(
            name,
            TypeKind.OBJECT if stands else kind,
            keys=tuple(
                Key(key, self._set(key), one.get("resolvable") is not False)
                for one in entries
                if isinstance(key := one.get("key"), str)
            ),
            interface_object=stands,
            extension=any(one.get("extension") is True for one in entries),
        )

    def _set(self, text: str) -> SelectionSetNode:
        if text not in self._sets:
            self._sets[text] = field_set(text)
        return self._sets[text]

    def _read_implements(
        self, node: ObjectTypeDefinitionNode | InterfaceTypeDefinitionNode
    ) -> None:
        name = node.name.value
        listed = self._applied(node.directives, "implements")
        for graph, view in self.views.items():
            here = view.get(name)
            if here is None or here.interface_object:
                continue
            if listed:
                own = (str(one.get("interface")) for one in listed if one.get("graph") == graph)
            else:
                own = (one.name.value for one in node.interfaces or ())
            here.interfaces = frozenset(own)

    def _read_members(self, node: UnionTypeDefinitionNode) -> None:
        name = node.name.value
        members = frozenset(one.name.value for one in node.types or ())
        self.types[name].possible = members
        listed = self._applied(node.directives, "unionMember")
        for graph, view in self.views.items():
            if name in view:
                own = [str(one.get("member")) for one in listed if one.get("graph") == graph]
                view[name].possible = frozenset(own) if listed else members

    def _read_field(self, owner_type: str, node: FieldDefinitionNode, owner: str | None) -> None:
        joined = self._applied(node.directives, "field")
        written = print_ast(node.type)
        name = node.name.value
        if not joined:
            for graph, view in self.views.items():
                if owner_type in view and owner in (None, graph):
                    view[owner_type].fields[name] = GraphField(name, written)
            return
        for entry in joined:
            if entry.get("graph") is None:
                continue
            if entry.get("contextArguments") and self.to_answer:
                raise InvalidSupergraph(f"{owner_type}.{name} takes arguments from a context.")
            view = self.views[self._graph(entry["graph"])]
            if owner_type not in view:
                raise InvalidSupergraph(f"{owner_type}.{name} is where its type is not.")
            view[owner_type].fields[name] = self._field(name, written, entry)

    def _field(self, name: str, written: str, entry: dict[str, object]) -> GraphField:
        def text(argument: str) -> str | None:
            value = entry.get(argument)
            return value if isinstance(value, str) else None

        label = text("overrideLabel")
        if label is not None:
            self.labels.add(label)
        requires, provides = text("requires"), text("provides")
        return GraphField(
            name,
            text("type") or written,
            external=entry.get("external") is True,
            used_overridden=entry.get("usedOverridden") is True,
            requires=self._set(requires) if requires else None,
            provides=self._set(provides) if provides else None,
            override=text("override"),
            label=label,
        )

    def _set_possible(self) -> None:
        """Which objects an interface has, in each subgraph and in all."""
        objects = [one for one in self.types.values() if one.kind is TypeKind.OBJECT]
        for merged in self.types.values():
            if merged.kind is TypeKind.INTERFACE:
                own = frozenset(one.name for one in objects if merged.name in one.interfaces or ())
                merged.possible = own
        for view in self.views.values():
            found: dict[str, set[str]] = {}
            for here in view.values():
                if here.kind is TypeKind.OBJECT and not here.interface_object:
                    for name in here.interfaces:
                        found.setdefault(name, set()).add(here.name)
            for here in view.values():
                if here.kind is TypeKind.INTERFACE:
                    here.possible = frozenset(found.get(here.name, ()))

    def _complete_first_version(self) -> None:
        """A key's fields are known where the key is, though external there (or owned elsewhere)."""
        for view in self.views.values():
            for here in view.values():
                if here.extension or self.join.version == (0, 1):
                    for key in here.keys:
                        self._know(view, here, key.fields)

    def _know(
        self, view: dict[str, GraphType], here: GraphType, selected: SelectionSetNode
    ) -> None:
        for node in selected.selections:
            if isinstance(node, FieldNode) and node.name.value != "__typename":
                name = node.name.value
                merged = self.types[here.name].fields.get(name)
                known = here.fields.get(name)
                if merged is None or (known is None and self.join.version != (0, 1)):
                    continue
                if known is None or known.external:
                    written = known.type if known else merged
                    here.fields[name] = known = GraphField(name, written)
                inner = view.get(known.named)
                if node.selection_set and inner is not None:
                    self._know(view, inner, node.selection_set)
            elif isinstance(node, InlineFragmentNode):
                on = node.type_condition.name.value if node.type_condition else here.name
                if on in view:
                    self._know(view, view[on], node.selection_set)


def _kind(node: TypeDefinitionNode) -> TypeKind:
    if isinstance(node, ObjectTypeDefinitionNode):
        return TypeKind.OBJECT
    if isinstance(node, InterfaceTypeDefinitionNode):
        return TypeKind.INTERFACE
    return TypeKind.UNION if isinstance(node, UnionTypeDefinitionNode) else TypeKind.LEAF
