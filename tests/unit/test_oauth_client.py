"""The gateway as its partners' client: one token for many callers, deadline, breaker, places."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import pytest

from gateway.oauth import jose
from gateway.oauth.breaker import Breaker
from gateway.oauth.client import ClientCredentials, PartnerLine, partner_client
from gateway.ports import past_held

NOON = datetime(2026, 11, 20, 4, tzinfo=UTC)
KEY = jose.new_key()
BUSY = 503


@dataclass
class Partner:
    """A partner's token endpoint and API, with a clock of its own."""

    life: int | None = 600
    seconds: float = 1_000.0
    token_calls: int = 0
    calls: int = 0
    jtis: list[str] = field(default_factory=list)
    good: set[str] = field(default_factory=set)
    failing: list[int] = field(default_factory=list)  # statuses of the next token answers
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/token":
            return await self._token(request)
        self.calls += 1
        await asyncio.sleep(0)  # All of a gather's calls are under way before one is answered.
        token = request.headers["authorization"].removeprefix("Bearer ")
        return httpx2.Response(200 if token in self.good else 401, json={"saw": token})

    async def _token(self, request: httpx2.Request) -> httpx2.Response:
        self.token_calls += 1
        self.asked.set()
        await self.gate.wait()
        fields = dict(parse_qsl((await request.aread()).decode()))
        _, claims = jose.decode(fields["client_assertion"], KEY)
        assert (claims["iss"], claims["aud"]) == ("gateway", "https://issuer.test")
        self.jtis.append(claims["jti"])
        if self.failing:
            return httpx2.Response(self.failing.pop(0), text="no")
        token = f"token-{self.token_calls}"
        self.good = {token}
        asyncio.get_running_loop().call_later(0.01, self.answered.set)
        body: dict[str, Any] = {"access_token": token, "token_type": "bearer"}
        return httpx2.Response(200, json=body | ({"expires_in": self.life} if self.life else {}))


@pytest.fixture
async def partner() -> Partner:
    return Partner()


@pytest.fixture
async def http(partner: Partner) -> AsyncIterator[httpx2.AsyncClient]:
    line = PartnerLine(httpx2.MockTransport(partner), clock=None, timeout=5, concurrency=200)
    auth = ClientCredentials(
        token_url="https://partner.test/token",
        client_id="gateway",
        audience="https://issuer.test",
        scope="redeem",
        key=KEY.as_dict(private=True),
        send=line.handle_async_request,
        monotonic=lambda: partner.seconds,
    )
    async with httpx2.AsyncClient(
        transport=line, auth=auth, base_url="https://partner.test"
    ) as client:
        yield client
    await auth.aclose()


async def _many(http: httpx2.AsyncClient, count: int = 100) -> list[int]:
    answers = await asyncio.gather(*(http.get("/x") for _ in range(count)))
    return [answer.status_code for answer in answers]


async def test_a_hundred_cold_callers_ask_for_one_token(
    partner: Partner, http: httpx2.AsyncClient
) -> None:
    assert await _many(http) == [200] * 100
    assert partner.token_calls == 1


async def test_a_revoked_token_is_replaced_once_and_each_call_repeated_once(
    partner: Partner, http: httpx2.AsyncClient
) -> None:
    await _many(http, 1)
    partner.good = set()
    assert await _many(http) == [200] * 100
    assert partner.token_calls == 2
    assert partner.calls == 1 + 200


async def test_a_partner_that_lets_nobody_in_is_asked_twice_not_for_ever(
    partner: Partner, http: httpx2.AsyncClient
) -> None:
    async def never(request: httpx2.Request) -> httpx2.Response:
        answer = await Partner.__call__(partner, request)
        partner.good = set()
        return answer

    http._transport._inner = httpx2.MockTransport(never)
    assert (await http.get("/x")).status_code == 401
    assert (partner.calls, partner.token_calls) == (2, 2)


