"""What a merchant's subgraph may say: the rules of publication, each with a code. Pure.

`measure` looks at the bare text, before anything reads it; `judge` at the subgraph once it is
read. What they find is all told at once. docs/partners.md lists the rules.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graphql import (
    GraphQLObjectType,
    GraphQLSchema,
    NonNullTypeNode,
    get_nullable_type,
    is_leaf_type,
    print_ast,
)

from gateway.compliance.model import red_phrases, red_words
from gateway.federation.composition.subgraph import (
    Applied,
    Argument,
    EnumValue,
    Kind,
    OutputField,
    Subgraph,
    TypeDefinition,
)
from gateway.subgraphs.model import ENTITIES, Prefix, Violation

SDL_BYTES = 48 * 1024
NESTING = 12
TOKENS = 12_000
TYPES = 100
FIELDS = 60  # of one type
ALL_FIELDS = 600
ARGUMENTS = 10
VALUES = 200
NAME_LENGTH = 80

OUR_SCALARS = frozenset({"Fen", "Date", "DateTime", "JSON"})
"""Scalars of ours that a subgraph may use as its own. Points are not: they are the issuer's."""

_SPECS = "https://specs.apollo.dev/"
_LINKED = frozenset({_SPECS + "link", _SPECS + "federation"})
_ON_OWN = frozenset(
    {"key", "external", "requires", "shareable", "inaccessible", "tag", "extends"}
    | {"deprecated", "specifiedBy", "oneOf"}
)
_ON_OUR_TYPES = frozenset({"key", "extends"})
_ON_OUR_ID = frozenset({"external", "shareable"})
_ON_ADDED = frozenset({"requires", "deprecated"})
_PUBLIC = ("Merchant", "Offer")  # Whose plain fields everybody may see, so partners may, too.


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, and what is told when it is broken."""

    zh: str
    en: str


RULES: Mapping[str, Rule] = {
    "SIZE_LIMIT": Rule("{what} 为 {count},上限 {limit}", "{what} {count}, at most {limit}"),
    "TYPE_PREFIX": Rule(
        "自有类型名须以 {prefix} 开头", "the name of a type of yours begins with {prefix}"
    ),
    "FIELD_PREFIX": Rule(
        "在平台类型上新增的字段须以 {prefix} 开头",
        "a field you add to a type of the coalition begins with {prefix}",
    ),
    "FIELD_NOT_NULLABLE": Rule(
        "在平台类型上新增的字段须可为空:故障时只影响该字段",
        "a field you add to a type of the coalition is nullable: a failure costs that field only",
    ),
    "OUR_TYPE": Rule(
        "{name} 是平台的类型,只能引用 Merchant、Offer、Redemption(按 id)",
        "{name} is the coalition's: only Merchant, Offer and Redemption can be referred to, by id",
    ),
    "OUR_FIELD": Rule(
        "{name} 是平台的字段,不能重新定义;若只是引用,请标 @external",
        "{name} is the coalition's field and cannot be defined again; to refer to it, @external",
    ),
    "EXTERNAL_FIELD": Rule(
        "@external 只能用于 Merchant、Offer 的普通字段,且类型一致",
        "@external is for plain fields of Merchant and Offer, with the coalition's own type",
    ),
    "ENTITY_KEY": Rule(
        '平台类型的键只有 @key(fields: "id"),id 类型为 ID!',
        'the key of a type of the coalition is @key(fields: "id"), and its id an ID!',
    ),
    "INTERFACE_ON_OURS": Rule(
        "平台类型不能实现商户的接口",
        "a type of the coalition implements no interface of a merchant",
    ),
    "OUR_DESCRIPTION": Rule(
        "不能为平台的 {name} 写说明", "{name} is the coalition's and is not described here"
    ),
    "ROOT_EFFECT": Rule(
        "商户子图不能有 Mutation 或 Subscription", "a merchant's subgraph has queries only"
    ),
    "ROOT_AGAIN": Rule(
        "字段不能返回 Query:否则会绕过查询入口的权限",
        "no field returns Query: who may ask what is decided where an operation begins",
    ),
    "DIRECTIVE_NOT_ALLOWED": Rule("此处不允许使用 @{name}", "@{name} is not allowed here"),
    "URL_NOT_WEB": Rule(
        "@specifiedBy 的 url 须以 https:// 开头:客户端会把它显示为链接",
        "the url of @specifiedBy begins with https://: clients show it as a link",
    ),
    "DIRECTIVE_DEFINITION": Rule(
        "不能自定义指令 @{name}", "no directive is defined here; @{name} is"
    ),
    "LINK_NOT_ALLOWED": Rule("不能引入规范 {name}", "{name} cannot be linked"),
    "RED_LINE": Rule(
        "名称或文字含红线词 {word}:积分不得转让、互换或变现",
        "it says {word}: points never change hands or programmes and never become money",
    ),
    "OWN_SCALAR": Rule(
        "平台标量 {name} 不能带指令", "{name} is the coalition's scalar and takes no directive"
    ),
}


def violation(code: str, coordinate: str, **facts: object) -> Violation:
    """A rule broken at a coordinate; `facts` fill its texts."""
    rule = RULES[code]
    return Violation(code, coordinate, rule.zh.format(**facts), rule.en.format(**facts))


_TOKEN = re.compile(  # What is not closed swallows the rest: time is linear, and it is refused.
    r'"""(?:[^"\\]|\\"""|\\|"(?!""))*+(?:""")?|"(?:[^"\\\r\n]|\\.)*+"?|#[^\r\n]*'
    r"|[\[{(]|[\]})]|\w+"
)


