"""What the doctor finds of one thing: words for people, in Chinese and English. Pure.

A finding says what was seen, and, when it is not well, what to do next.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlsplit

from gateway.db import Durability
from gateway.events.model import Trouble
from gateway.jobs import Left
from gateway.settings import Settings

MIB = 1024 * 1024
GIB = 1024 * MIB
_LATE = timedelta(minutes=10)
_UNSEEN = timedelta(minutes=1)  # A worker takes what is due, and seals, within seconds.
_OLD_KEY = timedelta(days=90)
_LOOPBACK = ("127.0.0.1", "::1", "localhost", "")


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"  # not looked at, because something before it failed


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's."""

    check: str
    verdict: Verdict
    zh: str
    en: str
    next_zh: str = ""
    next_en: str = ""


def ok(check: str, zh: str, en: str) -> Finding:
    return Finding(check, Verdict.OK, zh, en)


def warn(check: str, zh: str, en: str, next_zh: str, next_en: str) -> Finding:
    return Finding(check, Verdict.WARN, zh, en, next_zh, next_en)


def fail(check: str, zh: str, en: str, next_zh: str, next_en: str) -> Finding:
    return Finding(check, Verdict.FAIL, zh, en, next_zh, next_en)


def skip(check: str) -> Finding:
    return Finding(check, Verdict.SKIP, "未检查", "not looked at")


def graph(version: int | None, merchants: int, errors: Sequence[str]) -> Finding:
    """The graph that is live, and whether this version's own schema composes with it."""
    if version is None:
        return ok("graph", "仅平台自有接口", "our own schema alone")
    if not errors:
        told = f"version {version} with {merchants} merchants' subgraphs"
        return ok("graph", f"版本 {version},商户子图 {merchants} 个", told)
    named = "; ".join(errors[:3])
    return fail(
        "graph",
        f"版本 {version} 与本程序的接口无法合成:{named}",
        f"version {version} does not compose with this program's schema: {named}",
        "请相关商户修正后重新发布,或 gateway federation rollback",
        "let the merchants correct and publish, or `gateway federation rollback`",
    )


def settings(given: Settings) -> list[Finding]:
    """What is dangerous in live mode, and what is at least odd."""
    if given.sandbox:
        return [ok("settings", "沙箱模式", "sandbox mode")]
    unsafe = {
        "GATEWAY_ISSUER": not given.base_url.startswith("https://"),
        "GATEWAY_FAILPOINT": bool(given.failpoint),
        "GATEWAY_LOG_LEVEL": given.log_level.upper() == "DEBUG",
        "GATEWAY_LOGIN_TRIES_PER_MINUTE": given.login_tries_per_minute > 60,
        "GATEWAY_VOUCHER_MISSES_PER_MINUTE": not 0 < given.voucher_misses_per_minute <= 600,
        "GATEWAY_METRICS_TOKEN": 0 < len(given.metrics_token) < 20,
        "GATEWAY_VAULT_KEY_FILE": not given.vault_key_file,
        "GATEWAY_DATABASE_URL": _over_the_net_in_clear(given.database_url),
    }
    found = [name for name, bad in unsafe.items() if bad]
    if not found:
        return [ok("settings", "正式环境设置安全", "safe for live mode")]
    names = ", ".join(found)
    return [
        fail(
            "settings",
            f"正式环境下不安全:{names}",
            f"unsafe in live mode: {names}",
            "请对照 docs/settings.md 与 docs/operations.md 更正",
            "correct them; see docs/settings.md and docs/operations.md",
        )
    ]


def _over_the_net_in_clear(url: str) -> bool:
    parts = urlsplit(url)
    return parts.hostname not in (*_LOOPBACK, None) and "ssl" not in parts.query


def durability(found: Durability) -> Finding:
    """Whether what is committed stays."""
    words = ", ".join(f"{name}={value}" for name, value in found.settings.items())
    told = f"{found.kind} {found.version}, {words}"
    if not found.unsafe:
        return ok("database", f"可达:{told}", f"answers: {told}")
    names = ", ".join(found.unsafe)
    return fail(
        "database",
        f"提交后仍可能丢失:{names} ({told})",
        f"a commit may be lost: {names} ({told})",
        "请改回安全值并重启数据库",
        "set them back to safe values and restart the database",
    )


