"""House rules of the schema: policies, keys, red lines, federation; read off the schema itself."""

import re

import pytest
from graphql import (
    GraphQLInputObjectType,
    GraphQLNonNull,
    GraphQLObjectType,
    build_schema,
    get_named_type,
)

from gateway.api.policies import EITHER, MUTATIONS, QUERIES, SUBSCRIPTIONS, admit
from gateway.api.schema import api_sdl, build, subgraph_sdl
from gateway.oauth import scopes
from gateway.oauth.guard import ANONYMOUS, Actor, RoleForbidden, ScopeMissing, Unauthenticated
from gateway.oauth.scopes import ACK, Role

CORE = build()._schema
ROOTS = {
    "Query": CORE.query_type,
    "Mutation": CORE.mutation_type,
    "Subscription": CORE.subscription_type,
}
FIELDS = [(kind, name) for kind, root in ROOTS.items() for name in root.fields]
OBJECTS = [
    found
    for found in CORE.type_map.values()
    if isinstance(found, GraphQLObjectType) and not found.name.startswith("__")
]


def actor(role: Role, scope: frozenset[str] | None = None) -> Actor:
    merchant = "M05" if role is Role.PARTNER else None
    given = scopes.of(role, merchant) if scope is None else scope
    return Actor(f"usr_{role}", role, "app", merchant, scopes=given)


def test_every_root_field_has_a_policy_and_every_policy_a_field():
    assert set(QUERIES) == set(ROOTS["Query"].fields)
    assert set(MUTATIONS) == set(ROOTS["Mutation"].fields)
    assert set(SUBSCRIPTIONS) == set(ROOTS["Subscription"].fields)
    assert set(EITHER) <= set(QUERIES) | set(MUTATIONS)


def test_a_field_without_a_policy_is_refused_to_everybody():
    for role in Role:
        with pytest.raises(RoleForbidden):
            admit(actor(role), "Query", "noSuchField")


# contracts §3.1, "Every mutation by role and scope": what exists now.
TABLE = {
    (Role.MEMBER, "points:redeem"): "requestQuote holdRedemption confirmRedemption redeemOffer"
    " releaseRedemption requestCancellation cancelRedemption donatePoints reverseDonation",
    (Role.MEMBER, "consent:manage"): "grantConsent revokeConsent",
    (Role.PARTNER, "members:write"): "registerMember",
    (Role.PARTNER, "earn:write"): "recordEarnEvent recordReturn",
    (Role.PARTNER, "offers:write"): "publishOffer suspendOffer",
    (Role.PARTNER, "programme:write"): "publishProgrammePolicy",
    (Role.PARTNER, "redemption:serve"): "verifyVoucher recordFulfilment",
    (Role.PARTNER, "webhooks:manage"): "registerWebhook resendEvents",
    (Role.PARTNER, "subgraph:publish"): "publishSubgraph unpublishSubgraph",
    (Role.PARTNER, "conformance:run"): "startConformanceRun",
    (Role.PARTNER, "agreement:sign"): "proposeAgreement signAgreement",
    (Role.PARTNER, f"{ACK}M05"): "acknowledgeSettlementLeg",
    (Role.FINANCE, "settlement:write"): "closeSettlementWindow proposeSettlement",
    (Role.FINANCE, "settlement:approve"): "approveSettlement",
    (Role.FINANCE, "reconciliation:write"): "startReconciliationRun assignBreak"
    " proposeBreakResolution",
    (Role.FINANCE, "reconciliation:approve"): "approveBreakResolution signOffReconciliationRun",
    (Role.OPERATOR, "merchants:write"): "registerMerchant pausePartner",
    (Role.OPERATOR, "promotions:write"): "suspendOffer",
    (Role.OPERATOR, "programme:write"): "publishProgrammePolicy",
    (Role.OPERATOR, "budget:write"): "proposeBudget",
    (Role.OPERATOR, "budget:approve"): "approveBudget",
    (Role.OPERATOR, "licence:write"): "recordLicence",
    (Role.OPERATOR, "saga:operate"): "fencePartnerOperation",
    (Role.OPERATOR, "review:write"): "proposeReviewResolution",
    (Role.OPERATOR, "review:approve"): "approveReviewResolution",
    (Role.OPERATOR, "sandbox:clock"): "setSandboxClock",
}
ALLOWED = {(role, name): scope for (role, scope), names in TABLE.items() for name in names.split()}


def test_the_table_names_every_mutation_but_the_open_one():
    assert {name for _, name in ALLOWED} | {"registerClientKey"} == set(MUTATIONS)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", sorted(set(MUTATIONS) - {"registerClientKey"}))
def test_a_mutation_is_for_its_roles_and_scopes_only(role, name):
    scope = ALLOWED.get((role, name))
    if scope is None:
        with pytest.raises(RoleForbidden):
            admit(actor(role), "Mutation", name)
        return
    admit(actor(role), "Mutation", name)
    with pytest.raises(ScopeMissing) as missing:
        admit(actor(role, scopes.of(role, "M05") - {scope}), "Mutation", name)
    assert missing.value.context == {"scope": scope}


