"""Connections, conformance reports and a stand-in's arithmetic: all without a partner."""

from xml.etree import ElementTree as Xml

import httpx2
import pytest

from gateway.ports import Capability, Claim
from partners import ADAPTERS, load, parse
from partners.conformance import Check, CheckResult, Status, report
from partners.simulators import books, config

KEY = {"kty": "EC", "crv": "P-256", "d": "canary", "x": "x", "y": "y", "kid": "1"}
ROW = {
    "merchant": "M05",
    "adapter": "cinemas",
    "base_url": "http://127.0.0.1:9105",
    "token_url": "http://127.0.0.1:9105/oauth/token",
    "auth": {"method": "private_key_jwt", "client_id": "gateway", "key": KEY},
    "audience": "http://127.0.0.1:9105",
    "webhook_secret": "whsec_canary",
}
SECRET = {"method": "client_secret_basic", "client_id": "gateway", "secret": "canary"}


@pytest.mark.parametrize("auth", [ROW["auth"], SECRET])
def test_a_connection_shows_no_secret(auth):
    connection = parse({**ROW, "auth": auth})

    assert connection.scope == "offers redeem statements notices"
    assert "canary" not in repr(connection)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter": "zoos"}, "adapter: one of car_shops, cinemas"),
        ({"auth": {**SECRET, "method": "password"}}, "auth.method"),
        ({"auth": {**SECRET, "secret": None}}, "auth.secret"),
        ({"auth": {"method": "private_key_jwt", "client_id": "g"}}, "auth.key"),
        ({"auth": {**SECRET, "password": "x"}}, "password"),
        ({"color": "red"}, "color"),
        ({"base_url": ...}, "base_url"),
        ({"auth": ...}, "auth"),
    ],
)
def test_a_connection_that_cannot_be_read_says_why(change, message):
    row = {name: value for name, value in {**ROW, **change}.items() if value is not ...}

    with pytest.raises(ValueError, match=message):
        parse(row)


async def test_every_adapter_is_loaded_by_its_name():
    rows = [{**ROW, "merchant": name, "adapter": name} for name in ADAPTERS]
    client = httpx2.AsyncClient(verify=False)  # It is never used.
    partners = load([parse(row) for row in rows], lambda _: client)
    await client.aclose()

    assert {name: partner.code for name, partner in partners.items()} == {n: n for n in ADAPTERS}
    assert all(Capability.ALL in partner.capabilities for partner in partners.values())


MERCHANT = config.Merchant("M07", "rides", rates={"M04": 9_000, "M11": 8_500})


@pytest.mark.parametrize(
    ("claims", "less", "expected"),
    [
        ([("M04", 12_000)], 2_250, [("M04", -2_025)]),
        ([("M04", 8_000), ("M07", 4_000)], 4_500, [("M04", -450)]),
        ([("M04", 8_000), ("M07", 4_000)], 4_000, []),
        ([("M04", 8_000), ("M11", 4_000)], 4_001, [("M11", -3_400), ("M04", -1)]),
        ([("M04", 8_000), ("M11", 4_000)], 12_000, [("M11", -3_400), ("M04", -7_200)]),
        ([("M04", 1_000)], -500, []),
    ],
)
def test_a_lower_fare_is_given_back_from_the_last_leg_first(claims, less, expected):
    legs = [Claim(*claim) for claim in claims]
    lines = books.given_back(MERCHANT, legs, less)

    assert [(line.issuer, line.amount_fen) for line in lines] == expected
    assert {line.type for line in lines} <= {"REVERSAL"}


def test_an_own_leg_makes_no_line_and_halves_round_up():
    lines = books.redeemed(MERCHANT, [Claim("M07", 500), Claim("M04", 1_005)])

    assert [(line.leg, line.issuer, line.amount_fen) for line in lines] == [(1, "M04", 905)]


def _results():
    async def nothing(_):
        return None

    def made(number, status, reason=""):
        check = Check(f"CF-C{number:02}", Capability.REDEEM, "检查", "check", "do it", nothing)
        return CheckResult(check, status, reason, 0.212, ("POST /v1/locks → 200",))

    return [
        made(1, Status.PASS),
        made(2, Status.WARN, "slow"),
        made(3, Status.FAIL, "11 of 20 got one of 10 places"),
        made(4, Status.SKIP, "not declared"),
    ]


def test_a_report_says_in_one_line_whether_a_partner_may_go_live():
    results = _results()

    expected = "4 checks · 1 PASS · 1 WARN · 1 FAIL · 1 SKIP · ready for live: NO (CF-C03)"
    assert report.headline(results) == expected
    assert report.headline(results[:2]) == "2 checks · 1 PASS · 1 WARN · ready for live: YES"
    assert not report.ready(results)
    assert report.ready(results[:2])


def test_a_failure_is_reported_with_its_calls_and_what_helps():
    printed = report.text(_results())
    suite = Xml.fromstring(report.junit("xinghui", _results()))  # noqa: S314  # Our own.

    assert " ✗ CF-C03    212 ms  检查\n   FAIL: 11 of 20" in printed
    assert "   POST /v1/locks → 200\n   建议: do it" in printed
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")
    assert [one["status"] for one in report.document(_results())["checks"]] == list(Status)
