"""What the bench's command line understands beside words and paths."""

from __future__ import annotations

import click


class Names(click.ParamType[tuple[str, ...]]):
    """A list of known names with commas between them."""

    name = "NAME,..."

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        names = value if isinstance(value, tuple) else tuple(str(value).split(","))
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self.fail(f"{', '.join(unknown)}: there is {', '.join(self._known)}", param, ctx)
        return names


class Numbers(click.ParamType[tuple[int, ...]]):
    """A list of numbers with commas between them."""

    name = "N,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, the smallest first."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(sorted(int(one) for one in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers", param, ctx)
