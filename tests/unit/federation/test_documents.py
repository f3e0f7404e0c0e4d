"""Trusted documents: by client, by hash, by mode; registered ones are bounded and never trusted."""

import json

import pytest

from gateway.federation.documents import (
    Documents,
    InvalidManifest,
    Mismatch,
    Trusted,
    Unknown,
    Untrusted,
    digest,
    manifest,
)

ONE, TWO, THREE = "{ one }", "{ two }", "{ three }"
CLIENTS = {"app": {digest(ONE): ONE}, "*": {digest(TWO): TWO}}


def documents(mode, **more):
    return Documents(Trusted(mode, CLIENTS), **more)


def test_a_manifest_is_read_and_its_hashes_are_checked():
    assert manifest(json.dumps(CLIENTS)) == CLIENTS
    assert manifest(json.dumps({digest(ONE): ONE})) == {"*": {digest(ONE): ONE}}
    other = json.dumps({"app": {digest(ONE): TWO}})
    for bad in ("[]", "{", '{"app": []}', '{"app": {"x": 1}}', other):
        with pytest.raises(InvalidManifest):
            manifest(bad)


def test_only_trusted_documents_are_answered_in_mode_only():
    only = documents("only")
    assert only.text("app", None, digest(ONE)) == (ONE, True)
    assert only.text("app", ONE, None) == (ONE, True)
    assert only.text("app", None, digest(TWO)) == (TWO, True)
    assert only.text(None, TWO, None) == (TWO, True)
    with pytest.raises(Unknown):
        only.text("other", None, digest(ONE))
    with pytest.raises(Untrusted):
        only.text("other", ONE, None)
    with pytest.raises(Untrusted):
        only.text("app", THREE, digest(THREE))
    with pytest.raises(Unknown):
        only.text("app", None, digest(THREE))


def test_mode_log_answers_all_and_tells_what_is_not_trusted():
    log = documents("log")
    assert log.text("app", ONE, None) == (ONE, True)
    assert log.text("app", THREE, None) == (THREE, False)


def test_a_client_registers_a_document_by_its_hash():
    off = documents("off")
    with pytest.raises(Unknown):
        off.text(None, None, digest(ONE))
    assert off.text(None, ONE, digest(ONE)) == (ONE, False)
    assert off.text(None, None, f"sha256:{digest(ONE).upper()}") == (ONE, False)
    with pytest.raises(Mismatch):
        off.text(None, TWO, digest(ONE))
    with pytest.raises(Unknown):
        off.text(None, None, "abc")
    with pytest.raises(Unknown):
        documents("off", automatic=False).text(None, None, digest(ONE))


def test_registered_documents_are_bounded():
    off = documents("off")
    for number in range(1_500):
        text = f"{{ f{number} }}"
        off.text(None, text, digest(text))
    with pytest.raises(Unknown):
        off.text(None, None, digest("{ f0 }"))
    large = "{ " + "x " * 300_000 + "}"
    off.text(None, large, digest(large))
    with pytest.raises(Unknown):
        off.text(None, None, digest(large))
