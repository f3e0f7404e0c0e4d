"""Every rule that an input may break is said in Chinese and in English."""

import ast
import re
from pathlib import Path

import pytest

from gateway.api.messages import say
from gateway.catalog.model import ELSEWHERE
from gateway.rules import RULES
from gateway.values import InvalidInput

ROOT = Path(__file__).parents[2]
_PLACE = re.compile(r"\{(\w+)\}")
_ENGLISH = re.compile(
    r"\b(?:at|least|most|one|of|to|only|whole|number|text|object|cursor|is|the)\b"
)


def raised() -> list[tuple[str, ast.Call]]:
    """Every `InvalidInput(…)` of the product, with its place."""
    paths = [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "partners").rglob("*.py")]
    return [
        (f"{path.relative_to(ROOT)}:{node.lineno}", node)
        for path in sorted(paths)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and "InvalidInput" in (getattr(node.func, "id", ""), getattr(node.func, "attr", ""))
    ]


def rules_of(call: ast.Call) -> list[str]:
    """The rules a call may name; one that is put together there is none."""
    rule = call.args[1]
    if isinstance(rule, ast.Constant):
        return [str(rule.value)]
    assert ast.unparse(rule) == "ELSEWHERE[offer.kind]", "name the rule itself"
    return list(ELSEWHERE.values())


@pytest.mark.parametrize(("place", "call"), [pytest.param(*each, id=each[0]) for each in raised()])
def test_a_rule_is_known_and_gets_its_numbers(place: str, call: ast.Call) -> None:
    given = {word.arg for word in call.keywords}
    for rule in rules_of(call):
        assert rule in RULES, place
        assert set(_PLACE.findall(rule)) == given, place


def test_no_rule_is_left_over() -> None:
    assert set(RULES) == {rule for _, call in raised() for rule in rules_of(call)}


@pytest.mark.parametrize("rule", RULES)
def test_a_chinese_message_has_no_english_rule(rule: str) -> None:
    assert sorted(_PLACE.findall(RULES[rule])) == sorted(_PLACE.findall(rule))
    facts = {name: ["A", "B"] if name == "values" else 7 for name in _PLACE.findall(rule)}
    refused = InvalidInput("legs.0.points", rule, **facts)
    zh, en = say(refused, "zh", {}), say(refused, "en", {})
    assert en == f"legs.0.points: {refused.context['rule']}"
    assert "{" not in zh + en
    assert re.search(r"[一-鿿]", zh)
    assert not _ENGLISH.search(zh.removeprefix("legs.0.points").replace("true", ""))


def test_programs_read_field_rule_and_numbers() -> None:
    refused = InvalidInput("legs.0.points", "step of {step}", step=10)
    assert refused.context == {"field": "legs.0.points", "rule": "step of 10", "step": 10}
    assert say(refused, "zh", {}) == "legs.0.points:须为 10 的整数倍"
