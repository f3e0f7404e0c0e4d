"""Secrets and persons appear nowhere: a journey with failures on every surface, then a search.

Each secret is a canary of its own, so that a leak says which. What was handed over on purpose
(the answer that carries a code or a token) is not searched; all else is: log lines of every
library at DEBUG with their tracebacks, error answers, metrics, spans, health, the doctor, the
command line, what objects say of themselves, and every text in the database: a secret may be there
sealed or as a digest, a person only where persons are kept.
"""

import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from typer.testing import CliRunner

from gateway import jobs, telemetry
from gateway.cli import app as command_line
from gateway.db import Database, metadata, system_now
from gateway.events.store import deliveries
from gateway.measured import MeasuredDatabase, watched
from gateway.oauth import jose
from gateway.oauth.client import partner_client
from gateway.oauth.scopes import Role
from gateway.oauth.service import MEMBER_APP
from gateway.operations import doctor
from gateway.points import service as points
from gateway.redemption.hosted import Partners
from gateway.runtime import conceal
from gateway.settings import Settings
from gateway.telemetry import metrics, tracing
from gateway.telemetry.logs import uncaught
from gateway.worker import Worker
from partners import Auth, Connection, adapter
from tests.integration.api.test_merchant_journeys import NOODLES
from tests.integration.conftest import MORNING, Coalition, StillClock
from tests.support.gateway import Gateway, running
from tests.support.oauth import PASSWORD, Browser, World
from tests.support.receiver import Receiver, receiving

PERSON, PHONE, CARD = "林晚秋canary", "13912345678", "6222021234567890123"
CLIENT_SECRET, METRICS_TOKEN = "canary-client-secret-5e1f", "canary-metrics-token-77aa0c"
WEBHOOK_SECRET = "whsec_" + "Y2FuYXJ5LXdlYmhvb2stc2VjcmV0"
DATABASE_PASSWORD = "canary@database/pass"
TICKET = {"offer": "XH-01", "legs": [{"programme": "P-LL"}]}
BUY = (
    "mutation($i: RedeemOfferInput!) { redeemOffer(input: $i)"
    " { redemption { id state } errors { code message context } } }"
)


@dataclass
class Told:
    """What was said, by where."""

    logs: io.StringIO
    spans: InMemorySpanExporter
    outputs: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def say(self, where: str, what: object) -> None:
        self.outputs[where] = self.outputs.get(where, "") + f"\n{what}"

    def refused(self, answer: httpx2.Response, where: str) -> None:
        """The error part of an answer."""
        body = answer.json() if "json" in answer.headers.get("content-type", "") else answer.text
        if isinstance(body, dict) and "data" in body:
            found = [body.get("errors")] + [
                payload.get("errors")
                for payload in (body["data"] or {}).values()
                if isinstance(payload, dict)
            ]
            self.say(where, json.dumps(found, ensure_ascii=False))
        elif answer.status_code >= 400:
            self.say(where, body)

    def leaks(self) -> list[str]:
        self.say("logs", self.logs.getvalue())
        self.say("spans", " ".join(span.to_json() for span in self.spans.get_finished_spans()))
        self.say("metrics", metrics.text().decode())
        return [
            f"{name} in {where}: …{text[max(0, text.index(secret) - 300) : text.index(secret)]}"
            for name, secret in self.secrets.items()
            for where, text in self.outputs.items()
            if secret in text and where not in KEPT.get(name, ())
        ]


@pytest.fixture
def told() -> Iterator[Told]:
    """Everything that is logged and traced, at the finest level."""
    stream, exporter = io.StringIO(), InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.start(provider)
    telemetry.configure("DEBUG", stream=stream)
    yield Told(stream, exporter)
    tracing.stop()
    telemetry.configure("INFO")


TWICE = "redemption.committed"  # is refused each time

KEPT = {  # What is a person's own, by the columns that are for it.
    "name": {"members.name_zh"},
    "bank account": {"merchants.settlement_account"},
}


async def texts(database: Database) -> dict[str, str]:
    """Everything in the database that is a text or has texts in it, by table and column."""
    found = dict[str, str]()
    async with database.reading() as tx:
        for table in metadata.sorted_tables:
            for row in await tx.execute(sa.select(table)):
                for name, value in row._mapping.items():
                    if value is not None and not isinstance(value, bool | int | float | datetime):
                        said = value if isinstance(value, str) else _plain(value)
                        where = f"{table.name}.{name}"
                        found[where] = f"{found.get(where, '')}\n{said}"
    return found


def _plain(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=repr)


