"""Composition's errors in Chinese, and where they are. Pure.

Composition words its errors in English, for every user of the library; a merchant of the coalition
reads a sentence for each code, and the place that the English names.
"""

import re
from collections.abc import Mapping

from gateway.federation.errors import CompositionError

_ZH: Mapping[str, str] = {
    "COMPOSITION_TOO_LARGE": "合成结果过大",
    "DEFAULT_VALUE_USES_INACCESSIBLE": "默认值用到了标为 @inaccessible 的内容",
    "DIRECTIVE_COMPOSITION_ERROR": "@composeDirective 用法有误",
    "DIRECTIVE_DEFINITION_INVALID": "指令的定义与规范不符",
    "DIRECTIVE_IN_FIELDS_ARG": "fields 参数中不能使用指令",
    "DISALLOWED_INACCESSIBLE": "此处不允许使用 @inaccessible",
    "EMPTY_MERGED_ENUM_TYPE": "合并后枚举没有任何值",
    "EMPTY_MERGED_INPUT_TYPE": "合并后输入类型没有任何字段",
    "ENUM_VALUE_MISMATCH": "各子图的枚举值不一致",
    "EXTENSION_WITH_NO_BASE": "扩展的类型没有任何子图定义",
    "EXTERNAL_ON_INTERFACE": "接口的字段不能标 @external",
    "EXTERNAL_TYPE_MISMATCH": "@external 字段的类型与原定义不一致",
    "EXTERNAL_UNUSED": "@external 字段没有被 @key、@requires 或 @provides 用到",
    "FIELDS_HAS_ARGS": "fields 参数中的字段不能带参数",
    "FIELDS_MISSING_EXTERNAL": "fields 参数中的字段须标 @external",
    "FIELDS_SELECT_INVALID_TYPE": "fields 参数选取了不允许的类型",
    "FIELD_TYPE_MISMATCH": "各子图中同一字段的类型不一致",
    "IMPLEMENTED_BY_INACCESSIBLE": "接口字段可见,而其实现被标为 @inaccessible",
    "INTERFACE_FIELD_NO_IMPLEM": "接口的字段没有实现",
    "INVALID_FIELDS": "fields 参数的内容有误",
    "INVALID_FIELDS_TYPE": "fields 参数须为字符串",
    "INVALID_FIELD_SHARING": "多个子图都解析同一字段,须在各处标 @shareable",
    "INVALID_GRAPHQL": "不是有效的 GraphQL",
    "INVALID_SHAREABLE_USAGE": "此处不允许使用 @shareable",
    "INVALID_SUBGRAPH_NAME": "子图名称有误",
    "KEY_UNSUPPORTED_ON_INTERFACE": "该联邦版本的接口不支持 @key",
    "MISSING_TRANSITIVE_AUTH_REQUIREMENTS": "缺少所依赖字段的权限要求",
    "NO_QUERIES": "没有任何可用的查询字段",
    "ONLY_INACCESSIBLE_CHILDREN": "类型可见,而其全部内容被标为 @inaccessible",
    "QUERY_ROOT_TYPE_INACCESSIBLE": "查询根类型不能标 @inaccessible",
    "REFERENCED_INACCESSIBLE": "可见的内容引用了标为 @inaccessible 的类型",
    "REQUIRED_ARGUMENT_MISSING_IN_SOME_SUBGRAPH": "必填参数在某个子图中缺失",
    "REQUIRED_INACCESSIBLE": "必填项不能标 @inaccessible",
    "REQUIRED_INPUT_FIELD_MISSING_IN_SOME_SUBGRAPH": "必填输入字段在某个子图中缺失",
    "REQUIRES_INVALID_FIELDS": "@requires 的内容有误",
    "SATISFIABILITY_ERROR": "有的查询无法由任何子图回答",
    "TYPE_DEFINITION_INVALID": "类型的定义与规范不符",
    "TYPE_KIND_MISMATCH": "同名类型在各子图中种类不同",
    "TYPE_WITH_ONLY_UNUSED_EXTERNAL": "类型只有未被用到的 @external 字段",
    "UNKNOWN_FEDERATION_LINK_VERSION": "不支持的 Federation 版本",
    "UNKNOWN_LINK_VERSION": "不支持的 @link 版本",
    "UNSUPPORTED_FEATURE": "不支持的功能",
}
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("_LINK_", "@link 用法有误"),
    ("LINK_", "@link 用法有误"),
    ("EXTERNAL_", "@external 字段与原定义不一致或用法有误"),
    ("INTERFACE_", "接口对象或接口的 @key 用法有误"),
    ("OVERRID", "@override 用法有误"),
    ("FROM_SUBGRAPH_", "@override 指向的子图不存在"),
    ("CONTEXT", "@context 或 @fromContext 用法有误"),
    ("LIST_SIZE_", "@listSize 用法有误"),
    ("COST_", "@cost 用法有误"),
    ("AUTH_", "权限指令用法有误"),
    ("ROOT_", "根类型的名称被另一类型占用"),
    ("PROVIDES_", "@provides 用法有误"),
    ("REQUIRES_", "@requires 用法有误"),
    ("KEY_", "@key 用法有误"),
    ("FIELD_ARGUMENT_", "各子图中同一参数的定义不一致"),
    ("INPUT_FIELD_", "各子图中同一输入字段的定义不一致"),
    ("MERGED_", "合并后的指令用法有误"),
)
_OTHER = "子图无法合成,详见英文说明"

_COORDINATE = re.compile(r'"(@?[A-Za-z_]\w*(?:\.\w+)?(?:\(\w+:\))?)"|\b(\w+\.\w+(?:\(\w+:\))?)')
_UNKNOWN = re.compile(r'Unknown (?:type |directive "@)(\w+)')


def told(error: CompositionError, sdl: str = "") -> dict[str, object]:
    """An error as it is shown to a merchant.

    Args:
        sdl: The text it is about, where that is one text.
    """
    line, column = error.line, error.column
    unknown = _UNKNOWN.search(error.message)
    if line is None and unknown and (found := re.search(rf"\b{unknown[1]}\b", sdl)):
        line = sdl.count("\n", 0, found.start()) + 1
        column = found.start() - sdl.rfind("\n", 0, found.start())
    shown: dict[str, object] = {"code": error.code, "subgraphs": list(error.subgraphs)}
    zh, en = sentence(error.code), error.message
    if line is not None:
        shown |= {"line": line, "column": column}
        zh = f"第 {line} 行第 {column} 列:{zh}"
        en = f"{en} (line {line}, column {column})"
    if place := _place(error.message):
        shown["at"] = place
        zh = f"{zh}({place})"
    return shown | {"zh": zh, "en": en}


def sentence(code: str) -> str:
    """What a code of composition means, in Chinese."""
    if code in _ZH:
        return _ZH[code]
    return next((zh for part, zh in _FAMILIES if part in code), _OTHER)


def _place(message: str) -> str:
    """The coordinate that a message names first; nothing if it names none."""
    if "Syntax Error" in message:
        return ""  # It names what stands there, which is no coordinate.
    if unknown := _UNKNOWN.search(message):
        return unknown[1]
    named = _COORDINATE.search(message)
    return (named[1] or named[2]) if named else ""
