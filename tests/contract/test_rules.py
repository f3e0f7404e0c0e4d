"""Every rule that INVALID_INPUT can name has its words in Chinese."""

import ast
import re
from pathlib import Path

import pytest

from gateway.api.messages import say
from gateway.api.rules import in_chinese
from gateway.catalog.model import ELSEWHERE
from gateway.values import InvalidInput

ROOT = Path(__file__).parents[2]
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def _sample(node: ast.expr) -> str:
    """The rule with 7 for each value."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_sample(part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return _sample(left) + _sample(right)
    return "7"


def _rules() -> set[str]:
    found = set(ELSEWHERE.values())
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "partners").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            if ast.unparse(node.func).split(".")[-1] == "InvalidInput":
                found.add(_sample(node.args[1]))
    return found - {"7"}


@pytest.mark.parametrize("rule", sorted(_rules()))
def test_a_rule_is_told_in_chinese(rule: str) -> None:
    assert CHINESE.search(in_chinese(rule)), rule


def test_the_values_of_a_rule_stay() -> None:
    refused = InvalidInput("legs.0.points", "step of 10")
    assert say(refused, "zh", {}) == "legs.0.points:须为 10 的整数倍"
    assert say(refused, "en", {}) == "legs.0.points: step of 10"
    assert in_chinese("one of own, coalition") == "应为其中之一:own, coalition"
    assert in_chinese("something new") == "something new"
