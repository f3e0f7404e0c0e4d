"""Federations made up by chance: one graph of entities, cut into subgraphs that need each other.

A whole graph is invented first: entities with one or two keys, values, an interface, a union. Then
every field gets a subgraph that owns it, some more than one; some require a field of another
subgraph, some provide one. Subgraphs hold stubs of what they point to.
"""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from gateway.federation.composition import CompositionFailed
from tests.federation.harness.cases import V2, Federation
from tests.federation.harness.world import Record, World

_KEYS = ("id", "code", "id kind", "place { town row }")


@dataclass
class Entity:
    """An entity of the whole graph: its keys, fields by type, and who has what."""

    name: str
    keys: list[str]
    fields: dict[str, str] = field(default_factory=dict)
    graphs: dict[str, list[str]] = field(default_factory=dict)  # graph -> its keys
    owners: dict[str, list[str]] = field(default_factory=dict)  # field -> graphs
    requires: dict[str, str] = field(default_factory=dict)  # field -> field of another graph


@dataclass
class Invention:
    """The whole graph while it is invented."""

    rng: random.Random
    graphs: list[str]
    entities: dict[str, Entity] = field(default_factory=dict)
    implementing: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    roots: dict[str, tuple[str, str]] = field(default_factory=dict)  # field -> type, graph
    provides: dict[tuple[str, str], str] = field(default_factory=dict)
    stubs: dict[str, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )


def invented(seed: int) -> Federation:
    """The federation of a seed; it may turn out not to compose."""
    rng = random.Random(f"invention {seed}")
    made = Invention(rng, [f"g{n}" for n in range(rng.randint(2, 4))])
    _entities(made)
    _fields(made)
    _roots(made)
    _provide(made)
    sdls = {graph: _sdl(made, graph) for graph in made.graphs}
    return Federation(f"invented-{seed}", sdls, lambda: _world(made, seed), ())


def composed(seeds: range) -> list[Federation]:
    """Inventions that compose: all do, or cannot be reached in all parts."""
    found = []
    for seed in seeds:
        federation = invented(seed)
        try:
            assert federation.supergraph
        except CompositionFailed as failed:
            assert {error.code for error in failed.errors} == {"SATISFIABILITY_ERROR"}
        else:
            found.append(federation)
    return found


def _entities(made: Invention) -> None:
    rng = made.rng
    for number in range(rng.randint(2, 5)):
        keys = rng.sample(_KEYS, rng.choice((1, 1, 2)))
        if not any(key.startswith("id") for key in keys):
            keys[0] = "id"
        entity = made.entities[f"T{number}"] = Entity(f"T{number}", keys)
        for graph in rng.sample(made.graphs, rng.randint(1, len(made.graphs))):
            entity.graphs[graph] = rng.sample(keys, rng.randint(1, len(keys)))
    plain = [name for name, one in made.entities.items() if "id" in one.keys]
    made.implementing = [name for name in plain if rng.random() < 0.6]
    made.members = [name for name in made.entities if rng.random() < 0.6]


def _fields(made: Invention) -> None:
    rng = made.rng
    targets = [*made.entities, "V"]
    targets += ["I"] if made.implementing else []
    targets += ["U"] if made.members else []
    for entity in made.entities.values():
        graphs = sorted(entity.graphs)
        for number in range(rng.randint(1, 4)):
            name = f"s{number}"
            entity.fields[name] = rng.choice(("String", "String", "Int", "[String!]", "String!"))
            entity.owners[name] = rng.sample(graphs, rng.choice((1, 1, min(2, len(graphs)))))
        for number in range(rng.randint(0, 3)):
            name, target = f"r{number}", rng.choice(targets)
            shape = rng.choice(("{}", "{}", "[{}]", "[{}!]", "[[{}]]"))
            entity.fields[name] = shape.format(target)
            entity.owners[name] = [rng.choice(graphs)]
        for name in list(entity.fields):
            others = [
                other
                for other, kind in entity.fields.items()
                if other[0] == "s"
                and other not in entity.requires
                and not set(entity.owners[other]) & set(entity.owners[name])
            ]
            if name[0] == "s" and len(entity.owners[name]) == 1 and others and rng.random() < 0.35:
                required = rng.choice(others)
                if not any(name == used for used in entity.requires.values()):
                    entity.requires[name] = required


def _roots(made: Invention) -> None:
    for name in made.entities:
        graph = made.rng.choice(made.graphs)
        made.roots[name.lower()] = (name, graph)
        if made.rng.random() < 0.6:
            shape = made.rng.choice(("[{}!]!", "[{}]"))
            made.roots[f"all{name}"] = (shape.format(name), made.rng.choice(made.graphs))
    if made.implementing:
        made.roots["things"] = ("[I]", made.rng.choice(made.graphs))
    if made.members:
        made.roots["found"] = ("[U!]", made.rng.choice(made.graphs))


def _provide(made: Invention) -> None:
    """Fields that point to an entity provide a scalar of it now and then."""
    for entity in made.entities.values():
        for name, kind in entity.fields.items():
            target = made.entities.get(kind.strip("[]!"))
            if name[0] != "r" or target is None or made.rng.random() > 0.4:
                continue
            graph = entity.owners[name][0]
            free = [
                other
                for other in target.owners
                if other[0] == "s"
                and graph not in target.owners[other]
                and other not in target.requires
            ]
            if free:
                made.provides[entity.name, name] = made.rng.choice(free)


