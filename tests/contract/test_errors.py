"""Every error has one class, is in the registry, and says what the registry says."""

import ast
import json
import string
from collections import Counter
from pathlib import Path

import pytest

from gateway import docgen
from gateway.errors import GatewayError, published

ROOT = Path(__file__).parents[2]
REGISTRY = json.loads((Path(__file__).parent / "data/error_registry.json").read_text("utf-8"))
TEXTS = ("when", "zh", "en", "next_zh", "next_en")
LEAVES = docgen.leaves()

# Code -> why its texts differ from the registry's.
DIFFERENCES = {
    "QUOTE_EXPIRED": "names the instant, which the registry has in the context only",
    "QUOTE_STALE": "the partner tells fen; it knows no points",
    "SCHEMA_BREAKING": "one is as many as several",
    "SLOT_FULL": "not every partner names an alternative",
}

# Given by whoever shows the error: the catalog's and the parties' names.
NAMES_FROM_THE_CATALOG = {"merchant", "redeemer"}


def test_every_code_has_one_class() -> None:
    codes = Counter(leaf.code for leaf in LEAVES)
    assert [code for code, count in codes.items() if count > 1] == []


def test_only_the_gateway_publishes_codes() -> None:
    modules = {leaf.__module__.split(".")[0] for leaf in published()}
    assert modules - {"tests"} == {"gateway"}


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
class TestLeaf:
    def test_it_is_in_the_registry_with_its_kind(self, leaf: type[GatewayError]) -> None:
        kinds = {kind.__name__ for kind in leaf.__mro__}
        assert set(REGISTRY[leaf.code]["kind"].split(" · ")) <= kinds

    def test_it_says_everything(self, leaf: type[GatewayError]) -> None:
        assert [name for name in TEXTS if not getattr(leaf, name).strip()] == []

    def test_its_messages_are_the_registrys(self, leaf: type[GatewayError]) -> None:
        told = {"zh": leaf.zh, "en": leaf.en}
        if leaf.code not in DIFFERENCES:
            assert told == {name: REGISTRY[leaf.code][name] for name in told}

    def test_its_placeholders_are_plain_names(self, leaf: type[GatewayError]) -> None:
        for text in (getattr(leaf, name) for name in TEXTS):
            for _, name, form, conversion in string.Formatter().parse(text):
                assert name is None or (name.isidentifier() and not form and not conversion), text

    def test_both_languages_name_the_same(self, leaf: type[GatewayError]) -> None:
        for zh, en in ((leaf.zh, leaf.en), (leaf.next_zh, leaf.next_en)):
            assert set(docgen.placeholders(zh)) == set(docgen.placeholders(en))


def _raised(leaf: type[GatewayError]) -> list[tuple[str, set[str]]]:
    """Where a leaf is made with named context only: place and names."""
    found = []
    for path in [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "partners").rglob("*.py")]:
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if leaf.__name__ in text else ():
            if not isinstance(node, ast.Call) or node.args:
                continue
            if ast.unparse(node.func).split(".")[-1] != leaf.__name__:
                continue
            names = {keyword.arg for keyword in node.keywords}
            if None not in names:
                place = f"{path.relative_to(ROOT)}:{node.lineno}"
                found.append((place, {name for name in names if name}))
    return found


@pytest.mark.parametrize("leaf", LEAVES, ids=lambda leaf: leaf.code)
def test_what_a_message_names_is_given_where_it_is_raised(leaf: type[GatewayError]) -> None:
    named = {name for text in TEXTS for name in docgen.placeholders(getattr(leaf, text))}
    for place, given in _raised(leaf):
        shown = given | {name.removesuffix("_fen") for name in given}
        assert named - shown - NAMES_FROM_THE_CATALOG == set(), place
