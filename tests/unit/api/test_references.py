"""What our own schema is asked for merchants' references."""

from types import SimpleNamespace
from typing import Any

from gateway.api.graph import InProcess
from gateway.api.local import Answer
from gateway.federation.services import SubgraphRequest
from gateway.oauth.guard import Actor
from gateway.oauth.scopes import Role

TEXT = "query($r: [_Any!]!) { _entities(representations: $r) { ... on Offer { nameZh } } }"


class Local:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: Any = None

    async def answer(self, _document: Any, _name: Any, variables: Any, _context: Any) -> Answer:
        self.asked = variables
        return Answer({"_entities": []})


async def test_a_bad_reference_costs_itself_only() -> None:
    local: Any = Local()
    actor = Actor("mbr", Role.MEMBER, "app", scopes=frozenset({"catalog:read"}))
    context = SimpleNamespace(actor=actor, locale="en", request_id="req")
    odd = ("XH-01", 5, None, True, {"a": 1}, [])
    given = [{"__typename": "Offer", "id": one} for one in odd]
    variables = {"r": given, "other": [1], "none": []}
    request = SubgraphRequest("coalition", "query", TEXT, variables, state=context)
    await InProcess(local).fetch(request)
    assert [one["id"] for one in local.asked["r"]] == ["XH-01", "5", "", "", "", ""]
    assert local.asked | {"r": given} == variables
    assert given[1]["id"] == 5