async def test_a_token_past_four_fifths_of_its_life_is_used_and_renewed_behind(
    partner: Partner, http: httpx2.AsyncClient
) -> None:
    await _many(http, 1)
    partner.seconds += 500
    partner.gate.clear()
    partner.answered.clear()
    assert await _many(http, 20) == [200] * 20  # No caller waits for the closed gate.
    partner.gate.set()
    await partner.answered.wait()
    assert (await http.get("/x")).json() == {"saw": "token-2"}
    assert partner.token_calls == 2


async def test_an_expired_token_is_waited_for(partner: Partner, http: httpx2.AsyncClient) -> None:
    await _many(http, 1)
    partner.seconds += 600
    assert await _many(http) == [200] * 100
    assert partner.token_calls == 2


@pytest.mark.parametrize(("life", "calls"), [(60, 1), (None, 1), (1, 1)])
async def test_a_short_life_or_none_named_is_no_reason_to_ask_each_time(
    partner: Partner, http: httpx2.AsyncClient, life: int | None, calls: int
) -> None:
    partner.life = life
    for _ in range(5):
        await http.get("/x")
    assert partner.token_calls == calls
    partner.seconds += 301
    await http.get("/x")
    assert partner.token_calls == calls + 1


async def test_a_caller_that_gives_up_leaves_the_others_their_token(
    partner: Partner, http: httpx2.AsyncClient
) -> None:
    partner.gate.clear()
    leader = asyncio.create_task(http.get("/x"))
    followers = [asyncio.create_task(http.get("/x")) for _ in range(10)]
    await partner.asked.wait()
    leader.cancel()
    partner.gate.set()
    answers = await asyncio.gather(*followers)
    assert {answer.status_code for answer in answers} == {200}
    assert partner.token_calls == 1
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_each_assertion_has_a_jti_of_its_own_also_when_tried_again(
    partner: Partner, http: httpx2.AsyncClient
) -> None:
    partner.failing = [BUSY]
    assert (await http.get("/x")).status_code == 200
    assert len(set(partner.jtis)) == len(partner.jtis) == 2


@pytest.mark.parametrize("failing", [[BUSY, BUSY], [401, 401]])
async def test_without_a_token_nothing_is_sent(
    partner: Partner, http: httpx2.AsyncClient, failing: list[int]
) -> None:
    partner.failing = failing
    with pytest.raises(httpx2.ConnectError, match="no token"):
        await http.post("/x", json={})
    assert partner.calls == 0


async def test_a_secret_is_sent_by_basic_alone() -> None:
    seen: list[httpx2.Request] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"access_token": "t", "token_type": "Bearer"})

    client = partner_client(
        _Connection(),
        clock=lambda: NOON,
        sandbox=True,
        timeout=5,
        concurrency=2,
        transport=httpx2.MockTransport(answer),
    )
    async with client:
        await client.get("/offers")
    token, call = seen
    assert token.headers["authorization"] == "Basic Z2F0ZXdheTphJTJCYg=="
    assert b"secret" not in token.content
    assert "a+b" not in repr(client) + repr(client._auth)
    assert call.headers["authorization"] == "Bearer t"
    assert call.headers["sandbox-now"] == "2026-11-20T04:00:00+00:00"


@dataclass
class _Auth:
    client_id: str = "gateway"
    key: Any = None
    secret: str | None = "a+b"


@dataclass
class _Connection:
    base_url: str = "http://127.0.0.1:1"
    token_url: str = "http://127.0.0.1:1/token"
    auth: _Auth = field(default_factory=_Auth)
    audience: str = "http://127.0.0.1:1"
    scope: str = "redeem"


def _line(
    answer: Callable[[httpx2.Request], Any], **given: Any
) -> tuple[PartnerLine, httpx2.AsyncClient]:
    settings = {"clock": None, "timeout": 5, "concurrency": 10} | given
    line = PartnerLine(httpx2.MockTransport(answer), **settings)
    return line, httpx2.AsyncClient(transport=line, base_url="https://partner.test")


