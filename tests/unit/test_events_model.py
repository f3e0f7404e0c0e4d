"""Rules of events: ids, types, addresses, the times of retries."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from gateway.events.model import (
    SCHEDULE,
    TYPES,
    Endpoint,
    EndpointState,
    Event,
    asked_wait,
    body,
    check_types,
    check_url,
    parse_id,
    pause,
)
from gateway.redemption.model import State
from gateway.values import InvalidInput

AT = datetime(2026, 11, 20, 1, tzinfo=UTC)
HELD = Event(
    number=9,
    object_id="red_0k3",
    seq=1,
    type="redemption.held",
    merchants=("M04", "M05"),
    member_id="mbr_1",
    data={"state": "HELD"},
    occurred_at=AT,
)


def endpoint(*types: str) -> Endpoint:
    return Endpoint("whk_1", "M05", "https://a.example", types, EndpointState.ACTIVE, "", None,
                    None, AT)  # fmt: skip


def test_an_id_leads_back_to_the_event():
    assert HELD.id == "evt_red_0k3_1"
    assert parse_id(HELD.id) == ("red_0k3", 1)
    assert parse_id("evt_XH-01_12") == ("XH-01", 12)


@pytest.mark.parametrize("text", ["", "evt_", "evt__1", "red_0k3_1", "evt_red", "evt_red_0k3_x"])
def test_what_is_no_id_is_refused(text):
    with pytest.raises(ValueError, match=re.escape(text) or None):
        parse_id(text)


def test_every_state_of_a_redemption_but_the_first_has_a_published_type():
    told = {f"redemption.{state.lower()}" for state in State if state is not State.HOLDING}
    assert told <= set(TYPES)


def test_the_body_is_the_same_bytes_each_time_and_names_no_member_of_ours():
    once, again = body(HELD, member="pm_1"), body(HELD, member="pm_1")
    assert once == again
    assert b"mbr_1" not in once
    assert once.decode() == (
        '{"data":{"member":"pm_1","state":"HELD"},"id":"evt_red_0k3_1","object":"red_0k3",'
        '"sequence":1,"timestamp":"2026-11-20T01:00:00+00:00","type":"redemption.held"}'
    )


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("90", 90),
        (" 90 ", 90),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("86400", 3_600),
        ("9" * 400, 3_600),
        ("Fri, 20 Nov 2026 01:02:00 GMT", 120),
        ("Fri, 20 Nov 2026 00:00:00 GMT", 0),
        ("Sat, 20 Nov 2027 01:00:00 GMT", 3_600),
        ("Fri, 32 Nov 2026 01:02:00 GMT", 0),
    ],
)
def test_a_receiver_may_ask_to_be_left_alone_for_an_hour(header, seconds):
    assert asked_wait(header, now=AT) == timedelta(seconds=seconds)


def test_pauses_follow_the_schedule_with_luck_and_end_after_three_days():
    first = [pause(1, luck=luck) for luck in (0.0, 0.5, 1.0)]
    assert first == [timedelta(seconds=4), timedelta(seconds=5), timedelta(seconds=6)]
    middle = [pause(tries, luck=0.5) for tries in range(1, len(SCHEDULE) + 1)]
    assert middle == [timedelta(seconds=seconds) for seconds in SCHEDULE]
    assert pause(len(SCHEDULE) + 1, luck=0.5) is None
    assert timedelta(days=2) < timedelta(seconds=sum(SCHEDULE)) <= timedelta(days=3)


def test_an_endpoint_gets_what_its_types_name():
    assert endpoint("redemption.*").wants("redemption.held")
    assert not endpoint("redemption.*").wants("redemptions.held")
    assert endpoint("settlement.leg.*").wants("settlement.leg.booked")
    assert not endpoint("settlement.leg.*").wants("settlement.booked")
    assert endpoint("redemption.held", "agreement.*").wants("agreement.signed")
    assert check_types(["redemption.*", "redemption.*", "agreement.signed"]) == (
        "agreement.signed",
        "redemption.*",
    )


@pytest.mark.parametrize("types", [[], ["*"], ["redemption"], ["redemption.*", "weather.*"], [""]])
def test_types_that_are_not_published_are_refused(types):
    with pytest.raises(InvalidInput):
        check_types(types)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.cn/in",
        "https://hooks.example.cn:8443/in?x=1",
        "https://8.8.8.8/in",
        "https://[2606:4700:4700::1111]/in",
    ],
)
def test_a_public_https_address_is_taken(url):
    assert check_url(url, sandbox=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.cn/in",
        "https://hooks.example.cn:22/in",
        "https://user@hooks.example.cn/in",
        "https://user:pass@hooks.example.cn/in",
        "https://hooks.example.cn/in#part",
        "https://10.0.0.1/in",
        "https://169.254.169.254/latest",
        "https://100.100.100.200/latest",
        "https://127.0.0.1/in",
        "https://[::1]/in",
        "https://[::ffff:10.0.0.1]/in",
        "https://2130706433/in",
        "https://0x7f.1/in",
        "https://127.1/in",
        "https://017700000001/in",
        "https://localhost/in",
        "https://db.localhost/in",
        "https://intranet/in",
        "https://例子.cn/in",
        "https:///in",
        "ftp://hooks.example.cn/in",
        "file:///etc/passwd",
        "https://hooks.example.cn:x/in",
        "https://[::1/in",
        "",
    ],
)
def test_any_other_address_is_refused_outside_the_sandbox(url):
    with pytest.raises(InvalidInput):
        check_url(url, sandbox=False)


def test_the_sandbox_takes_loopback_and_no_other_private_address():
    for url in ("http://127.0.0.1:9000/in", "http://localhost:9000", "http://[::1]:9000/"):
        assert check_url(url, sandbox=True) == url
    for url in ("http://10.0.0.1/in", "http://hooks.example.cn/in", "https://192.168.0.1/in"):
        with pytest.raises(InvalidInput):
            check_url(url, sandbox=True)
