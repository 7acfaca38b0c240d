"""A YAML document as it stands in its file: nodes with their places. Knows nothing of YAML's library or of tasks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

#: A step of the way to a value: a key, or a place in a list.
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class SourceText:
    """A file and its text."""

    file: str
    text: str

    @cached_property
    def _line_starts(self) -> list[int]:
        starts = [0]
        starts += [index + 1 for index, character in enumerate(self.text) if character == "\n"]
        return starts

    def line_and_column(self, index: int) -> tuple[int, int]:
        """Return where a character stands, both counted from 1."""
        low, high = 0, len(self._line_starts)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._line_starts[middle] <= index else (low, middle)
        return low + 1, index - self._line_starts[low] + 1


@dataclass(frozen=True, slots=True)
class Leaf:
    """A scalar."""

    text: str
    #: Written without quotes and not as a block.
    plain: bool
    #: Written as a folded or literal block.
    block: bool
    #: Span in the source, in characters.
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A sequence."""

    items: tuple[Node, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping, doubled keys included."""

    entries: tuple[tuple[Node, Node], ...]
    #: Written in braces.
    flow: bool
    start: int
    end: int


Node = Leaf | Listing | Table


def join_path(path: Path) -> str:
    """Return a path as people read it."""
    steps = [str(step) for step in path]
    return ".".join(step if len(step) <= 60 else step[:60] + "..." for step in steps)
