"""`echelon validate`: every mistake of a catalogue, with its place and what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option
from echelon.controller.commands.screen import counted, print_json, safe, words
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue
    from echelon.controller.catalogue.loader import Loaded
    from echelon.controller.catalogue.mistakes import Mistake


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, path_type=Path))
@json_option
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check catalogue files or folders.

    All of them together are one catalogue. Every mistake is named with its place; exit code 5 when there is one.
    """
    from echelon.controller.catalogue.loader import load

    loaded = load(files)
    mistakes, warnings = list(loaded.mistakes), list(loaded.warnings)
    if as_json:
        print_json({"valid": not mistakes, "mistakes": _facts(mistakes), "warnings": _facts(warnings)})
    else:
        for line in [*_lines(mistakes, "error"), *_lines(warnings, "warning")]:
            click.echo(line)
        said = [counted(len(mistakes), "mistake")] if mistakes else ["valid"]
        words(", ".join(said + ([counted(len(warnings), "warning")] if warnings else [])))
    if mistakes:
        raise click.exceptions.Exit(ExitCode.NOT_VALID)


def checked(files: Sequence[Path]) -> Catalogue:
    """Return a catalogue that is valid, its warnings said; one that is not ends the command."""
    from echelon.controller.catalogue.loader import load

    loaded = load(files)
    tell(loaded)
    if loaded.catalogue is None:
        raise click.exceptions.Exit(ExitCode.NOT_VALID)
    return loaded.catalogue


def tell(loaded: Loaded) -> None:
    """Say what is wrong with a catalogue and what could be better."""
    for line in [*_lines(loaded.warnings, "warning"), *_lines(loaded.mistakes, "error")]:
        words(line)


def _lines(found: Iterable[Mistake], kind: str) -> list[str]:
    return [_line(one, kind) for one in found]


def _line(one: Mistake, kind: str) -> str:
    place = ":".join(str(part) for part in (safe(one.file), one.line, one.column) if part)
    remedy = f"\n    {safe(one.remedy)}" if one.remedy else ""
    return f"{place}: {kind}: {safe(one.message)}{remedy}"


def _facts(found: Iterable[Mistake]) -> list[dict[str, object]]:
    return [
        {"file": one.file, "line": one.line, "column": one.column, "message": one.message, "remedy": one.remedy}
        for one in found
    ]
