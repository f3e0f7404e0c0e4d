"""The rules that INVALID_INPUT names, in Chinese. Pure; a test finds each rule of the code here.

A rule is written in English where it is checked. What is fixed stands in a table, what holds
numbers or values in patterns, tried in order.
"""

import re

_FIXED = {
    "1 for a bill": "抵扣账单时为 1",
    "1 to 32 letters, digits, - and _": "1 到 32 个字母、数字、- 或 _",
    "0, or the sequence seen last": "填 0,或最近收到的 sequence",
    "a JWK object": "应为 JWK 对象",
    "a business day that has begun": "应为已开始的营业日",
    "a cursor of an earlier page": "应为前一页给出的游标",
    "a cursor of an earlier page of this search": "应为本次查询前一页给出的游标",
    "a cursor of this list": "应为本列表给出的游标",
    "a detached JWS over these bytes by a registered key": "应为已登记密钥对原文的分离式 JWS 签名",
    "a list of words": "应为词语列表",
    "a name in Chinese": "应填中文名称",
    "a public JWK: EC P-256 or OKP Ed25519": "应为公钥 JWK:EC P-256 或 OKP Ed25519",
    "a published event type, or `redemption.*`": "应为已公布的事件类型,或 `redemption.*`",
    "a text": "应为文本",
    "a valid public JWK": "应为有效的公钥 JWK",
    "a whole number in range": "应为范围内的整数",
    "a whole number, at least 1": "应为不小于 1 的整数",
    "after valid_from": "应晚于 validFrom",
    "an OAuth client of the coalition at your issuer comes first": (
        "须先在贵方授权服务器为平台登记 OAuth 客户端,并由运营方接通"
    ),
    "an https address on the public internet, port 443 or 8443": (
        "应为公网 https 地址,端口 443 或 8443"
    ),
    "an object": "应为对象",
    "an object of __typename and id": "应为含 __typename 和 id 的对象",
    "an object with off_fen or off_pct": "应为含 off_fen 或 off_pct 的对象",
    "an open break": "应为未处理的差异",
    "another merchant than the issuer": "兑换方不能是发行方自己",
    "at least one event type": "至少一种事件类型",
    "badge prizes are claimed by claimBadgePrize": "勋章奖品用 claimBadgePrize 领取",
    "book or value": "应为 book 或 value",
    "credentials are read, not bought": "凭证只能查看,不能兑换",
    "donations go through donatePoints": "捐赠请用 donatePoints",
    "draws are entered by enterDraw": "抽奖请用 enterDraw 参加",
    "either events or failedSince": "events 与 failedSince 二选一",
    "either member or partnerMemberRef": "member 与 partnerMemberRef 二选一",
    "fen paid in cash, a whole number": "应为以分计的现金金额(整数)",
    "finite numbers": "应为有限的数字",
    "fixed or estimate": "应为 fixed 或 estimate",
    "for members only": "仅限会员",
    "no control characters": "不能含控制字符",
    "not in the future": "不能晚于现在",
    "not nested so deeply": "嵌套过深",
    "nothing is left for this leg": "这种积分已无金额可付",
    "num and den at least 1": "num 与 den 均不小于 1",
    "numbers of at most 2^53 - 1": "数字不超过 2^53 - 1",
    "only a bill offset or a coupon has one": "只有账单抵扣或优惠券才需要",
    "only the last leg may be left open": "只有最后一种积分可不填数量",
    "own or coalition": "应为 own 或 coalition",
    "per_amount, per_night or per_distance": "应为 per_amount、per_night 或 per_distance",
    "the bill to be offset": "请填要抵扣的账单金额",
    "the merchant has no programme": "该商户没有积分计划",
    "the one to be signed: several wait": "有多个版本待签,请指明版本",
    "the operator names the issuer": "运营方须指明发行方",
    "the partner's booking, for COMMIT only": "填商户的预订号,仅用于 COMMIT",
    "the public part only; keep the private key": "只交公钥部分,私钥请自行保管",
    "these points cover less than one fen": "这些积分不足一分钱",
    "this offer has no price in its merchant's own points": "该项目没有本商户积分的价格",
    "true or false": "应为 true 或 false",
    "Unicode text": "应为 Unicode 文本",
    "whole numbers above 0": "应为大于 0 的整数",
    "why": "请写明理由",
}
_PATTERNS = tuple(
    (re.compile(rule), told)
    for rule, told in (
        (r"1 to (.+) characters", r"1 到 \1 个字符"),
        (r"1 to (.+) legs", r"1 到 \1 种积分"),
        (r"1 to (.+), or none for life", r"1 到 \1,不填为终身"),
        (r"in the years (.+) to (.+)", r"年份应在 \1 到 \2 之间"),
        (r"([\d-]+) to ([\d-]+)", r"\1 到 \2"),
        (r"at most (.+) bytes in UTF-8", r"UTF-8 编码不超过 \1 字节"),
        (r"at most (.+) endpoints of one merchant", r"每个商户最多 \1 个回调地址"),
        (r"at most (.+)", r"不超过 \1"),
        (r"at least (.+)", r"不少于 \1"),
        (r"for at most (.+) times", r"最多可兑 \1 次"),
        (r"step of (.+)", r"须为 \1 的整数倍"),
        (r"a public JWK with (.+)", r"应为含 \1 的公钥 JWK"),
        (r"the prefix (.+) is another merchant's", r"前缀 \1 已属于其他商户"),
        (r"issuer and redeemer, for (.+) only", r"issuer 与 redeemer 仅用于 \1"),
        (r"one of (.+), for CANCEL only", r"应为其中之一:\1;仅用于 CANCEL"),
        (r"(?:one )?of (.+)", r"应为其中之一:\1"),
        (r"(.+), by an id", r"\1,按 id 引用"),
    )
)


def in_chinese(rule: str) -> str:
    """A rule in Chinese; as it is, if it is not known."""
    if rule in _FIXED:
        return _FIXED[rule]
    for pattern, told in _PATTERNS:
        if found := pattern.fullmatch(rule):
            return found.expand(told)
    return rule
