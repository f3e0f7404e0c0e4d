"""Digests, seals and heads of the audit chain."""

from datetime import UTC, date, datetime

import pytest

from gateway.audit.model import BadHead, Head, digest, head_of, id_floor, seal_of
from gateway.values import new_id


def test_an_ids_floor_is_an_earlier_instant() -> None:
    made = new_id("jnl")
    floor = id_floor(made, margin_ms=1_000)
    assert floor < made
    assert id_floor(made, margin_ms=0) == made[:14]
    assert id_floor(made, margin_ms=2**60) == "jnl_0000000000"
    assert id_floor("jnl_0000000010zz", margin_ms=1) == "jnl_000000000z"


def test_a_digest_is_of_the_content_and_survives_a_new_column() -> None:
    row = {"id": "a", "fen": 5, "at": datetime(2026, 11, 20, tzinfo=UTC), "note": None}
    assert digest(row) == digest({"at": row["at"], "fen": 5, "id": "a"})
    assert digest(row) == digest(row | {"new_column": None, "new_parts": []})
    assert digest(row) != digest(row | {"fen": 6})
    assert digest(row) != digest(row | {"note": ""})


def test_a_seal_covers_everything_of_its_link() -> None:
    link = (7, "0" * 64, "ledger_journals", "jnl_1", "d")
    others = [(8, *link[1:]), (7, "1" * 64, *link[2:]), (*link[:4], "e"), (*link[:3], "jnl_2", "d")]
    assert len({seal_of(*each) for each in (link, *others)}) == 5


def test_a_head_is_read_as_it_was_signed() -> None:
    head = Head(9, "a" * 64, datetime(2026, 11, 20, 2, tzinfo=UTC), date(2026, 11, 20), "http://g")
    assert head.claims()["count"] == 9
    assert head_of(head.claims()) == head
    with pytest.raises(BadHead):
        head_of({"iss": "http://g"})
