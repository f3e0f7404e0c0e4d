"""The scene of two merchants' subgraphs at once, one of them perhaps not in Python."""

import json
from typing import Any

from gateway.demo.clients import MemberApp
from gateway.demo.day import Day
from gateway.demo.hotel import MERCHANT, HotelGraph
from gateway.demo.world import World
from partners.simulators.hotel_graph.desk import SDL

STORY = (
    "酒店的子图是另一种语言写的:会员一次查询,平台、酒店、影院各答各的;酒店慢或出错,只有它的字段为空。"
    " The hotel's subgraph is a service of its own: one query of a member's, answered by the"
    " coalition, the hotel and the cinema; slow or failing, it costs its own fields."
)
MEMBER, REDEMPTION = "mbr_demo_19", "red_D19"
_WANTED = "subgraph { version live } report { changes }"
_LOOK = """query Evening($stay: ID!) {
  offer(id: "YQ-01") {
    nameZh cashFen yunqi_depositFen
    yunqi_rooms(beds: KING) { __typename code house { nameZh } ... on Yunqi_Standard { desk } }
    yunqi_evening { nameZh cashFen xinghui_posterText xinghui_halls { name } }
    merchant { yunqi_welcome }
  }
  redemption(id: $stay) { offer { id } yunqi_stay { door offers { nameZh } } }
}"""
_TICKET = {"nameZh": "2D电影票", "cashFen": 4500, "xinghui_posterText": "今晚就看:2D电影票"}
_ROOM = {"__typename": "Yunqi_Standard", "code": "S1", "house": {"nameZh": "云栖外滩店"}}
_ANSWER: dict[str, Any] = {
    "offer": {
        "nameZh": "500元标准房免费住一晚",
        "cashFen": 50_000,
        "yunqi_depositFen": 10_000,
        "yunqi_rooms": [_ROOM | {"desk": False}],
        "yunqi_evening": [_TICKET | {"xinghui_halls": [{"name": "1"}]}],
        "merchant": {"yunqi_welcome": "云栖酒店集团欢迎您"},
    },
    "redemption": {
        "offer": {"id": "YQ-01"},
        "yunqi_stay": {
            "door": "801",
            "offers": [{"nameZh": "双人早餐"}, {"nameZh": "延迟退房至16点"}],
        },
    },
}
_LOST: dict[str, Any] = {
    "offer": {
        "nameZh": "500元标准房免费住一晚",
        "cashFen": 50_000,
        "yunqi_depositFen": None,
        "yunqi_rooms": None,
        "yunqi_evening": None,
        "merchant": {"yunqi_welcome": None},
    },
    "redemption": {"offer": {"id": "YQ-01"}, "yunqi_stay": None},
}


class Joined:
    """M03 publishes its subgraph beside M05's; a member asks for both; M03 unpublishes.

    Args:
        day: The day that was played: the member stayed at the hotel.
    """

    def __init__(self, world: World, hotel: HotelGraph, day: Day) -> None:
        self.world = world
        self.hotel = hotel
        self.show = world.show
        self.stay = day.ids[REDEMPTION]

    async def play(self) -> None:
        """All of it."""
        self.show.phase("两家子图", "two merchants' subgraphs")
        self.show.say(f"  [italic]{STORY}[/]")
        why = f" ({self.hotel.why_python})" if self.hotel.why_python else ""
        self.show.say(f"  酒店子图运行于 the hotel's runs on {self.hotel.runs}{why}")
        await self._published()
        await self._known()
        await self._failing()
        await self._unpublished()
        self.show.step()

    async def _published(self) -> None:
        made = await self.world.merchant(MERCHANT).did(
            "publishSubgraph", _WANTED, sdl=SDL, url=f"{self.hotel.url}/subgraph"
        )
        expected = {"subgraph": {"version": 1, "live": True}, "report": {"changes": []}}
        self.show.fields("发布 published", expected, made)
        answer = await self.world.until(self._look, lambda one: "errors" not in one, "the graph")
        for part, wanted in _ANSWER.items():
            self.show.same(f"三家同答 {part}", wanted, answer["data"][part])

    async def _known(self) -> None:
        """What the hotel was told of the member: the name it has there, and no token."""
        bookings = (await self.world.control.state(MERCHANT))["bookings"]
        (guest,) = {row["member_ref"] for row in bookings if row["gateway_ref"] == self.stay}
        calls = await self.hotel.seen()
        token = self._member().headers()["authorization"].removeprefix("Bearer ")
        found = {
            "clients": sorted({call["client"] for call in calls}),
            "our name for the member": sorted(
                {call["headers"].get("coalition-member") == guest for call in calls}
            ),
            "the member's id or token": [
                call for call in calls if token in str(call) or MEMBER in json.dumps(call)
            ],
        }
        expected = {"clients": ["coalition-gateway"], "our name for the member": [True]}
        self.show.same("令牌与化名 token and pseudonym", expected | {
            "the member's id or token": []
        }, found)  # fmt: skip

    async def _failing(self) -> None:
        for title, fault, value in (
            ("慢 slow", "latency", 30),
            ("出错 failing", "error_5xx", None),
        ):
            await self.hotel.fault(fault, value=value)
            try:
                answer = await self._look()
            finally:
                await self.hotel.clear()
            found = {"data": answer["data"], "codes": _codes(answer)}
            self.show.same(f"酒店{title}", {"data": _LOST, "codes": ["PARTNER_UNAVAILABLE"]}, found)
        answer = await self.world.until(self._look, lambda one: "errors" not in one, "the hotel")
        self.show.same("恢复 back", _ANSWER, answer["data"])

    async def _unpublished(self) -> None:
        """Not while an app uses it; then it goes, and the other merchant's stays."""
        merchant = self.world.merchant(MERCHANT)

        async def refused() -> list[str]:
            payload = await merchant.do("unpublishSubgraph", _WANTED, check=True)
            (error,) = payload["errors"]
            return [each["name"] for each in error["context"]["operations"]]

        names = await self.world.until(refused, lambda found: found != [], "the saved operation")
        self.show.same("撤下前先看谁在用 who uses it", ["Evening"], names)
        made = await merchant.did("unpublishSubgraph", _WANTED, allowBreaking=True)
        self.show.same("撤下 unpublished", {"version": 1, "live": False}, made["subgraph"])
        await self.world.until(self._look, lambda one: not one.get("data"), "the graph without it")
        text = '{ offer(id: "XH-01") { xinghui_posterText } }'
        answer = await self._member().query(text)
        expected = {"offer": {"xinghui_posterText": "今晚就看:2D电影票"}}
        self.show.same("影院仍在 the cinema's stays", expected, answer)

    async def _look(self) -> dict[str, Any]:
        return await self._member().post(_LOOK, {"stay": self.stay})

    def _member(self) -> MemberApp:
        return self.world.member(MEMBER)


def _codes(answer: dict[str, Any]) -> list[str]:
    return sorted({error["extensions"]["code"] for error in answer.get("errors", ())})
