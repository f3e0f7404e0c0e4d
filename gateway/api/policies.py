"""Who may use which root field: one table, deny by default.

A field without a row here is refused to everybody, and a test fails for it. Object-level rules
(one's own data only) are the resolvers'.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from gateway.oauth.guard import Actor, RoleForbidden, ScopeMissing, Unauthenticated
from gateway.oauth.scopes import ACK, Role


@dataclass(frozen=True, slots=True)
class Policy:
    """The scope a field needs, and the roles that may use it.

    Args:
        scope: `settlement:ack:` stands for that of the caller's own merchant; None: none.
        roles: Empty: any role.
        open: Needs no token at all.
    """

    scope: str | None = None
    roles: frozenset[Role] = frozenset()
    open: bool = False


def _of(roles: tuple[Role, ...], scopes: Mapping[str, str]) -> Iterator[tuple[str, Policy]]:
    for scope, fields in scopes.items():
        for name in fields.split():
            yield name, Policy(scope, frozenset(roles))


_MEMBER = (Role.MEMBER,)
_PARTNER = (Role.PARTNER,)
_FINANCE = (Role.FINANCE,)
_OPERATOR = (Role.OPERATOR,)
_AUDIT = (Role.COMPLIANCE, Role.REGULATOR)

QUERIES: Mapping[str, Policy] = dict(
    [
        ("_service", Policy("catalog:read")),
        ("_entities", Policy("catalog:read")),
        *_of(
            (),
            {
                "catalog:read": "coalition merchants merchant programmes acceptance offers offer"
                " warnings",
            },
        ),
        *_of(
            _MEMBER,
            {"points:read": "me quote redemption redemptions donation savings"},
        ),
        *_of(
            _PARTNER,
            {
                "statement:read": "partner agreements obligations bills settlementLegs events"
                " subgraphs",
                "webhooks:manage": "webhooks",
            },
        ),
        *_of(
            _FINANCE,
            {
                "finance:read": "settlementWindows settlement reconciliationRuns"
                " reconciliationRun breaks journals trialBalance",
            },
        ),
        *_of(
            _OPERATOR,
            {"operator:read": "partners sagas reviews budgets coverage"},
        ),
        *_of(_AUDIT, {"audit:read": "redLines"}),
    ]
)

MUTATIONS: Mapping[str, Policy] = dict(
    [
        ("registerClientKey", Policy(open=True)),  # An onboarding code, or scope keys:manage.
        *_of(
            _MEMBER,
            {
                "points:redeem": "requestQuote holdRedemption confirmRedemption redeemOffer"
                " releaseRedemption requestCancellation cancelRedemption donatePoints"
                " reverseDonation",
                "consent:manage": "grantConsent revokeConsent",
            },
        ),
        *_of(
            _PARTNER,
            {
                "members:write": "registerMember",
                "earn:write": "recordEarnEvent recordReturn",
                "offers:write": "publishOffer",
                "redemption:serve": "verifyVoucher recordFulfilment",
                "webhooks:manage": "registerWebhook resendEvents",
                "subgraph:publish": "publishSubgraph unpublishSubgraph",
                "conformance:run": "startConformanceRun",
                "agreement:sign": "proposeAgreement signAgreement",
                ACK: "acknowledgeSettlementLeg",
            },
        ),
        *_of(
            _FINANCE,
            {
                "settlement:write": "closeSettlementWindow proposeSettlement",
                "settlement:approve": "approveSettlement",
                "reconciliation:write": "startReconciliationRun assignBreak proposeBreakResolution",
                "reconciliation:approve": "approveBreakResolution signOffReconciliationRun",
            },
        ),
        *_of(
            _OPERATOR,
            {
                "merchants:write": "registerMerchant pausePartner",
                "budget:write": "proposeBudget",
                "budget:approve": "approveBudget",
                "licence:write": "recordLicence",
                "saga:operate": "fencePartnerOperation",
                "review:write": "proposeReviewResolution",
                "review:approve": "approveReviewResolution",
                "sandbox:clock": "setSandboxClock",
            },
        ),
        # A merchant its own, the operator anyone's: the scopes differ, see `EITHER`.
        ("suspendOffer", Policy("offers:write", frozenset({Role.PARTNER}))),
        (
            "publishProgrammePolicy",
            Policy("programme:write", frozenset({Role.PARTNER, Role.OPERATOR})),
        ),
    ]
)

SUBSCRIPTIONS: Mapping[str, Policy] = dict(
    [
        *_of(_MEMBER, {"points:read": "redemptionUpdated"}),
        *_of(_PARTNER, {"statement:read": "partnerEvents"}),
    ]
)

EITHER: Mapping[str, Policy] = {
    "suspendOffer": Policy("promotions:write", frozenset({Role.OPERATOR})),
    "obligations": Policy("finance:read", frozenset({Role.FINANCE})),
    "settlementLegs": Policy("finance:read", frozenset({Role.FINANCE})),
    "agreements": Policy("finance:read", frozenset({Role.FINANCE})),
}
"""A second way to a field, for another role: finance sees every merchant's rows."""

POLICIES: Mapping[str, Mapping[str, Policy]] = {
    "Query": QUERIES,
    "Mutation": MUTATIONS,
    "Subscription": SUBSCRIPTIONS,
}


MERCHANTS = Policy("catalog:read")
"""Root queries of merchants' subgraphs: as the catalog, for everybody."""


def admit(actor: Actor, kind: str, name: str, *, merchants: Collection[str] = ()) -> None:
    """Check that a caller may use a root field.

    Args:
        kind: `Query`, `Mutation` or `Subscription`.
        merchants: Root queries of merchants' subgraphs.

    Raises:
        Unauthenticated: It needs a token.
        RoleForbidden, ScopeMissing: The token's role or scopes do not allow it.
    """
    policy = POLICIES.get(kind, {}).get(name)
    if policy is None and kind == "Query" and name in merchants:
        policy = MERCHANTS
    if policy is not None and policy.open:
        return
    if actor.anonymous:
        raise Unauthenticated
    if policy is None:
        raise RoleForbidden(role=actor.role)
    if policy.roles and actor.role not in policy.roles:
        policy = EITHER.get(name, policy)
        if actor.role not in policy.roles:
            raise RoleForbidden(role=actor.role)
    scope = policy.scope
    if scope == ACK:
        scope = f"{ACK}{actor.merchant_id}"
    if scope is not None and scope not in actor.scopes:
        raise ScopeMissing(scope=scope)


def root_fields(document: DocumentNode, operation: OperationDefinitionNode) -> frozenset[str]:
    """The root fields an operation names, also through fragments."""
    fragments = {
        definition.name.value: definition
        for definition in document.definitions
        if isinstance(definition, FragmentDefinitionNode)
    }
    seen: set[str] = set()

    def names(selected: SelectionSetNode) -> Iterator[str]:
        for node in selected.selections:
            if isinstance(node, FieldNode):
                yield node.name.value
            elif isinstance(node, FragmentSpreadNode):
                name = node.name.value
                if name not in seen and name in fragments:
                    seen.add(name)
                    yield from names(fragments[name].selection_set)
            elif isinstance(node, InlineFragmentNode):
                yield from names(node.selection_set)

    return frozenset(names(operation.selection_set))