def _connection(key: Any) -> Connection:
    return Connection(
        merchant="M05",
        adapter="cinemas",
        base_url="http://127.0.0.1:9",
        token_url="http://127.0.0.1:9/token",
        auth=Auth("private_key_jwt", "gateway", key=key.as_dict(private=True)),
        audience="http://127.0.0.1:9",
        webhook_secret=WEBHOOK_SECRET,
    )


class Rude(httpx2.AsyncBaseTransport):
    """A partner that says back all it was told, and fails in as many ways as it can."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.calls = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = await request.aread()
        if "token" in request.url.path:
            self.told.secrets["partner token"] = "canary-partner-token-31c4"
            body = {"access_token": "canary-partner-token-31c4", "token_type": "Bearer"}
            return httpx2.Response(200, json=body | {"expires_in": 600})
        self.calls += 1
        echo = {"error": str(dict(request.headers)), "sent": sent.decode(), "phone": PHONE}
        if self.calls % 3 == 0:
            raise httpx2.ReadError(f"lost {request.headers['authorization']}", request=request)
        return httpx2.Response((500, 403, 200)[self.calls % 3], json=echo)


@pytest.fixture
async def gateway(seeded_url: str, tmp_path: Path, told: Told) -> AsyncIterator[Gateway]:
    """A gateway whose secrets are canaries; M05's system is rude."""
    database = MeasuredDatabase(seeded_url)
    coalition = Coalition(database, StillClock(MORNING), Settings())
    key = jose.new_key()
    connection = _connection(key)
    client = partner_client(
        connection,
        clock=coalition.clock.now,
        sandbox=True,
        timeout=2,
        concurrency=2,
        transport=Rude(told),
    )
    basic = replace(
        connection,
        merchant="M06",
        auth=Auth("client_secret_basic", "gateway", secret=CLIENT_SECRET),
    )
    connections = {"M05": connection, "M06": basic}
    made: dict[str, Any] = {**coalition.partners, "M06": adapter("cinemas")("M06", client)}
    async with running(
        database,
        tmp_path,
        clock=coalition.clock,
        partners=watched(made),
        connections=connections,
        metrics_token=METRICS_TOKEN,
        log_level="DEBUG",
    ) as gateway:
        gateway.runtime.clients.append(client)
        conceal(gateway.runtime.settings, gateway.runtime.connections.values())
        told.secrets |= {
            "our private key at a partner": key.as_dict(private=True)["d"],
            "webhook secret": WEBHOOK_SECRET,
            "metrics token": METRICS_TOKEN,
            "vault key": (tmp_path / "vault.key").read_text().strip(),
            "phone": PHONE,
            "bank account": CARD,
            "name": PERSON,
            "pseudonym key": repr(gateway.runtime.secret),
            "password": PASSWORD,
        }
        yield gateway
        await client.aclose()
    await database.close()


async def _ask(gateway: Gateway, told: Told, token: str | None, query: str, **given: Any) -> Any:
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = await gateway.http.post(
        f"{gateway.base}/graphql", json={"query": query, "variables": given}, headers=headers
    )
    told.refused(answer, "GraphQL errors")
    return answer.json().get("data")


async def _people(gateway: Gateway, told: Told) -> None:
    """Log in, wrongly and rightly; use a code twice; refresh; revoke."""
    world = World(gateway.runtime.oauth, gateway.http)
    await world.person("lin-canary")
    browser = Browser(world, MEMBER_APP)
    told.refused(await browser.log_in("lin-canary", "wrong-canary-password"), "OAuth pages")
    told.secrets["wrong password"] = "wrong-canary-password"
    back = await browser.agree("lin-canary")
    told.secrets |= {"authorization code": back["code"], "PKCE verifier": browser.verifier}
    first = (await browser.exchange(back["code"])).json()
    told.secrets |= {"access token": first["access_token"], "refresh token": first["refresh_token"]}
    told.refused(await browser.exchange(back["code"]), "OAuth errors")
    told.refused(await browser.refresh(first["refresh_token"]), "OAuth errors")
    basic = await gateway.http.post(
        f"{gateway.base}/oauth/token",
        data={"grant_type": "client_credentials"},
        auth=("sandbox-M05", CLIENT_SECRET),
    )
    told.secrets["client secret"] = CLIENT_SECRET
    told.refused(basic, "OAuth errors")
    for opened in world.browsers:
        await opened.aclose()


