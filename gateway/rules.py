"""What a field of an input must be, in English and in Chinese. Data, no I/O.

The English text is the rule's name: `InvalidInput(field, "step of {step}", step=10)`. A test finds
every one that is raised and looks it up here.
"""

from collections.abc import Mapping

RULES: Mapping[str, str] = {
    "{least} to {most}": "须在 {least} 到 {most} 之间",
    "at least {least}": "至少为 {least}",
    "at most {most}": "至多为 {most}",
    "one of {values}": "须为以下之一:{values}",
    "step of {step}": "须为 {step} 的整数倍",
    "a text": "须填写文字",
    "an object": "须为对象",
    "named: {window} has not begun": "须指明窗口:{window} 尚未开始",
    "true or false": "须为 true 或 false",
    "a list of words": "须为词语列表",
    "a whole number in range": "须为范围内的整数",
    "a whole number, at least 1": "须为不小于 1 的整数",
    "whole numbers above 0": "须为大于 0 的整数",
    "num and den at least 1": "num 和 den 均须不小于 1",
    "numbers of at most 2^53 - 1": "数字的绝对值不得超过 2^53 - 1",
    "finite numbers": "须为有限的数字",
    "no control characters": "不得含控制字符",
    "at most {most} bytes in UTF-8": "UTF-8 编码后不得超过 {most} 字节",
    "Unicode text": "须为有效的 Unicode 文字",
    "not nested so deeply": "嵌套层数过多",
    "1 to {most} characters": "须为 1 到 {most} 个字符",
    "{least} to {most} characters": "须为 {least} 到 {most} 个字符",
    "given with the role partner, and only then": "角色为 partner 时须填写,否则不得填写",
    "https, or http on 127.0.0.1 or [::1]": "须为 https,或 127.0.0.1、[::1] 上的 http",
    "1 to 32 letters, digits, - and _": "须为 1 到 32 个字母、数字、- 或 _",
    # pages
    "a cursor of this list": "须为本列表的游标",
    "a cursor of an earlier page": "须为前一页的游标",
    "a cursor of an earlier page of this search": "须为同一搜索前一页的游标",
    "0, or the sequence seen last": "须为 0 或上次收到的序号",
    # offers and quotes
    "a name in Chinese": "须填写中文名称",
    "an object with off_fen or off_pct": "须为含 off_fen 或 off_pct 之一的对象",
    "the merchant has no programme": "该商户没有积分计划",
    "for members only": "仅供会员使用",
    "the bill to be offset": "须填写要抵扣的账单金额",
    "1 for a bill": "抵扣账单时须为 1",
    "only a bill offset or a coupon has one": "仅账单抵扣或优惠券可填",
    "this offer has no price in its merchant's own points": "该权益没有本商户积分价格",
    "1 to {most} legs": "须为 1 到 {most} 种积分",
    "only the last leg may be left open": "只有最后一种积分可以不填数量",
    "nothing is left for this leg": "已无金额可由此种积分支付",
    "these points cover less than one fen": "这些积分不足一分钱",
    "named; the next with room are {values}": "须指明时段;近期可选:{values}",
    "draws are entered by enterDraw": "抽奖请用 enterDraw 参加",
    "badge prizes are claimed by claimBadgePrize": "勋章奖品请用 claimBadgePrize 领取",
    "credentials are read, not bought": "凭证只可查看,不可兑换",
    "donations go through donatePoints": "捐赠请用 donatePoints",
    "each programme once": "每种积分只可填一次",
    # points and members
    "fen paid in cash, a whole number": "须为现金支付的金额(分),整数",
    "either member or partnerMemberRef": "member 与 partnerMemberRef 须且只须填一项",
    "not in the future": "不得晚于现在",
    "the operator names the issuer": "运营方须指明发行商户",
    "1 to {most}, or none for life": "须在 1 到 {most} 之间;长期有效则不填",
    "for at most {most} times": "至多可兑换 {most} 次",
    "issuer and redeemer, for {purpose} only": "仅 {purpose} 须填发行商户与兑换商户",
    # keys and signatures
    "a JWK object": "须为 JWK 对象",
    "a public JWK: EC P-256 or OKP Ed25519": "须为公钥 JWK:EC P-256 或 OKP Ed25519",
    "the public part only; keep the private key": "只须公钥,私钥请自行保管",
    "a public JWK with {values}": "须为含 {values} 的公钥 JWK",
    "a valid public JWK": "须为有效的公钥 JWK",
    "a detached JWS over these bytes by a registered key": "须为已登记密钥对该内容的分离式 JWS",
    # merchants: webhooks, subgraphs, agreements
    "a published event type, or `redemption.*`": "须为已公布的事件类型,或如 `redemption.*`",
    "at least one event type": "至少填一种事件类型",
    "an https address on the public internet, port 443 or 8443": (
        "须为公网 https 地址,端口 443 或 8443"
    ),
    "at most {most} endpoints of one merchant": "每个商户至多 {most} 个地址",
    "either events or failedSince": "events 与 failedSince 须且只须填一项",
    "the prefix {prefix} is another merchant's": "前缀 {prefix} 已属其他商户",
    "an OAuth client of the coalition at your issuer comes first": (
        "请先在您的签发方登记联盟的 OAuth 客户端"
    ),
    "another merchant than the issuer": "须为发行商户以外的商户",
    "after valid_from": "须晚于 valid_from",
    "the one to be signed: several wait": "有多个版本待签,请指明版本",
    # staff
    "in the years {least} to {most}": "年份须在 {least} 到 {most} 之间",
    "a business day that has begun": "须为已开始的营业日",
    "an open break": "须为未关闭的差异",
    "COMMIT needs the partner's booking; no other outcome takes one": (
        "COMMIT 必须填写商户的预订凭据,其他结论不得填写"
    ),
    "one of {values}, for CANCEL only": "仅 CANCEL 须填,且为以下之一:{values}",
    "why": "请说明原因",
    # federation
    "an object of __typename and id": "须为含 __typename 与 id 的对象",
    "one of {values}, by an id": "须为以下之一并附编号:{values}",
}
