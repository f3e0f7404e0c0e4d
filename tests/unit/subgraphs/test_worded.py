"""Composition's errors as a merchant reads them."""

import re
from pathlib import Path

import pytest

from gateway.api.schema import ours
from gateway.federation.errors import CompositionError
from gateway.subgraphs.composing import judge
from gateway.subgraphs.model import Submitted, prefix_of
from gateway.subgraphs.worded import sentence, told
from tests.support.merchant_graph import LINK

COMPOSITION = Path(__file__).parents[3] / "gateway/federation/composition"
_CODE = re.compile(r'(?:CompositionError|\berror|_error|refused|Problem)\(\s*"([A-Z][A-Z_]+)"')


def found(sdl: str) -> list[dict[str, object]]:
    """What a merchant is told of a text."""
    verdict = judge(
        Submitted("M05", "https://cinema.example/graphql", sdl),
        prefix=prefix_of("xinghui", "M05"),
        ours=ours(),
        others=[],
        before=ours().schema,
        operations=[],
    )
    return verdict.told()


def test_every_code_of_composition_has_a_sentence() -> None:
    codes = {
        code
        for path in COMPOSITION.rglob("*.py")
        for code in _CODE.findall(path.read_text("utf-8"))
    }
    assert len(codes) > 30
    other = sentence("NO_SUCH_CODE")
    assert [code for code in sorted(codes) if sentence(code) == other] == []


def test_what_cannot_be_read_has_its_place_in_both_languages() -> None:
    (error,) = found("type Xinghui_A {\n  b: Int\n  c: }\n")
    assert error["code"] == "INVALID_GRAPHQL"
    assert (error["line"], error["column"]) == (3, 6)
    assert error["zh"] == "第 3 行第 6 列:不是有效的 GraphQL"
    assert str(error["en"]).endswith("(line 3, column 6)")


def test_an_unknown_type_has_its_place_and_its_name() -> None:
    (error,) = found(
        LINK + "type Xinghui_A {\n  b: Xinghui_B\n}\ntype Query { xinghui_a: Xinghui_A }"
    )
    assert (error["code"], error["at"]) == ("INVALID_GRAPHQL", "Xinghui_B")
    assert (error["line"], error["column"]) == (LINK.count("\n") + 2, 6)
    assert error["zh"] == f"第 {error['line']} 行第 6 列:不是有效的 GraphQL(Xinghui_B)"


def test_a_field_of_ours_is_told_how_to_be_referred_to() -> None:
    errors = found(LINK + 'type Offer @key(fields: "id") { id: ID! nameZh: String! }')
    assert [each["code"] for each in errors] == ["OUR_FIELD"]
    assert "@external" in str(errors[0]["zh"])
    assert "@external" in str(errors[0]["en"])


@pytest.mark.parametrize(
    ("message", "at"),
    [
        ('[M05] The field "Offer.a" is of two types', "Offer.a"),
        ("[M05] Xinghui_A.b(c:) is required", "Xinghui_A.b(c:)"),
        ("[M05] nothing is named", None),
    ],
)
def test_the_place_is_what_the_english_names(message: str, at: str | None) -> None:
    shown = told(CompositionError("FIELD_TYPE_MISMATCH", message, ("M05",)))
    assert shown.get("at") == at
    assert shown["zh"] == "各子图中同一字段的类型不一致" + (f"({at})" if at else "")
