"""A lineage as data: things with ids, and who was made from whom.

An id says what it names: `prediction:ID`, `event:TOPIC/PARTITION/OFFSET`, `window:RELATION/TENANT/ENTITY/END`, `sql:NAME@FINGERPRINT`,
`route:TENANT/ENDPOINT@EPOCH`, `model:NAME@VERSION`, `artifact:SHA256`, `snapshot:TABLE@ID`, `label:...`, `enrichment:ID`, `alert:ID`,
`subject:TENANT/ENTITY`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Node:
    """One thing; `facts` are what is known of it."""

    id: str
    kind: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Edge:
    """`to` is, or was made, `relation` `of`: a window `aggregates` an event, a prediction `scores` a window."""

    to: str
    relation: str
    of: str


@dataclass
class Graph:
    """Attributes:
    root: the id that was asked for.
    missing: what could not be told, and why.
    more: relation -> how many there are beyond those that are listed.
    """

    root: str
    direction: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    more: dict[str, int] = field(default_factory=dict)

    def add(self, kind: str, name: str, **facts: Any) -> str:
        """Add a thing, or facts to it; returns its id."""
        identity = f"{kind}:{name}"
        known = self.nodes[identity].facts if identity in self.nodes else {}
        self.nodes[identity] = Node(identity, kind, {**known, **{k: v for k, v in facts.items() if v is not None}})
        return identity

    def link(self, to: str, relation: str, of: str) -> None:
        edge = Edge(to, relation, of)
        if edge not in self.edges:
            self.edges.append(edge)

    def miss(self, what: str) -> None:
        if what not in self.missing:
            self.missing.append(what)

    def as_json(self) -> dict[str, Any]:
        return {
            "of": self.root,
            "direction": self.direction,
            "nodes": [asdict(node) for node in self.nodes.values()],
            "edges": [asdict(edge) for edge in self.edges],
            "missing": self.missing,
            "more": self.more,
        }

    def lines(self) -> Iterator[str]:
        """As a tree from the root; what is reached twice is named again and not unfolded."""
        seen: set[str] = set()

        def walk(identity: str, indent: str, relation: str) -> Iterator[str]:
            node = self.nodes[identity]
            facts = ", ".join(f"{name} {_short(value)}" for name, value in node.facts.items())
            yield f"{indent}{relation}{identity}" + (f"  ({facts})" if facts and identity not in seen else "")
            if identity in seen:
                return
            seen.add(identity)
            for edge in self.edges:
                if self.direction == "upstream" and edge.to == identity:
                    yield from walk(edge.of, f"{indent}  ", f"{edge.relation} ")
                elif self.direction == "downstream" and edge.of == identity:
                    yield from walk(edge.to, f"{indent}  ", f"{edge.relation} by ")

        yield from walk(self.root, "", "")
        for relation, count in self.more.items():
            yield f"... and {count} more {relation}"
        for what in self.missing:
            yield f"? {what}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
