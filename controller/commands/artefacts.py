"""`echelon artefacts`: list or download the artefacts of a job."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, resolve_job_id, with_client
from echelon.controller.commands.screen import (
    escape_text,
    format_bytes,
    format_count,
    format_moment,
    format_time,
    print_json,
    print_message,
)
from echelon.controller.commands.tables import Column, print_table
from echelon.shared.errors import EchelonError, InvalidInput, NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import JobArtefact

_COLUMNS: tuple[Column[JobArtefact], ...] = (
    Column("SIZE", lambda artefact: format_bytes(artefact["size"]), right=True),
    Column(
        "MODIFIED",
        lambda artefact: format_time(artefact["modified_at"]),
        short=lambda artefact: format_moment(artefact["modified_at"]),
    ),
    Column("PATH", lambda artefact: artefact["path"], note=True),
)


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Download all into this folder.")
@json_option
@with_client
def artefacts(client: Client, job_id: str, folder: Path | None, as_json: bool) -> None:
    """List the artefacts of a job, or download them all with -o."""
    job_id = resolve_job_id(client, job_id)
    found = list(client.list_artefacts(job_id))
    if folder is None:
        print_table(_COLUMNS, found, empty="no artefacts", as_json=as_json)
        return
    found = download_artefacts(client, job_id, found, folder)
    size = format_bytes(sum(artefact["size"] for artefact in found))
    print_message(f"{format_count(len(found), 'file')}, {size} in {escape_text(folder)}")
    if as_json:
        print_json(found)
        return
    for artefact in found:
        click.echo(escape_text(folder / artefact["path"]))


def download_artefacts(client: Client, job_id: str, wanted: list[JobArtefact], folder: Path) -> list[JobArtefact]:
    """Save artefacts below a folder, never outside of it; return those that still existed."""
    saved: list[JobArtefact] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for artefact in wanted:
            path = artefact["path"]
            file = resolve_inside(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                size = client.download_artefact(job_id, path, file)
            except NotFound:
                print_message(f"{escape_text(path)} does not exist any more")
                continue
            saved.append({"path": path, "size": size, "modified_at": artefact["modified_at"]})
    except OSError as error:
        raise EchelonError(f"cannot write {escape_text(error.filename or folder)}: {error.strerror}") from error
    return saved


def resolve_inside(folder: Path, path: str) -> Path:
    """Return the file for an artefact's path below a folder; raises InvalidInput if it would lie outside."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise InvalidInput(f"the artefact path {escape_text(path)!r} leads out of the folder: nothing is written there")
    file = folder.joinpath(*parts)
    # A link that is already in the folder may lead elsewhere.
    if not file.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{escape_text(file.parent)} leads out of {escape_text(folder)}: nothing is written there")
    return file