async def test_an_open_breaker_stops_new_business_but_no_saga_past_its_hold() -> None:
    seconds, status = [0.0], [BUSY]

    async def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(status[0], content=b"{}")

    breaker = Breaker(now=lambda: seconds[0])
    line, http = _line(answer, breaker=breaker)
    async with http:
        for _ in range(10):
            assert (await http.get("/quote")).status_code == BUSY
        with pytest.raises(httpx2.ConnectError, match="breaker"):
            await http.get("/quote")
        mark = past_held.set(True)
        assert (await http.get("/status")).status_code == BUSY
        past_held.reset(mark)

        seconds[0] += 6  # Half open: the one probe fails, and the rest wait again.
        assert (await http.get("/quote")).status_code == BUSY
        with pytest.raises(httpx2.ConnectError):
            await http.get("/quote")
        seconds[0] += 6
        status[0] = 200
        assert (await http.get("/quote")).status_code == 200
        assert not line.breaker.open
        assert (await http.get("/quote")).status_code == 200


async def test_a_throttled_call_goes_out_again_while_its_deadline_lasts() -> None:
    waits, seen = ["0", "0"], []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(await request.aread())
        if waits:
            return httpx2.Response(429, headers={"retry-after": waits.pop(0)})
        return httpx2.Response(200, json={})

    _, http = _line(answer)
    async with http:
        assert (await http.post("https://partner.test/hold", json={"opKey": "k"})).is_success
        assert seen == [b'{"opKey":"k"}'] * 3
        waits[:] = ["3600"]
        assert (await http.post("https://partner.test/hold")).status_code == 429
        waits[:] = ["Fri, 20 Nov 2026 04:00:00 GMT"]
        assert (await http.post("https://partner.test/hold")).status_code == 429
    assert len(seen) == 5


def test_the_breaker_counts_a_minute_and_a_share() -> None:
    seconds = 0.0

    def now() -> float:
        return seconds

    breaker = Breaker(now=now)
    for _ in range(9):
        breaker.record(ok=False)
    seconds += 60
    breaker.record(ok=False)
    assert not breaker.open  # Nine are a minute old.

    breaker = Breaker(now=now)
    for index in range(20):
        assert not breaker.open
        breaker.record(ok=index % 3 != 1)
    assert breaker.open  # 30 % of at least 20.

    seconds += 6
    assert [breaker.admit(), breaker.admit()] == [True, False]
    breaker.abandon()
    assert breaker.admit()


async def test_a_slow_answer_is_unknown_and_a_full_line_is_not_sent() -> None:
    async def slow(_request: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    _, http = _line(slow, timeout=0.05, concurrency=1)
    async with http:
        first = asyncio.create_task(http.get("/x"))
        await asyncio.sleep(0)
        with pytest.raises(httpx2.ReadTimeout):
            await first
        first = asyncio.create_task(http.get("/x", timeout=0.05))
        await asyncio.sleep(0.001)
        with pytest.raises(httpx2.PoolTimeout):
            await http.get("/x", timeout=0.01)
        with pytest.raises(httpx2.ReadTimeout):
            await first


async def test_a_body_that_drips_ends_at_the_deadline_and_one_without_end_is_cut() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b"{"
            await asyncio.sleep(0.01)

    async def flood() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1_000_000

    for body, error in ((drip, httpx2.ReadTimeout), (flood, httpx2.RemoteProtocolError)):

        async def answer(_request: httpx2.Request, body: Any = body) -> httpx2.Response:
            return httpx2.Response(200, content=body())

        _, http = _line(answer, timeout=0.3)
        async with http:
            with pytest.raises(error):
                await http.get("/x")


async def test_compression_nobody_asked_for_is_refused() -> None:
    async def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"Content-Encoding": "gzip"}, content=b"")

    _, http = _line(answer)
    async with http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get("/x")


async def test_no_more_calls_than_places() -> None:
    under_way, most = 0, 0

    async def answer(_request: httpx2.Request) -> httpx2.Response:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0)
        under_way -= 1
        return httpx2.Response(200, content=json.dumps({}).encode())

    _, http = _line(answer, concurrency=4)
    async with http:
        await asyncio.gather(*(http.get("/x") for _ in range(40)))
    assert most == 4
