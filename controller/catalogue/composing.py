"""From YAML's events to a tree with places, within limits. The events come from `loader`, the only one who knows YAML.

YAML's own composer would follow a nest of any depth into the recursion limit, and unfold aliases without end;
`reading` unfolds them within a limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from echelon.controller.catalogue.tree import Leaf, Listing, Node, Table

MAX_DEPTH = 50
MAX_NODES = 50_000

#: Tags that say no more than the form of a value does.
_TEXT_TAG = "tag:yaml.org,2002:str"
_HARMLESS_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
)


@dataclass(frozen=True, slots=True)
class YamlEvent:
    """One step of a YAML stream."""

    kind: Literal["scalar", "alias", "list", "table", "end"]
    start: int
    end: int
    text: str = ""
    #: Without quotes, and not a block.
    plain: bool = False
    block: bool = False
    flow: bool = False
    anchor: str | None = None
    tag: str | None = None


class DocumentRefused(Exception):
    """The document goes beyond a limit or uses what is not allowed."""

    def __init__(self, message: str, index: int, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message, self.index, self.remedy = message, index, remedy


class Composer:
    """Makes the trees of one file; the limits count for all its documents together."""

    def __init__(self, events: Iterator[YamlEvent]) -> None:
        self._events = events
        self._anchors: dict[str, Node] = {}
        #: How many values there have been so far.
        self.nodes = 0

    def compose_document(self) -> Node | None:
        """Return the next document, None behind the last; raise Refused at the first thing that is not allowed."""
        self._anchors.clear()
        event = next(self._events, None)
        return None if event is None else self._compose_node(event, 1)

    def _compose_node(self, event: YamlEvent, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise DocumentRefused(f"nested more than {MAX_DEPTH} deep", event.start)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise DocumentRefused(f"more than {MAX_NODES} values", event.start, "split the file")
        if event.kind == "alias":
            return self._follow_alias(event)
        if event.tag is not None and event.tag not in _HARMLESS_TAGS:
            raise DocumentRefused(f"the tag {event.tag[:60]!r} is not allowed", event.start, "leave it out")
        node = self._compose_value(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _compose_value(self, event: YamlEvent, depth: int) -> Node:
        if event.kind == "list":
            return self._compose_listing(event, depth)
        if event.kind == "table":
            return self._compose_table(event, depth)
        plain = event.plain and event.tag != _TEXT_TAG
        return Leaf(event.text, plain=plain, block=event.block, start=event.start, end=event.end)

    def _follow_alias(self, event: YamlEvent) -> Node:
        name = event.anchor or ""
        if name not in self._anchors:
            raise DocumentRefused(
                f"the alias *{name} names no anchor before it",
                event.start,
                f'write &{name} where the value stands, or quote the text: "*{name}"',
            )
        return self._anchors[name]

    def _compose_listing(self, event: YamlEvent, depth: int) -> Listing:
        items: list[Node] = []
        while (inner := next(self._events)).kind != "end":
            items.append(self._compose_node(inner, depth + 1))
        return Listing(tuple(items), event.start, inner.end)

    def _compose_table(self, event: YamlEvent, depth: int) -> Table:
        entries: list[tuple[Node, Node]] = []
        while (inner := next(self._events)).kind != "end":
            key = self._compose_node(inner, depth + 1)
            entries.append((key, self._compose_node(next(self._events), depth + 1)))
        return Table(tuple(entries), event.flow, event.start, inner.end)
