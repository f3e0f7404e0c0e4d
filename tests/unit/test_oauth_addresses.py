"""Where the gateway may connect to: public addresses over https, and nowhere else."""

import httpx2
import pytest

from gateway.oauth.addresses import LoopbackToo, PublicOnly, public


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "0.0.0.0",  # noqa: S104 - not bound to
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:8.8.8.8",
        "::10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "2001:0:a00:1::1",
    ],
)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111"])
def test_an_outer_address_is_public(address: str) -> None:
    assert public(address)


def _http(*answers: list[str]) -> tuple[httpx2.AsyncClient, list[httpx2.Request]]:
    seen: list[httpx2.Request] = []
    left = list(answers)

    async def resolver(host: str, port: int) -> list[str]:
        return left.pop(0)

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200)

    transport = PublicOnly(httpx2.MockTransport(answer), resolver=resolver)
    return httpx2.AsyncClient(transport=transport), seen


async def test_the_connection_goes_to_the_checked_address_under_its_name() -> None:
    http, seen = _http(["93.184.215.14"], ["127.0.0.1"])
    async with http:
        await http.get("https://partner.example/offers")
        assert seen[0].url.host == "93.184.215.14"
        assert seen[0].headers["host"] == "partner.example"
        assert seen[0].extensions["sni_hostname"] == "partner.example"
        with pytest.raises(httpx2.ConnectError):  # Another answer the second time: rebinding.
            await http.get("https://partner.example/offers")
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://partner.example/", ["8.8.8.8"]),
        ("https://partner.example:22/", ["8.8.8.8"]),
        ("https://user:pass@partner.example/", ["8.8.8.8"]),
        ("https://partner.example/", ["8.8.8.8", "10.0.0.1"]),
        ("https://partner.example/", []),
        ("https://2130706433/", ["127.0.0.1"]),
    ],
)
async def test_anything_else_is_not_connected_to(url: str, found: list[str]) -> None:
    http, seen = _http(found)
    async with http:
        with pytest.raises(httpx2.ConnectError):
            await http.get(url, auth=None)
    assert not seen


@pytest.mark.parametrize(
    ("url", "answered"),
    [
        ("http://127.0.0.1:9000/", True),
        ("http://localhost:9000/", True),
        ("http://[::1]:9000/", True),
        ("https://hooks.example.cn/", True),
        ("http://hooks.example.cn/", False),
        ("https://inner.example.cn/", False),
        ("http://10.0.0.1/", False),
        ("http://169.254.169.254/", False),
        ("http://localhost.example.cn/", False),
    ],
)
async def test_the_sandbox_reaches_loopback_and_else_public_addresses_only(
    url: str, answered: bool
) -> None:
    async def resolver(host: str, port: int) -> list[str]:
        return ["8.8.8.8"] if host == "hooks.example.cn" else ["10.0.0.1"]

    inner = httpx2.MockTransport(lambda request: httpx2.Response(204))
    async with httpx2.AsyncClient(transport=LoopbackToo(inner, resolver=resolver)) as http:
        if answered:
            assert (await http.get(url)).status_code == 204
        else:
            with pytest.raises(httpx2.ConnectError):
                await http.get(url)