def measure(sdl: str) -> list[Violation]:
    """Whether a text is small enough to be read: bytes, tokens, brackets within brackets."""
    size = len(sdl.encode(errors="surrogatepass"))
    if size > SDL_BYTES:
        return [violation("SIZE_LIMIT", "", what="bytes", count=size, limit=SDL_BYTES)]
    depth = deepest = tokens = 0
    for found in _TOKEN.finditer(sdl):
        mark = found.group()
        tokens += mark[0] != "#"
        if mark in "[{(":
            depth += 1
            deepest = max(deepest, depth)
        elif mark in "]})":
            depth -= 1
    rows = [("tokens", tokens, TOKENS), ("nesting", deepest, NESTING)]
    return [
        violation("SIZE_LIMIT", "", what=what, count=count, limit=limit)
        for what, count, limit in rows
        if count > limit
    ]


def judge(subgraph: Subgraph, *, prefix: Prefix, ours: GraphQLSchema) -> list[Violation]:
    """Every rule that a merchant's subgraph breaks, in the order of its text.

    Args:
        subgraph: As composition reads it: names of directives are canonical.
        prefix: The merchant's.
        ours: Our own API schema.
    """
    return list(_Judge(subgraph, prefix, ours).all())


@dataclass(slots=True)
class _Judge:
    subgraph: Subgraph
    prefix: Prefix
    ours: GraphQLSchema
    effects: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        roots = (self.subgraph.mutation, self.subgraph.subscription, "Mutation", "Subscription")
        self.effects = frozenset(name for name in roots if name in self.subgraph.types)

    def all(self) -> Iterator[Violation]:
        yield from self.limits()
        yield from self.undescribed("schema", self.subgraph)
        for link in self.subgraph.links:
            if link.identity not in _LINKED:
                yield violation("LINK_NOT_ALLOWED", "schema", name=link.identity)
        for applied in self.subgraph.schema_directives:
            if applied.name != "link":
                yield violation("DIRECTIVE_NOT_ALLOWED", "schema", name=applied.name)
        for name in self.subgraph.directives:
            yield violation("DIRECTIVE_DEFINITION", f"@{name}", name=name)
        for definition in self.subgraph.types.values():
            yield from self.definition(definition)

    def definition(self, found: TypeDefinition) -> Iterator[Violation]:
        if found.name in self.effects:
            yield violation("ROOT_EFFECT", found.name)
        elif found.name in (self.subgraph.query, "Query"):
            yield from self.root(found)
        elif found.name in ENTITIES:
            yield from self.entity(found)
        elif found.name in OUR_SCALARS and found.kind is Kind.SCALAR:
            yield from self.undescribed(found.name, found)
            if found.directives:
                yield violation("OWN_SCALAR", found.name, name=found.name)
        elif found.name in self.ours.type_map:
            yield violation("OUR_TYPE", found.name, name=found.name)
        else:
            yield from self.own(found)

    # -- the merchant's own types ---------------------------------------------------------------

    def own(self, found: TypeDefinition) -> Iterator[Violation]:
        if not found.name.startswith(self.prefix.types):
            yield violation("TYPE_PREFIX", found.name, prefix=self.prefix.types)
        yield from self.names(found.name, found.name)
        yield from self.texts(found.name, found)
        yield from self.directives(found.name, found.directives, _ON_OWN)
        for each in found.fields.values():
            yield from self.field(found.name, each, _ON_OWN)
        for argument in found.input_fields.values():
            yield from self.argument(found.name, argument)
        for value in found.values.values():
            place = f"{found.name}.{value.name}"
            yield from self.names(place, value.name)
            yield from self.texts(place, value)
            yield from self.directives(place, value.directives, _ON_OWN)

    def field(self, of: str, found: OutputField, allowed: frozenset[str]) -> Iterator[Violation]:
        place = f"{of}.{found.name}"
        yield from self.names(place, found.name)
        yield from self.texts(place, found)
        yield from self.directives(place, found.directives, allowed)
        if print_ast(found.type).strip("[]!") in ("Query", self.subgraph.query):
            yield violation("ROOT_AGAIN", place)
        for argument in found.arguments.values():
            yield from self.argument(place, argument, mark="({}:)")

    def argument(self, of: str, found: Argument, mark: str = ".{}") -> Iterator[Violation]:
        place = of + mark.format(found.name)
        yield from self.names(place, found.name)
        yield from self.texts(place, found)
        if found.default is not None:
            yield from self.said(place, print_ast(found.default))
        yield from self.directives(place, found.directives, _ON_OWN)

    # -- our types ------------------------------------------------------------------------------

    def root(self, found: TypeDefinition) -> Iterator[Violation]:
        """Root queries under the prefix, as fields of any type of ours."""
        yield from self.directives("Query", found.directives, frozenset({"extends"}))
        yield from self.undescribed("Query", found)
        for each in found.fields.values():
            yield from self.added("Query", each)

    def entity(self, found: TypeDefinition) -> Iterator[Violation]:
        name = found.name
        yield from self.undescribed(name, found)
        if found.kind is not Kind.OBJECT:
            yield violation("OUR_TYPE", name, name=name)
            return
        if found.interfaces:
            yield violation("INTERFACE_ON_OURS", name)
        yield from self.directives(name, found.directives, _ON_OUR_TYPES)
        keys = [each for each in found.directives if each.name == "key"]
        ids = found.fields.get("id")
        plain = all(str(each.arguments.get("fields", "")).split() == ["id"] for each in keys)
        if not keys or not plain or ids is None or print_ast(ids.type) != "ID!" or ids.arguments:
            yield violation("ENTITY_KEY", name)
        theirs = self.ours.type_map[name]
        assert isinstance(theirs, GraphQLObjectType)
        for each in found.fields.values():
            place = f"{name}.{each.name}"
            if each.name in theirs.fields:
                yield from self.undescribed(place, each)
            if each.name == "id":
                yield from self.directives(place, each.directives, _ON_OUR_ID)
            elif each.name not in theirs.fields:
                yield from self.added(name, each)
            elif not each.external:
                yield violation("OUR_FIELD", place, name=place)
            elif not self.may_see(theirs, each):
                yield violation("EXTERNAL_FIELD", place)
            else:
                yield from self.directives(place, each.directives, frozenset({"external"}))

    def added(self, of: str, found: OutputField) -> Iterator[Violation]:
        """A field that the merchant adds to a type of ours."""
        place = f"{of}.{found.name}"
        if not found.name.startswith(self.prefix.fields):
            yield violation("FIELD_PREFIX", place, prefix=self.prefix.fields)
        if isinstance(found.type, NonNullTypeNode):
            yield violation("FIELD_NOT_NULLABLE", place)
        if found.external:
            yield violation("DIRECTIVE_NOT_ALLOWED", place, name="external")
        yield from self.field(of, found, _ON_ADDED - {"requires"} if of == "Query" else _ON_ADDED)

    def may_see(self, theirs: GraphQLObjectType, found: OutputField) -> bool:
        """Whether an external field is plain, public and of our own type."""
        known = theirs.fields[found.name]
        plain = (
            is_leaf_type(get_nullable_type(known.type)) and not known.args and not found.arguments
        )
        return theirs.name in _PUBLIC and plain and print_ast(found.type) == str(known.type)

    def undescribed(
        self, place: str, found: Subgraph | TypeDefinition | OutputField
    ) -> Iterator[Violation]:
        if found.description:
            yield violation("OUR_DESCRIPTION", place, name=place)

    # -- everywhere -----------------------------------------------------------------------------

    def names(self, place: str, name: str) -> Iterator[Violation]:
        if len(name) > NAME_LENGTH:
            yield violation("SIZE_LIMIT", place, what="name", count=len(name), limit=NAME_LENGTH)
        bare = name.removeprefix(self.prefix.types).removeprefix(self.prefix.fields)
        for word in red_words(bare):
            yield violation("RED_LINE", place, word=word)

    def texts(
        self, place: str, found: TypeDefinition | OutputField | Argument | EnumValue
    ) -> Iterator[Violation]:
        """What is written for people: the description, and the texts of directives."""
        yield from self.said(place, found.description or "")
        for applied in found.directives:
            for text in applied.arguments.values():
                yield from self.said(place, text if isinstance(text, str) else "")

    def said(self, place: str, text: str) -> Iterator[Violation]:
        for phrase in red_phrases(text):
            yield violation("RED_LINE", place, word=phrase[:NAME_LENGTH])

    def directives(
        self, place: str, given: list[Applied], allowed: frozenset[str]
    ) -> Iterator[Violation]:
        for applied in given:
            if applied.name not in allowed:
                yield violation("DIRECTIVE_NOT_ALLOWED", place, name=applied.name)
            url = applied.arguments.get("url") if applied.name == "specifiedBy" else None
            if url is not None and not str(url).startswith("https://"):
                yield violation("URL_NOT_WEB", place)

    def limits(self) -> Iterator[Violation]:
        types = self.subgraph.types
        fields = {name: len(each.fields) + len(each.input_fields) for name, each in types.items()}
        rows = [("", "types", len(types), TYPES), ("", "fields", sum(fields.values()), ALL_FIELDS)]
        for name, each in types.items():
            rows.append((name, "fields", fields[name], FIELDS))
            rows.append((name, "values", len(each.values) + len(each.members), VALUES))
            rows += [
                (f"{name}.{one.name}", "arguments", len(one.arguments), ARGUMENTS)
                for one in each.fields.values()
            ]
        for place, what, count, limit in rows:
            if count > limit:
                yield violation("SIZE_LIMIT", place, what=what, count=count, limit=limit)