def schema(found: str | None, newest: str | None, older: frozenset[str]) -> Finding:
    """Whether the migrations are current; newer than ours is fine."""
    if found == newest:
        return ok("schema", f"已是最新版本 {found}", f"at the newest revision {found}")
    if found and found not in older:
        return warn(
            "schema",
            f"数据库版本 {found} 比本程序新",
            f"the database is at {found}, newer than this program",
            "请尽快升级所有进程",
            "upgrade every process soon",
        )
    return fail(
        "schema",
        f"数据库版本为 {found or '无'},最新为 {newest}",
        f"the database is at {found or 'no revision'}, the newest is {newest}",
        "运行 gateway db upgrade",
        "run `gateway db upgrade`",
    )


def clock(apart: timedelta, offset: timedelta, given: Settings) -> list[Finding]:
    """The database's clock, and the business clock's offset, which only a sandbox may have."""
    seconds = abs(apart / timedelta(seconds=1))
    told = f"{seconds:.1f} s"
    zh, en = f"与数据库时钟相差 {told}", f"{told} from the database's clock"
    step = "同步各机器的时钟 (NTP)", "synchronise the machines' clocks (NTP)"
    found = [ok("clock", zh, en)]
    if seconds > given.clock_skew_seconds:
        found = [fail("clock", zh, en, *step)]
    elif seconds > 2:
        found = [warn("clock", zh, en, *step)]
    minutes, rest = divmod(abs(offset) // timedelta(seconds=1), 60)
    sign = "-" if offset < timedelta() else "+"
    shift = f"{sign}{minutes // 60} h {minutes % 60} min {rest} s"
    zh, en = f"业务时钟偏移 {shift}", f"business time is offset by {shift}"
    if offset and not given.sandbox:
        step = "正式环境不得偏移:清空 clock_offset 表", "live mode allows none: empty clock_offset"
        return [*found, fail("business clock", zh, en, *step)]
    return [*found, ok("business clock", zh, en)]


def signing_key(age: timedelta | None, *, opens: bool) -> Finding:
    """The key that signs tokens, sealed by the vault key."""
    if age is None:
        return fail(
            "signing key",
            "没有签名密钥",
            "no key signs tokens",
            "启动 gateway serve 一次以生成",
            "start `gateway serve` once; it makes one",
        )
    if not opens:
        return fail(
            "signing key",
            "保险库密钥打不开签名密钥",
            "the vault key does not open the signing key",
            "找回与此数据库配套的 vault.key",
            "bring back the vault key that belongs to this database",
        )
    zh, en = f"签名密钥已用 {age.days} 天", f"the signing key is {age.days} days old"
    if age > _OLD_KEY:
        return warn("signing key", zh, en, "请轮换签名密钥", "rotate it")
    return ok("signing key", zh, en)


def doubts(count: int, oldest: timedelta, given: Settings) -> Finding:
    """Redemptions whose outcome only the partner knows."""
    if not count:
        return ok("in doubt", "没有存疑兑换", "no redemption is in doubt")
    zh, en = f"{count} 笔存疑,最久 {oldest}", f"{count} in doubt, the oldest for {oldest}"
    step = "运行 gateway doctor --partners", "run `gateway doctor --partners`"
    if oldest > timedelta(seconds=given.review_after_seconds):
        return fail("in doubt", zh, en, *step)
    if oldest > timedelta(hours=1):
        return warn("in doubt", zh, en, *step)
    return ok("in doubt", zh, en)


_STUCK: Mapping[str, tuple[str, str, str, str, Callable[..., Finding]]] = {
    "leased": (
        "租约早已过期,无人接手",
        "leases ended long ago and nobody went on",
        "启动 gateway worker,看其日志",
        "start `gateway worker` and read its log",
        fail,
    ),
    "held": (
        "超过保留期限仍为 HELD",
        "HELD past the limit of the hold",
        "启动 gateway worker,看其日志",
        "start `gateway worker` and read its log",
        fail,
    ),
    "review": (
        "待人工处理",
        "wait for a person",
        "由运营处理 NEEDS_REVIEW",
        "have the operator work on NEEDS_REVIEW",
        warn,
    ),
    "overdue": (
        "已逾人工处理期限",
        "wait for a person past the time given",
        "由运营今天处理:查询 reviews",
        "have the operator decide them today: the query `reviews`",
        fail,
    ),
}


def stuck(found: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Redemptions that ought to have moved on, by why."""
    findings = []
    for why, ids in found.items():
        zh, en, next_zh, next_en, verdict = _STUCK[why]
        name = f"redemptions {why}"
        if not ids:
            findings.append(ok(name, "没有", "none"))
            continue
        named = ", ".join(ids[:3]) + (" …" if len(ids) > 3 else "")
        findings.append(verdict(name, f"{zh}:{named}", f"{en}: {named}", next_zh, next_en))
    return findings


def inbox(
    waiting: int, oldest: timedelta, aside: int, named: Sequence[str]
) -> tuple[Finding, Finding]:
    """Partners' webhooks that are not applied, and those of the last days that were set aside."""
    late, lost = ok("webhooks late", "没有", "none"), ok("webhooks set aside", "没有", "none")
    if waiting and oldest > _LATE:
        zh, en = f"{waiting} 条未处理,最久 {oldest}", f"{waiting} wait, the oldest for {oldest}"
        step = "启动 gateway worker,看其日志", "start `gateway worker` and read its log"
        late = fail("webhooks late", zh, en, *step)
    if aside:
        names = ", ".join(named) + (" …" if aside > len(named) else "")
        zh, en = f"7 天内 {aside} 条未能处理:{names}", f"{aside} in 7 days: {names}"
        step = (
            "看 partner_events.outcome:failed 修好后把 applied_at 改为空;set aside 请合作方更正",
            "read partner_events.outcome: after mending a failed one set its applied_at to null;"
            " have the partner mend what is set aside",
        )
        lost = warn("webhooks set aside", zh, en, *step)
    return late, lost


def jobs(dead: Mapping[str, int], late: Mapping[str, timedelta]) -> list[Finding]:
    """Jobs given up, and jobs due for long."""
    findings = [ok("jobs dead", "没有", "none"), ok("jobs late", "没有", "none")]
    if dead:
        names = ", ".join(f"{name} × {count}" for name, count in sorted(dead.items()))
        step = "看 jobs.last_error,修好后改回 DUE", "read jobs.last_error, mend it, set them DUE"
        findings[0] = fail("jobs dead", f"已放弃:{names}", f"given up: {names}", *step)
    overdue = {name: by for name, by in late.items() if by > _LATE}
    if overdue:
        names = ", ".join(f"{name} {by}" for name, by in sorted(overdue.items()))
        step = "启动或增加 gateway worker", "start a `gateway worker`, or one more"
        findings[1] = warn("jobs late", f"逾期:{names}", f"late: {names}", *step)
    return findings


def seal(head: int, waiting: int, oldest: timedelta) -> Finding:
    """How far the chain is behind the journals."""
    zh = f"链头 {head},{waiting} 笔待封,最久 {oldest}"
    en = f"head {head}, {waiting} to seal, the oldest since {oldest}"
    if waiting and oldest > _LATE:
        step = "启动 gateway worker:由它封链", "start `gateway worker`: it seals"
        return fail("seal", zh, en, *step)
    return ok("seal", zh, en)


def worker(
    left: Sequence[Left], unsealed: tuple[int, timedelta], at: datetime, given: Settings
) -> Finding:
    """Whether somebody takes what is due.

    Args:
        left: Due redemptions and jobs that nobody holds.
        unsealed: How many rows wait for the sealer, and how long the oldest.
        at: System time.
    """
    leases = [each.leased_until for each in left if each.leased_until]
    begun = max(leases, default=at) - timedelta(seconds=given.lease_seconds)
    ago = timedelta(seconds=max(at - begun, timedelta()) // timedelta(seconds=1))
    zh, en = "无进行中的租约", "no lease is known"
    if leases:
        zh, en = f"最近一次取活在 {ago} 前", f"work was last taken {ago} ago"
    # A worker whose places are all taken, by a slow partner perhaps, leaves work but holds some.
    idle = not leases or max(leases) < at
    alone = [each for each in left if idle and each.waiting and each.oldest > _UNSEEN]
    counts = [each.waiting for each in alone]
    ages = [each.oldest for each in alone]
    if unsealed[1] > _UNSEEN:
        counts, ages = [*counts, unsealed[0]], [*ages, unsealed[1]]
    if not counts:
        return ok("worker", f"没有无人处理的到期工作;{zh}", f"nothing due is left alone; {en}")
    many, oldest = sum(counts), timedelta(seconds=max(ages) // timedelta(seconds=1))
    return fail(
        "worker",
        f"{many} 项到期工作无人处理,最久 {oldest};{zh}",
        f"nobody works on {many} that are due, the oldest for {oldest}; {en}",
        "启动 gateway worker,看其日志",
        "start `gateway worker` and read its log",
    )


def webhooks(found: Trouble, at: datetime) -> Finding:
    """Whether merchants get their events."""
    zh, en = [], []
    if found.dead:
        many, names = sum(found.dead.values()), ", ".join(sorted(found.dead))
        zh.append(f"已放弃 {many} 次投递:{names}")
        en.append(f"{many} deliveries were given up: {names}")
    if found.failing:
        age = timedelta(seconds=(at - (found.since or at)) // timedelta(seconds=1))
        zh.append(f"{found.failing} 次投递正在失败,最久 {age}")
        en.append(f"{found.failing} deliveries fail, the oldest for {age}")
    if found.gone:
        zh.append(f"端点以 410 停止:{', '.join(found.gone)}")
        en.append(f"stopped by 410: {', '.join(found.gone)}")
    if not zh:
        return ok("webhooks", "没有失败的投递", "no delivery fails")
    verdict = fail if found.dead else warn
    return verdict(
        "webhooks",
        ";".join(zh),
        "; ".join(en),
        "gateway events list --failed 查看原因;端点修好后 gateway events resend",
        "`gateway events list --failed` says why; once mended, `gateway events resend`",
    )


def window(late: timedelta | None) -> Finding:
    """Whether the open settlement window was cut in time."""
    if late is None or late <= _LATE:
        return ok("settlement window", "按时截止", "cut in time")
    return fail(
        "settlement window",
        f"窗口已逾截止时间 {late}",
        f"the open window is {late} past its cut",
        "启动 gateway worker:由它截止",
        "start `gateway worker`: it cuts",
    )


def no_vault_key(*, sealed: bool | None) -> Finding:
    """The vault key is not there.

    Args:
        sealed: Whether the database has keys that only it opens; None if that is not known.
    """
    if sealed:
        return fail(
            "vault key",
            "文件不存在,而数据库中有用它封存的密钥",
            "the file is not there, and the database has keys that it seals",
            "请先找回与此数据库配套的 vault.key 再启动",
            "bring back the vault key that belongs to this database before any start",
        )
    if sealed is None:
        return fail(
            "vault key",
            "文件不存在,数据库是否需要它未知",
            "the file is not there, and whether the database needs it is not known",
            "用过的数据库:找回 vault.key;新数据库:首次启动即生成",
            "of a used database: bring it back; for a new one the first start makes it",
        )
    step = "数据库尚无密钥,首次启动即生成", "the database has no keys yet: the first start makes it"
    return fail("vault key", "文件不存在", "the file is not there", *step)


def secret_file(name: str, mode: int | None, *, why: str = "") -> Finding:
    """A file that only the gateway's user may read.

    Args:
        mode: Its permission bits; None if it is not there, and need not be.
        why: What is wrong with its contents.
    """
    if mode is None:
        return ok(name, "没有此文件", "there is none")
    if mode & 0o077:
        step = f"chmod 600 {name}", f"chmod 600 {name}"
        return fail(name, f"权限为 {mode:04o}", f"its mode is {mode:04o}", *step)
    if why:
        return fail(name, f"无法读取:{why}", f"cannot be read: {why}", "找回备份", "bring it back")
    return ok(name, f"权限 {mode:04o}", f"mode {mode:04o}")


def disk(free: int, total: int) -> Finding:
    """Space where the gateway keeps its files. In bytes."""
    told = f"{free // MIB:,} MiB"
    step = "清理或扩容磁盘", "make room or add a disk"
    zh, en = f"剩余 {told}", f"{told} free"
    if free < 100 * MIB:
        return fail("disk", zh, en, *step)
    if free < GIB and free < total // 10:
        return warn("disk", zh, en, *step)
    return ok("disk", zh, en)


def partner(merchant: str, trouble: str | None) -> Finding:
    """Whether a partner's system answers us."""
    name = f"partner {merchant}"
    if trouble is None:
        return ok(name, "有应答", "answers")
    step = "gateway certify-partner 查看详情", "`gateway certify-partner` tells more"
    return fail(name, f"无应答:{trouble}", f"does not answer: {trouble}", *step)