async def _merchant(gateway: Gateway, told: Told) -> None:
    """Join with a code, wrongly and rightly; name a member by phone; guess at a till."""
    operator = await gateway.staff(Role.OPERATOR, "usr_operator")
    account = {"bankCode": "000000000000", "number": CARD}
    joining = NOODLES | {"settlementAccount": account}
    made = await operator.did("registerMerchant", "merchant { id } onboardingCode", **joining)
    code = told.secrets["onboarding code"] = made["onboardingCode"]
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "short"}
    join = (
        "mutation($i: RegisterClientKeyInput!)"
        " { registerClientKey(input: $i) { errors { code message context } } }"
    )
    for number in range(2):
        asked = {"onboardingCode": code, "jwk": jwk, "idempotencyKey": f"j{number}"}
        await _ask(gateway, told, None, join, i=asked)
    till = await gateway.merchant("M05")
    earn = (
        "mutation($i: RecordEarnEventInput!)"
        " { recordEarnEvent(input: $i) { earning { points } errors { code message } } }"
    )
    bought = {"order": "o1", "cashFen": 100, "consumed": True, "idempotencyKey": "e1"}
    await _ask(gateway, told, till.token, earn, i=bought | {"partnerMemberRef": "C-404"})
    event = json.dumps({"id": "e1", "phone": PHONE, "name": PERSON, "secret": CLIENT_SECRET})
    for headers in (
        {},
        {"webhook-id": "e1", "webhook-timestamp": "1", "webhook-signature": "v1,x"},
    ):
        answer = await gateway.http.post(
            f"{gateway.base}/events/M05", content=event, headers=headers
        )
        told.refused(answer, "webhook errors")