READS = {
    Role.MEMBER: "me quote redemption redemptions donation savings",
    Role.PARTNER: "partner agreements obligations bills settlementLegs events webhooks subgraphs",
    Role.FINANCE: "settlementWindows settlement reconciliationRuns reconciliationRun breaks"
    " journals trialBalance obligations settlementLegs agreements",
    Role.OPERATOR: "partners sagas reviews budgets coverage",
    Role.COMPLIANCE: "redLines",
    Role.REGULATOR: "redLines",
}
EVERYBODY = "coalition merchants merchant programmes acceptance offers offer warnings"


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", sorted(QUERIES))
def test_a_query_is_for_its_roles_only(role, name):
    if name in f"{READS[role]} {EVERYBODY} _service _entities".split():
        admit(actor(role), "Query", name)
        with pytest.raises(ScopeMissing):
            admit(actor(role, frozenset()), "Query", name)
    else:
        with pytest.raises(RoleForbidden):
            admit(actor(role), "Query", name)


FOLLOWS = {Role.MEMBER: "redemptionUpdated", Role.PARTNER: "partnerEvents"}


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("name", sorted(SUBSCRIPTIONS))
def test_a_subscription_is_for_its_roles_only(role, name):
    if name == FOLLOWS.get(role):
        admit(actor(role), "Subscription", name)
        with pytest.raises(ScopeMissing):
            admit(actor(role, frozenset()), "Subscription", name)
    else:
        with pytest.raises(RoleForbidden):
            admit(actor(role), "Subscription", name)


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_nobody_without_a_token_may_use_a_field(kind, name):
    if name == "registerClientKey":  # It asks for an onboarding code instead.
        admit(ANONYMOUS, kind, name)
    else:
        with pytest.raises(Unauthenticated):
            admit(ANONYMOUS, kind, name)


def test_another_merchants_acknowledgement_is_out_of_scope():
    with pytest.raises(ScopeMissing):
        admit(actor(Role.PARTNER, frozenset({f"{ACK}M04"})), "Mutation", "acknowledgeSettlementLeg")


@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_a_mutation_takes_one_input_with_a_key_and_gives_a_payload_with_errors(name):
    field = ROOTS["Mutation"].fields[name]
    pascal = name[0].upper() + name[1:]
    assert re.match(r"[a-z]+[A-Z]", name), "verbNoun"
    assert list(field.args) == ["input"]
    assert str(field.args["input"].type) == f"{pascal}Input!"
    given = get_named_type(field.args["input"].type)
    assert isinstance(given, GraphQLInputObjectType)
    assert str(given.fields["idempotencyKey"].type) == "String!"
    assert str(field.type) == f"{pascal}Payload!"
    payload = get_named_type(field.type)
    assert str(payload.fields["errors"].type) == "[UserError!]!"
    assert str(payload.fields["replayed"].type) == "Boolean!"
    others = set(payload.fields) - {"errors", "replayed"}
    assert others
    assert not any(isinstance(payload.fields[one].type, GraphQLNonNull) for one in others)


def test_no_field_moves_points_between_people_or_programmes_or_turns_them_into_money():
    verbs = re.compile(
        r"transfer|exchange|convert|swap|cash_?out|withdraw|payout|sell|lend", re.IGNORECASE
    )
    named = [f"{found.name}.{name}" for found in OBJECTS for name in found.fields]
    assert not [name for name in named if verbs.search(name)]


def test_no_field_sums_balances_of_different_issuers():
    """Points belong to a type that names one programme, or one leg, lot or purchase of it."""
    one_programme = {
        *("Wallet", "Lot", "Expiring", "Leg", "Price", "Donation", "Earning", "EarnReturn"),
        *("Coverage", "Savings", "RecordEarnEventPayload"),
    }
    counted = {
        found.name
        for found in OBJECTS
        for field in found.fields.values()
        if get_named_type(field.type).name == "Points"
    }
    assert counted <= one_programme
    holders = [found for found in OBJECTS if found.name in ("Me", "Wallet", "Redemption", "Quote")]
    summed = [
        f"{found.name}.{name}"
        for found in holders
        for name in found.fields
        if re.search(r"total|sum", name, re.IGNORECASE)
    ]
    assert summed == []


def test_the_api_schema_is_readable_by_others_and_without_federation():
    text = api_sdl()
    read = build_schema(text)
    assert "_entities" not in text
    assert "@key" not in text
    assert read.mutation_type
    field = read.mutation_type.fields["requestQuote"]
    assert {name: str(each.type) for name, each in field.args.items()} == {
        "input": "RequestQuoteInput!"
    }
    assert str(field.type) == "RequestQuotePayload!"


def test_the_subgraph_names_its_entities():
    text = subgraph_sdl()
    assert "federation/v2" in text
    for entity in ("Merchant", "Offer", "Redemption"):
        assert f'type {entity} @key(fields: "id")' in text
