"""Which role may ask for which scope, and what each scope means in words. Data, no I/O.

Source: contracts, "Every mutation by role and scope" and the table of queries.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Role(StrEnum):
    MEMBER = "member"
    PARTNER = "partner"  # a merchant: its own data only
    FINANCE = "finance"
    OPERATOR = "operator"
    COMPLIANCE = "compliance"
    REGULATOR = "regulator"


ACK = "settlement:ack:"  # followed by the merchant's id

_WORDS: Mapping[Role, Mapping[str, tuple[str, str]]] = {
    Role.MEMBER: {
        "points:read": ("查看您的积分、订单和账单", "see your points, orders and statements"),
        "points:redeem": ("使用、捐赠和退回您的积分", "spend, donate and take back your points"),
        "engagement:play": ("参加任务、勋章和抽奖", "take part in tasks, badges and draws"),
        "family:manage": ("管理您的家庭组和授权", "manage your family group and mandates"),
        "consent:manage": ("给予和撤回同意、关联账户", "give and withdraw consents, link accounts"),
        "data:export": ("导出或删除您的个人数据", "export or erase your personal data"),
    },
    Role.PARTNER: {
        "keys:manage": ("登记签名密钥", "register signing keys"),
        "members:write": ("登记会员", "register members"),
        "earn:write": ("记录消费与退货", "record purchases and returns"),
        "offers:write": ("发布与暂停权益", "publish and suspend offers"),
        "programme:write": ("发布积分规则", "publish programme rules"),
        "redemption:serve": ("核销券码、记录履约", "verify vouchers and record fulfilment"),
        "subgraph:publish": ("发布子图", "publish a subgraph"),
        "webhooks:manage": ("管理回调", "manage webhooks"),
        "conformance:run": ("运行一致性检查", "run conformance checks"),
        "agreement:sign": ("提出与签署兑换协议", "propose and sign agreements"),
        "statement:read": ("查看本商户的账单与结算", "read this merchant's bills and settlements"),
    },
    Role.FINANCE: {
        "finance:read": ("查看结算、对账与账簿", "read settlement, reconciliation and ledger"),
        "settlement:write": ("关闭窗口、提出结算", "close windows and propose settlements"),
        "settlement:approve": ("批准结算", "approve settlements"),
        "reconciliation:write": ("对账与提出差异处理", "reconcile and propose resolutions"),
        "reconciliation:approve": ("批准差异处理", "approve resolutions"),
        "ledger:adjust": ("提出调账", "propose adjustments"),
        "ledger:approve": ("批准调账与关账", "approve adjustments and close periods"),
    },
    Role.OPERATOR: {
        "operator:read": ("查看运营数据", "read operations"),
        "merchants:write": ("登记与暂停商户", "register and pause merchants"),
        "promotions:write": ("发布活动", "publish promotions"),
        "programme:write": ("发布积分规则", "publish programme rules"),
        "budget:write": ("提出营销预算", "propose budgets"),
        "budget:approve": ("批准营销预算", "approve budgets"),
        "licence:write": ("登记许可证", "record licences"),
        "saga:operate": ("处理未决兑换", "decide redemptions in doubt"),
        "review:write": ("提出审核意见", "propose review resolutions"),
        "review:approve": ("批准审核意见", "approve review resolutions"),
        "sandbox:clock": ("调整沙箱时钟", "set the sandbox clock"),
    },
    Role.COMPLIANCE: {
        "audit:read": ("查看合规与审计记录", "read compliance and audit records"),
        "compliance:write": ("立案与导出证据", "open cases and export evidence"),
    },
    Role.REGULATOR: {
        "audit:read": ("查看合规与审计记录", "read compliance and audit records"),
    },
}
_EVERYONE = {"catalog:read": ("查看权益目录", "see the catalog of offers")}

ROLE_SCOPES: Mapping[Role, frozenset[str]] = {
    role: frozenset(words) | frozenset(_EVERYONE) for role, words in _WORDS.items()
}
ALL_SCOPES = frozenset().union(*ROLE_SCOPES.values())


def of(role: Role, merchant_id: str | None = None) -> frozenset[str]:
    """The scopes of a role; a partner's include the acknowledgement of its own settlements."""
    if role is Role.PARTNER and merchant_id:
        return ROLE_SCOPES[role] | {ACK + merchant_id}
    return ROLE_SCOPES[role]


def words(scope: str) -> tuple[str, str]:
    """What a scope lets an app do, in Chinese and English."""
    if scope.startswith(ACK):
        return "确认本商户的结算", "acknowledge this merchant's settlements"
    for known in (_EVERYONE, *_WORDS.values()):
        if scope in known:
            return known[scope]
    raise KeyError(scope)


def split(text: str | None) -> frozenset[str]:
    """The scopes in a space-separated list."""
    return frozenset((text or "").split())


def join(scopes: Iterable[str]) -> str:
    """A space-separated list, sorted."""
    return " ".join(sorted(scopes))
