"""The demo's people are greeted by a name, never by their login."""

import re

from gateway.demo import install


def test_everybody_who_can_log_in_has_a_name() -> None:
    found = install.people()
    assert {person.is_member for person in found} == {True, False}
    assert [each.login for each in found if not re.search("[\u4e00-\u9fff]", each.name_zh)] == []
