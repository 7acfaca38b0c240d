"""`echelon validate`: list every mistake of a catalogue, with its place and its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option
from echelon.controller.commands.screen import escape_text, format_count, print_json, print_message
from echelon.shared.command import ExitCode

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue
    from echelon.controller.catalogue.loader import LoadedCatalogue
    from echelon.controller.catalogue.mistakes import Mistake


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, path_type=Path))
@json_option
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check catalogue files or folders.

    All of them together are one catalogue. Every mistake is listed with its place; the exit code is then 5.
    """
    from echelon.controller.catalogue.loader import load_catalogue

    loaded = load_catalogue(files)
    mistakes, warnings = list(loaded.mistakes), list(loaded.warnings)
    if as_json:
        print_json({"valid": not mistakes, "mistakes": _list_facts(mistakes), "warnings": _list_facts(warnings)})
    else:
        for line in [*_format_mistakes(mistakes, "error"), *_format_mistakes(warnings, "warning")]:
            click.echo(line)
        parts = [format_count(len(mistakes), "mistake") if mistakes else "valid"]
        parts += [format_count(len(warnings), "warning")] if warnings else []
        print_message(", ".join(parts))
    if mistakes:
        raise click.exceptions.Exit(ExitCode.NOT_VALID)


def load_valid_catalogue(files: Sequence[Path]) -> Catalogue:
    """Return a valid catalogue after its warnings are printed; end the command if it is not valid."""
    from echelon.controller.catalogue.loader import load_catalogue

    loaded = load_catalogue(files)
    print_mistakes(loaded)
    if loaded.catalogue is None:
        raise click.exceptions.Exit(ExitCode.NOT_VALID)
    return loaded.catalogue


def print_mistakes(loaded: LoadedCatalogue) -> None:
    """Write the warnings and the mistakes of a catalogue to stderr."""
    for line in [*_format_mistakes(loaded.warnings, "warning"), *_format_mistakes(loaded.mistakes, "error")]:
        print_message(line)


def _format_mistakes(found: Iterable[Mistake], kind: str) -> Iterable[str]:
    for mistake in found:
        place = ":".join(str(part) for part in (escape_text(mistake.file), mistake.line, mistake.column) if part)
        remedy = f"\n    {escape_text(mistake.remedy)}" if mistake.remedy else ""
        yield f"{place}: {kind}: {escape_text(mistake.message)}{remedy}"


def _list_facts(found: Iterable[Mistake]) -> list[dict[str, object]]:
    return [{key: getattr(one, key) for key in ("file", "line", "column", "message", "remedy")} for one in found]
