"""A federation as large as asked: entities that neighbours extend, value types, inputs, enums."""

_LINK = (
    'extend schema @link(url: "https://specs.apollo.dev/federation/v2.3", '
    'import: ["@key", "@shareable", "@external", "@requires"])'
)


def large(subgraphs: int, types: int) -> list[tuple[str, str, str]]:
    """(name, URL, SDL) of that many subgraphs with that many types each, Query not counted."""
    return [
        (f"s{number:03}", f"http://s{number:03}.example", _sdl(number, subgraphs, types))
        for number in range(subgraphs)
    ]


def _sdl(own: int, subgraphs: int, types: int) -> str:
    before = (own - 1) % subgraphs
    lines = [_LINK, f"type Query {{ first{own}(id: ID!): Entity{own}x0 }}"]
    fifth = max(1, types // 5)
    for number in range(fifth):
        following = (number + 1) % fifth
        lines += [
            f'type Entity{own}x{number} @key(fields: "id") {{ id: ID! name: String size: Int '
            f"list(first: Int = 10, by: By{own}x{number}): [Value{number}!] "
            f"next: Entity{own}x{following} }}",
            f'type Entity{before}x{number} @key(fields: "id") {{ id: ID! size: Int @external '
            f'more{own}(in: In{own}x{number}): Int @requires(fields: "size") }}',
            f"type Value{number} @shareable {{ x: Int y: Float }}",
            f"enum By{own}x{number} {{ NAME SIZE }}",
            f'input In{own}x{number} {{ text: String = "x" by: By{own}x{number} }}',
        ]
    return "\n".join(lines)
