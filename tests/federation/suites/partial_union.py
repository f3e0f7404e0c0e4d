"""Members of a union differ by subgraph; a fragment on an unknown member is simply empty."""

from tests.federation.harness.cases import V2, Case, Federation
from tests.federation.harness.world import World

NEWS = (
    V2
    + """
type Query { latest: [Item!]! }
union Item = Story | Photo
type Story { headline: String }
type Photo { caption: String }
"""
)
LIVE = (
    V2
    + """
type Query { now: Item }
union Item = Photo | Stream
type Photo @shareable { caption: String }
type Stream { viewers: Int }
"""
)


def world() -> World:
    """A story, a photo and a stream."""
    w = World()
    story = w.add("Story", headline="Opened")
    photo = w.add("Photo", caption="The door")
    w.query |= {"latest": [story, photo], "now": w.add("Stream", viewers=12)}
    return w


ITEM = "__typename ... on Story { headline } ... on Photo { caption } ... on Stream { viewers }"
FEDERATION = Federation(
    "partial-union",
    {"news": NEWS.replace("type Photo {", "type Photo @shareable {"), "live": LIVE},
    world,
    (
        Case("all members asked of one", f"{{ latest {{ {ITEM} }} }}"),
        Case(
            "all members asked of both",
            f"{{ latest {{ {ITEM} }} now {{ {ITEM} }} }}",
            {
                "latest": [
                    {"__typename": "Story", "headline": "Opened"},
                    {"__typename": "Photo", "caption": "The door"},
                ],
                "now": {"__typename": "Stream", "viewers": 12},
            },
            requests=2,
        ),
        Case(
            "only a member it cannot return",
            "{ latest { ... on Stream { viewers } } }",
            {"latest": [{}, {}]},
        ),
    ),
)
