"""Small supergraphs written by hand, and the plans on them kept as text.

In these files the join spec's names are short, as `@link` allows: `@in` is its `@type`, `@from`
its `@field`, `@as` its `@implements`, `@with` its `@unionMember`.

`python -m tests.unit.federation.small` writes the plans anew; read the difference.
"""

from collections.abc import Iterable
from pathlib import Path

from graphql import parse, validate

from gateway.federation.errors import NoPlan
from gateway.federation.normalise import normalise
from gateway.federation.plan import Plan
from gateway.federation.planner import Planner
from gateway.federation.printing import print_plan
from gateway.federation.supergraph import Supergraph

FOLDER = Path(__file__).parent / "plans"
RULE = "=" * 8

_NAMES = ", ".join(
    f'{{name: "{name}", as: "{local}"}}'
    for name, local in {
        "@type": "@in",
        "@field": "@from",
        "@implements": "@as",
        "@unionMember": "@with",
        "@graph": "@graph",
        "Graph": "Graphs",
    }.items()
)


def supergraph(graphs: Iterable[str], body: str, version: str = "v0.4") -> str:
    """The SDL of a supergraph of these subgraphs, with these types."""
    roots = [one for one in ("Query", "Mutation", "Subscription") if f"type {one} " in body]
    values = " ".join(
        f'{one.upper()} @graph(name: "{one}", url: "http://{one}.test")' for one in graphs
    )
    return f"""
schema
  @link(url: "https://specs.apollo.dev/link/v1.0")
  @link(url: "https://specs.apollo.dev/join/{version}", import: [{_NAMES}], for: EXECUTION)
  @link(url: "https://specs.apollo.dev/inaccessible/v0.2", for: SECURITY)
{{ {" ".join(f"{one.lower()}: {one}" for one in roots)} }}
enum Graphs {{ {values} }}
{body}
"""


def plan(source: Supergraph, query: str, labels: Iterable[str] = ()) -> Plan:
    """The plan of a query that is valid in the API schema."""
    document = parse(query)
    assert not validate(source.api_schema, document)
    operation = normalise(source.api_schema, document, None, {})
    return Planner(source).plan(operation, frozenset(labels))


def printed(source: Supergraph, query: str) -> str:
    """The plan as text, or why there is none."""
    try:
        return print_plan(plan(source, query))
    except NoPlan as none:
        return f"no plan: {none}\n"


def kept(text: str) -> tuple[Supergraph, list[str], list[str]]:
    """A file's supergraph, its queries and its plans."""
    head, *parts = text.split(f"{RULE}\n")
    graphs, _, body = head.partition("\n\n")[2].partition("\n")
    source = Supergraph.parse(supergraph(graphs.removeprefix("graphs: ").split(), body))
    queries = [one.partition("\n\n")[0] for one in parts]
    plans = [one.partition("\n\n")[2] for one in parts]
    return source, queries, plans


def written(text: str) -> str:
    """A file's text with the plans as they are now."""
    source, queries, _ = kept(text)
    head = text.partition(f"{RULE}\n")[0]
    parts = [f"{one.strip()}\n\n{printed(source, one)}" for one in queries]
    return "".join([head, *(f"{RULE}\n{one}" for one in parts)])


def files() -> list[Path]:
    """All kept plans."""
    return sorted(FOLDER.glob("*.txt"))


if __name__ == "__main__":
    for path in files():
        path.write_text(written(path.read_text("utf-8")), "utf-8")
