"""Words of the search index: 1- and 2-character grams of Chinese text, whole Latin words. Pure.

Trigram indexes silently find nothing for two-character words, which most Chinese words are; so
the grams are rows of a plain table, the same on every database.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

_RUNS = re.compile(r"[\u3400-\u9fff]+|[a-z0-9]+")
TAG = "#"  # Starts the token of a theme tag, which no text contains.


def words(text: str) -> list[str]:
    """Runs of Chinese characters and Latin words of a text: full width folded, lower case."""
    return _RUNS.findall(unicodedata.normalize("NFKC", text).lower())


def of_text(text: str) -> set[str]:
    """Every gram under which a text can be found."""
    grams: set[str] = set()
    for word in words(text):
        if word.isascii():
            grams.add(word)
        else:
            grams.update(word)
            grams.update(word[at : at + 2] for at in range(len(word) - 1))
    return grams


def of_query(text: str) -> set[str]:
    """The grams a query asks for, all of them: 电影票 asks for 电影 and 影票."""
    grams: set[str] = set()
    for word in words(text):
        if word.isascii() or len(word) == 1:
            grams.add(word)
        else:
            grams.update(word[at : at + 2] for at in range(len(word) - 1))
    return grams


def of_tag(tag: str) -> str:
    """The token of a theme tag."""
    return TAG + unicodedata.normalize("NFKC", tag).strip().lower()


def weigh(fields: Mapping[int, Iterable[str]]) -> dict[str, int]:
    """Tokens of an offer with their weights.

    Args:
        fields: Weight to the texts that have it.

    Returns:
        Token to the largest weight of a text with it.
    """
    weights: dict[str, int] = {}
    for weight, texts in sorted(fields.items()):
        for text in texts:
            weights.update(dict.fromkeys(of_text(text), weight))
    return weights
