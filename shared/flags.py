"""Turns declared settings into the flags of a command."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from echelon.shared.settings import Setting

Command = Callable[..., None]

_config_option = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), help="Config file (TOML).  [ECHELON_CONFIG]"
)


def with_flags(
    settings: Sequence[Setting], resolve: Callable[[dict[str, Any], Path | None], object]
) -> Callable[[Command], Command]:
    """Add the flags of these settings, and --config; the command gets what `resolve` makes of them as `resolved`.

    `resolve` takes what was given on the command line, and the path of the config file if one was given.
    """
    flags = [(one, name) for one in settings for name in one.flag_names]

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def call(config_file: Path | None, **values: Any) -> None:
            given = {name: value for _, name in flags if (value := values.pop(name)) not in (None, ())}
            function(resolved=resolve(given, config_file), **values)

        decorated: Command = _config_option(call)
        for one, name in reversed(flags):
            decorated = _make_option(one, name)(decorated)
        return decorated

    return decorate


def _make_option(one: Setting, name: str) -> Callable[[Command], Command]:
    variable = f"  [{one.variable}]" if one.has_variable else ""
    if name != one.name:
        words = f"File that holds the value of {one.name}: {one.meaning}  [{one.variable}_FILE]"
        return click.option(f"--{one.name}-file", name, metavar="FILE", help=words)
    words = f"{one.meaning}{variable}"
    if one.is_switch:
        return click.option(one.flag or "", name, is_flag=True, default=None, help=words)
    return click.option(one.flag or "", name, multiple=one.many, metavar=one.metavar, help=words)
