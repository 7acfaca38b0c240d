"""Parameter types of the bench's command line."""

from __future__ import annotations

import click


class Names(click.ParamType[tuple[str, ...]]):
    """A list of known names, separated by commas."""

    name = "NAME,..."

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        names = value if isinstance(value, tuple) else tuple(str(value).split(","))
        unknown = [name for name in names if name not in self._known]
        if unknown:
            self.fail(f"unknown: {', '.join(unknown)}; choose from {', '.join(self._known)}", param, ctx)
        return names


class Numbers(click.ParamType[tuple[int, ...]]):
    """A list of numbers, separated by commas."""

    name = "N,..."

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers, the smallest first."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(sorted(int(one) for one in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers", param, ctx)
