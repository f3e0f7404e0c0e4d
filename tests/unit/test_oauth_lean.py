"""The lean wire under httpx2: what it sends, and what becomes of every way to fail."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest

from gateway.federation.connections import Origin, Pool
from gateway.oauth.addresses import PublicOnly
from gateway.oauth.lean import LeanTransport

Talk = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Something that answers each request by `talk`; its address, and what each line said."""
    said: list[bytes] = []
    tasks: list[asyncio.Task[object]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                (size,) = (line for line in lines if line.startswith(b"content-length"))
                said.append(head + await reader.readexactly(int(size.split(b":")[1])))
                await talk(said[-1], writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", said
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


@contextlib.asynccontextmanager
async def client(**more: float) -> AsyncIterator[httpx2.AsyncClient]:
    tls = ssl.create_default_context()
    made = LeanTransport(tls=tls, connections=2, connect_timeout=2.0, answer_bytes=1_000)
    async with httpx2.AsyncClient(transport=made, timeout=more.get("timeout", 5.0)) as http:
        yield http


def answering(*answers: bytes) -> Talk:
    """Gives these answers in turn, the last one for ever; an empty one ends the connection."""
    left = list(answers)

    async def talk(_said: bytes, writer: asyncio.StreamWriter) -> None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        writer.write(answer)
        if not answer:
            writer.close()

    return talk


async def test_a_request_goes_out_as_it_is_and_its_answer_comes_back() -> None:
    async with server(answering(OK)) as (url, said), client() as http:
        answer = await http.post(f"{url}/a?b=c d", content=b"{1}", headers={"x-one": "two"})
        again = await http.post(f"{url}/a", content=b"")
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"] == "application/json"
    assert again.status_code == 200
    head, _, body = said[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /a?b=c%20d HTTP/1.1"
    named = dict(line.lower().split(b": ", 1) for line in lines[1:])
    assert (named[b"x-one"], named[b"content-length"], body) == (b"two", b"3", b"{1}")
    assert named[b"host"] == url.removeprefix("http://").encode()
    assert len(named) == len(lines) - 1, "no header twice"


async def test_a_name_is_kept_for_host_and_tls_while_the_checked_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[Origin] = []

    async def take(_pool: Pool, origin: Origin, _until: float, *, fresh: bool = False) -> None:
        taken.append(origin)
        raise httpx2.ConnectError("seen enough")

    async def resolver(_host: str, _port: int) -> list[str]:
        return ["93.184.215.14"]

    monkeypatch.setattr(Pool, "take", take)
    tls = ssl.create_default_context()
    made = LeanTransport(tls=tls, connections=2, connect_timeout=2.0, answer_bytes=1_000)
    pinned = PublicOnly(made, resolver=resolver)
    async with httpx2.AsyncClient(transport=pinned) as http:
        with pytest.raises(httpx2.ConnectError, match="seen enough"):
            await http.post("https://shop.example/graphql", content=b"{}")
    assert taken == [Origin("93.184.215.14", 443, True, "shop.example")]


async def test_tls_is_spoken_under_the_name_and_by_the_given_authorities(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tls, seen = ssl.create_default_context(), []

    async def connect(_factory: object, host: str, port: int, **secure: object) -> None:
        seen.append((host, port, secure))
        raise OSError

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "create_connection", connect)
    pool = Pool(most=1, connect_timeout=1.0, idle_timeout=1.0, tls=tls)
    with pytest.raises(Exception, match="no connection"):
        await pool.take(Origin("93.184.215.14", 443, True, "shop.example"), loop.time() + 1)
    named = {"ssl": tls, "server_hostname": "shop.example"}
    assert seen == [("93.184.215.14", 443, named)]


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    async with server(answering(OK, b"", OK)) as (url, said), client() as http:
        await http.post(url, content=b"1")
        assert (await http.post(url, content=b"2")).status_code == 200
    assert [each[-1:] for each in said] == [b"1", b"2", b"2"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", httpx2.RemoteProtocolError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", httpx2.ReadTimeout),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", httpx2.RemoteProtocolError),
        (b"SSH-2.0-x\r\n\r\n", httpx2.RemoteProtocolError),
    ],
    ids=["closed", "half", "too large", "no HTTP"],
)
async def test_every_failure_is_one_of_httpx(answer: bytes, error: type[Exception]) -> None:
    seconds = 0.5 if error is httpx2.ReadTimeout else 20.0
    async with server(answering(answer)) as (url, _), client(timeout=seconds) as http:
        with pytest.raises(error):
            await http.post(url, content=b"{}")


async def test_what_was_not_sent_is_told_apart() -> None:
    async with server(answering(OK)) as (url, _):
        pass
    async with client() as http:
        with pytest.raises(httpx2.ConnectError):
            await http.post(url, content=b"{}")
        with pytest.raises(httpx2.TransportError):
            await http.post("ftp://127.0.0.1/", content=b"{}")


async def test_chunks_are_read_and_who_is_busy_may_say_when() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
    busy = b"HTTP/1.1 429 Busy\r\nretry-after: 3\r\ncontent-length: 0\r\n\r\n"
    async with server(answering(chunked, busy)) as (url, _), client() as http:
        assert (await http.post(url, content=b"{}")).json() == {}
        answer = await http.post(url, content=b"{}")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("bad", [b"a\r\nx-two: 1", b"a\nb", b"a\0"])
async def test_a_header_is_one_line(bad: bytes) -> None:
    async with server(answering(OK)) as (url, said), client() as http:
        with pytest.raises(httpx2.HTTPError):
            await http.post(url, content=b"{}", headers=[(b"x-one", bad)])
    assert said == []


async def test_who_gives_up_leaves_no_half_read_connection() -> None:
    slow = asyncio.Event()

    async def talk(said: bytes, writer: asyncio.StreamWriter) -> None:
        if said.endswith(b"1"):
            await slow.wait()
        writer.write(OK)

    async with server(talk) as (url, _), client() as http:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await http.post(url, content=b"1")
        slow.set()
        assert (await http.post(url, content=b"2")).json() == {}