async def _bugs(gateway: Gateway, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody expects, with the worst texts: bugs, broken rows, a rude partner."""
    member = await gateway.member("mbr_demo_01")
    assert member.token
    told.secrets["member token"] = member.token
    for number in range(4):
        buy = TICKET | {"offer": "XH-01", "idempotencyKey": f"b{number}"}
        await _ask(gateway, told, member.token, BUY, i=buy)
    rude = gateway.runtime.partners["M06"]
    for _ in range(6):
        try:
            await rude.status("red_1:hold:1")
        except Exception as error:
            logging.getLogger("gateway.test").exception("rude")
            told.say("exceptions", repr(error))
            uncaught(type(error), error, error.__traceback__)

    async def broken(tx: Any, *_given: Any, **_named: Any) -> Any:
        named = "UPDATE member_registrations SET partner_member_ref = :name"
        await tx.execute(sa.text(named), {"name": PERSON})  # One name is not for all.

    async def crash(*_given: Any, **_named: Any) -> Any:
        raise RuntimeError(
            f"Bearer {member.token} {CLIENT_SECRET}= {WEBHOOK_SECRET} {METRICS_TOKEN}"
        )

    for act in (broken, crash):
        with monkeypatch.context() as patched:
            patched.setattr(points, "wallets", act)
            await _ask(gateway, told, member.token, "{ me { wallets { available } } }")
    await _ask(gateway, told, f"{member.token}x", "{ me { id } }")
    await _ask(gateway, told, member.token, "{ nothing }", secret=CLIENT_SECRET)


async def _hook(gateway: Gateway, told: Told, receiver: Receiver) -> None:
    """An endpoint's secret: told once, asked for again, and once changed for a new one."""
    cinema = await gateway.merchant("M05")
    asked = {"url": receiver.url, "types": ["redemption.*"], "idempotencyKey": "hook"}
    made = await cinema.did("registerWebhook", "webhook { id } secret", **asked)
    again = await cinema.did("registerWebhook", "webhook { id } secret", **asked)
    told.say("GraphQL replay", again)
    told.secrets["endpoint's first secret"] = made["secret"]
    hook = made["webhook"]["id"]
    asked |= {"webhook": hook, "rotateSecret": True, "idempotencyKey": "hook-2"}
    changed = await cinema.did("registerWebhook", "secret", **asked)
    told.secrets["endpoint's secret"] = changed["secret"]
    receiver.secrets += [made["secret"], changed["secret"]]
    receiver.content = f"What is {changed['secret']}?"  # It says back what it signs with.
    receiver.answers = lambda event, _attempt: 500 if event["type"] == TWICE else 200


async def _held(gateway: Gateway) -> str:
    """A purchase that waits to be confirmed."""
    member = await gateway.member("mbr_demo_01")
    quote = await member.did("requestQuote", "quote { id }", **TICKET)
    held = await member.did("holdRedemption", "redemption { id }", quote=quote["quote"]["id"])
    return str(held["redemption"]["id"])


async def _work(gateway: Gateway, told: Told, held: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker: a purchase in doubt and jobs at the rude partner, a bug, and what it sends."""
    runtime = gateway.runtime
    member, rude = await gateway.member("mbr_demo_01"), runtime.partners["M06"]
    assert runtime.webhooks
    assert isinstance(runtime.partners, Partners)
    monkeypatch.setitem(runtime.partners._adapters, "M05", rude)
    confirm = "mutation($i: ConfirmRedemptionInput!) { confirmRedemption(input: $i)"
    confirm += " { errors { code message context } } }"
    asked = {"redemption": held, "idempotencyKey": "rude"}
    await _ask(gateway, told, member.token, confirm, i=asked)

    async def crash(_payload: Any) -> None:
        raise RuntimeError(f"Bearer {member.token} {CLIENT_SECRET} {WEBHOOK_SECRET}")

    given = (runtime.partners, runtime.clock, runtime.settings, runtime.redemptions)
    worker = Worker(runtime.database, *given, vault=runtime.oauth.vault, webhooks=runtime.webhooks)
    worker._jobs["compensate"] = crash
    async with runtime.database.transaction() as tx:
        for name in ("let_go", "compensate"):
            payload = {"redemption": held, "op_key": f"{held}:hold:1"}
            await jobs.enqueue(tx, name=name, key="canary", payload=payload)
    for _ in range(4):
        assert isinstance(runtime.clock, StillClock)
        runtime.clock.forward(minutes=2)
        async with runtime.database.transaction() as tx:
            await tx.execute(jobs.jobs.update().values(due_at=system_now(), leased_until=None))
            await tx.execute(deliveries.update().values(due_at=system_now()))
        await worker.turn()
        await runtime.webhooks.turn()


async def _stored(gateway: Gateway, told: Told) -> None:
    """What the database says, and that it was asked where something was to be found."""
    found = await texts(gateway.runtime.database)
    for where, said in found.items():
        told.say(where, said)
    assert "RuntimeError" in found["jobs.last_error"]
    assert "What is" in found["webhook_deliveries.answer"]
    for where in ("partner_calls.detail", "events.data"):
        assert where in found, sorted(found)


async def _operators(gateway: Gateway, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    """Health, metrics, the doctor, the command line, and what objects say of themselves."""
    for path in ("livez", "readyz", "metrics"):
        told.say(path, (await gateway.http.get(f"{gateway.base}/{path}")).text)
    runtime = gateway.runtime
    url = f"postgresql+asyncpg://gateway:{DATABASE_PASSWORD}@127.0.0.1:1/gateway"
    told.secrets["database password"] = DATABASE_PASSWORD
    settings = Settings(home=runtime.settings.home, database_url=url, metrics_token=METRICS_TOKEN)
    async for finding in doctor.examine(settings):
        told.say("doctor", finding)
    for thing in (runtime, settings, runtime.settings, runtime.connections, runtime.oauth.vault):
        told.say("repr", repr(thing))
        told.say("str", str(thing))
    for client in runtime.clients:
        told.say("repr", f"{client!r} {vars(client)!r} {vars(client.auth)!r}")
    monkeypatch.setenv("GATEWAY_HOME", str(runtime.settings.home))
    monkeypatch.setenv("GATEWAY_DATABASE_URL", url)
    monkeypatch.setenv("GATEWAY_METRICS_TOKEN", METRICS_TOKEN)
    monkeypatch.setenv("GATEWAY_WORKER_PORT", "0")
    for command in (
        ["settings"],
        ["settings", "--json"],
        ["errors"],
        ["version"],
        ["docs", "--check"],
    ):
        result = CliRunner().invoke(command_line, command)
        told.say(f"gateway {command[0]}", f"{result.output} {result.exception!r}")
    monkeypatch.setenv("GATEWAY_METRICS_TOKENS", METRICS_TOKEN)
    told.say("gateway usage", CliRunner().invoke(command_line, ["settings"]).output)


async def test_no_secret_and_no_person_is_told(
    gateway: Gateway, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _people(gateway, told)
    await _merchant(gateway, told)
    held = await _held(gateway)
    await _bugs(gateway, told, monkeypatch)
    async with receiving() as receiver:
        await _hook(gateway, told, receiver)
        await _work(gateway, told, held, monkeypatch)
        assert len(receiver.calls) > len(receiver.taken) > 0
    await _stored(gateway, told)
    await _operators(gateway, told, monkeypatch)
    assert len(told.secrets) >= 18
    assert "Traceback" in told.logs.getvalue()  # It looks where something is.
    assert "rude" in told.logs.getvalue()
    assert told.leaks() == []


def test_the_search_finds_what_is_there(told: Told) -> None:
    told.secrets["phone"] = PHONE
    logging.getLogger("gateway.test").info("called %s", PHONE)
    (leak,) = told.leaks()
    assert leak.startswith("phone in logs")
