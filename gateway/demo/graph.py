"""The scene of a merchant's own subgraph: published, answered beside ours, down, rolled back."""

import json
from typing import Any

from gateway.demo.world import World
from partners.simulators.cinema_graph import SDL

STORY = (
    "影院把自己的 GraphQL 子图并入联盟:一次查询答两家;它停机,只有它的字段为空。"
    " The cinema adds its own subgraph: one query, both answer; down, it costs its own fields."
)
MEMBER = "mbr_demo_01"
_WANTED = "subgraph { version live } report { changes }"
_LOOK = (
    '{ offer(id: "XH-01") { nameZh cashFen xinghui_posterText xinghui_halls { name screen } }'
    ' other: offer(id: "CW-01") { nameZh xinghui_posterText } }'
)


class Graph:
    """M05 publishes a subgraph; a member's app asks for its fields."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.show = world.show

    async def play(self) -> None:
        """All of it."""
        self.show.phase("商户子图", "a merchant's subgraph")
        self.show.say(f"  [italic]{STORY}[/]")
        await self._refused()
        await self._published()
        await self._down()
        self.show.step()

    async def _refused(self) -> None:
        """A subgraph that takes a name of the coalition's is refused, with every rule it breaks."""
        taken = SDL.replace(
            "xinghui_halls: [Xinghui_Hall!]\n}\n\ntype X", "parity: Int!\n}\n\ntype X"
        )
        payload = await self.world.merchant("M05").do(
            "publishSubgraph", _WANTED, sdl=taken, url=self._url(), check=True
        )
        (error,) = payload["errors"]
        found = {error["code"]: [each["code"] for each in error["context"]["errors"]]}
        self.show.same("占用平台字段 ours again", {"COMPOSITION_FAILED": ["OUR_FIELD"]}, found)

    async def _published(self) -> None:
        made = await self.world.merchant("M05").did(
            "publishSubgraph", _WANTED, sdl=SDL, url=self._url()
        )
        expected: dict[str, Any] = {"subgraph": {"version": 1, "live": True}}
        expected |= {"report": {"changes": []}}
        found = {name: made[name] for name in expected}
        self.show.same("发布 published", expected, found)
        answer = await self.world.until(self._look, lambda one: "errors" not in one, "the graph")
        halls = [{"name": "1", "screen": "2D"}]
        ticket = {"nameZh": "2D电影票", "cashFen": 4500, "xinghui_posterText": "今晚就看:2D电影票"}
        other = {"nameZh": self.world.offers["CW-01"], "xinghui_posterText": None}
        expected = {"offer": ticket | {"xinghui_halls": halls}, "other": other}
        self.show.same("一次查询 one query", expected, answer["data"])

    async def _down(self) -> None:
        await self.world.control.stop("M05")
        try:
            answer = await self._look()
        finally:
            await self.world.control.start("M05")
        found = {
            "name": answer["data"]["offer"]["nameZh"],
            "theirs": answer["data"]["offer"]["xinghui_posterText"],
            "codes": sorted({error["extensions"]["code"] for error in answer["errors"]}),
        }
        expected = {"name": "2D电影票", "theirs": None, "codes": ["PARTNER_UNAVAILABLE"]}
        self.show.same("影院停机 the cinema is down", expected, found)

    async def _look(self) -> dict[str, Any]:
        return await self.world.member(MEMBER).post(_LOOK, {})

    def _url(self) -> str:
        ports = json.loads(self.world.made.ports_file.read_text(encoding="utf-8"))
        return f"{ports['merchants']['M05']}/subgraph"