def _sdl(made: Invention, graph: str) -> str:
    needed = _needed(made, graph)
    lines = [_type(made, made.entities[name], graph) for name in sorted(needed & {*made.entities})]
    roots = [f"{name}: {kind}" for name, (kind, where) in made.roots.items() if where == graph]
    if roots:
        lines.append(f"type Query {{ {' '.join(roots)} }}")
    if "I" in needed or any(name in needed for name in made.implementing):
        lines.append("interface I { id: ID! }")
    if "U" in needed:
        lines.append(f"union U = {' | '.join(made.members)}")
    if "V" in needed:
        lines.append("type V @shareable { a: String b: Int }")
    if any("place" in line for line in lines):
        lines.append("type Place @shareable { town: String! row: Int! }")
    return V2 + "\n".join(lines)


def _needed(made: Invention, graph: str) -> set[str]:
    """The types a subgraph must know."""
    needed = {name for name, entity in made.entities.items() if graph in entity.graphs}
    kinds = [kind for kind, where in made.roots.values() if where == graph]
    for entity in made.entities.values():
        kinds += [k for name, k in entity.fields.items() if graph in entity.owners[name]]
    needed |= {kind.strip("[]!") for kind in kinds} & {*made.entities, "I", "U", "V"}
    needed |= set(made.implementing) if "I" in needed else set()
    return needed | (set(made.members) if "U" in needed else set())


def _type(made: Invention, entity: Entity, graph: str) -> str:
    keys = entity.graphs.get(graph) or [entity.keys[0]]
    if entity.name in made.implementing and "id" not in keys:
        keys = [*keys, "id"]
    applied = " ".join(f'@key(fields: "{key}")' for key in keys)
    implements = " implements I" if entity.name in made.implementing else ""
    lines = [_KEY_FIELDS[part] for key in keys for part in key.split() if part in _KEY_FIELDS]
    for name, kind in entity.fields.items():
        owners = entity.owners[name]
        if graph in owners:
            lines.append(f"{name}: {kind}{_applied(made, entity, name)}")
        elif _external(made, entity, graph, name):
            lines.append(f"{name}: {kind} @external")
    return f"type {entity.name}{implements} {applied} {{ {' '.join(dict.fromkeys(lines))} }}"


_KEY_FIELDS = {
    "id": "id: ID!",
    "code": "code: String!",
    "kind": "kind: Int!",
    "place": "place: Place! @shareable",
}


def _applied(made: Invention, entity: Entity, name: str) -> str:
    text = ""
    required = entity.requires.get(name)
    if required is not None:
        text += f' @requires(fields: "{required}")'
    if len(entity.owners[name]) > 1 or name in _provided(made, entity):
        text += " @shareable"
    provided = made.provides.get((entity.name, name))
    return text + (f' @provides(fields: "{provided}")' if provided else "")


def _provided(made: Invention, entity: Entity) -> set[str]:
    """Fields of an entity that some subgraph provides."""
    return {
        name
        for (holder, at), name in made.provides.items()
        if made.entities[holder].fields[at].strip("[]!") == entity.name
    }


def _external(made: Invention, entity: Entity, graph: str, name: str) -> bool:
    """Whether a subgraph names a field only to require or to provide it."""
    requiring = any(
        required == name and graph in entity.owners[by] for by, required in entity.requires.items()
    )
    return requiring or any(
        provided == name
        and made.entities[holder].fields[at].strip("[]!") == entity.name
        and graph in made.entities[holder].owners[at]
        for (holder, at), provided in made.provides.items()
    )


def _world(made: Invention, seed: int) -> World:
    """Two to four objects of each entity, pointing at each other."""
    rng = random.Random(f"data {seed}")
    world = World()
    for entity in made.entities.values():
        for number in range(rng.randint(2, 4)):
            world.add(
                entity.name,
                id=f"{entity.name}-{number}",
                code=f"c{number}",
                kind=number,
                place=world.add("Place", town=f"town {number}", row=number),
            )
    for entity in made.entities.values():
        for record in world.of(entity.name):
            for name, kind in entity.fields.items():
                record[name] = _value(made, world, rng, kind, f"{record['id']}.{name}")
    for name, (kind, _) in made.roots.items():
        world.query[name] = _value(made, world, rng, kind, name)
    return world


def _value(made: Invention, world: World, rng: random.Random, kind: str, label: str) -> Any:
    if kind.endswith("!"):
        found = None
        while found is None:
            found = _value(made, world, rng, kind[:-1], label)
        return found
    if rng.random() < 0.15:
        return None
    if kind.startswith("["):
        items = range(rng.randint(0, 3))
        return [_value(made, world, rng, kind[1:-1], f"{label}/{n}") for n in items]
    if kind in {"String", "Int"}:
        return label if kind == "String" else rng.randint(0, 99)
    if kind == "V":
        return world.add("V", a=label, b=rng.choice((None, 1)))
    names = {"I": made.implementing, "U": made.members}.get(kind, [kind])
    objects: list[Record] = world.of(*names)
    return rng.choice(objects)
