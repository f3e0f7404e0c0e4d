"""schema.graphql is our own API schema as the code has it."""

from pathlib import Path

from gateway.api.schema import api_sdl

ROOT = Path(__file__).parents[2]


def test_the_schema_file_is_up_to_date():
    stored = (ROOT / "schema.graphql").read_text(encoding="utf-8")
    assert stored == api_sdl(), "run `gateway schema export > schema.graphql`"
