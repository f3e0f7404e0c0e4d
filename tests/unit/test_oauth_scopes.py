"""The contract's table of roles and scopes, written out."""

import pytest

from gateway.oauth import scopes
from gateway.oauth.scopes import Role

TABLE = {
    Role.MEMBER: "points:read points:redeem engagement:play family:manage consent:manage"
    " data:export",
    Role.PARTNER: "keys:manage members:write earn:write offers:write programme:write"
    " redemption:serve subgraph:publish webhooks:manage conformance:run agreement:sign"
    " settlement:ack:M04 statement:read",
    Role.FINANCE: "finance:read settlement:write settlement:approve reconciliation:write"
    " reconciliation:approve ledger:adjust ledger:approve",
    Role.OPERATOR: "operator:read merchants:write promotions:write programme:write budget:write"
    " budget:approve licence:write saga:operate review:write review:approve sandbox:clock",
    Role.COMPLIANCE: "audit:read compliance:write",
    Role.REGULATOR: "audit:read",
}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_has_the_scopes_of_the_contract(role: Role) -> None:
    merchant = "M04" if role is Role.PARTNER else None
    assert scopes.of(role, merchant) == {"catalog:read", *TABLE[role].split()}


@pytest.mark.parametrize("scope", sorted(scopes.ALL_SCOPES | {"settlement:ack:M04"}))
def test_every_scope_has_words_in_both_languages(scope: str) -> None:
    chinese, english = scopes.words(scope)
    assert not chinese.isascii()
    assert english.isascii()
