"""`echelon artefacts`: list or fetch the files that a job left."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option, whole_job_id, with_client
from echelon.controller.commands.screen import Column, amount, counted, moment, print_json, print_table, safe, words
from echelon.shared.errors import EchelonError, InvalidInput, NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Artefact

_COLUMNS = (Column("SIZE", right=True), Column("MODIFIED"), Column("PATH", wide=True))


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Fetch all of them into this folder.")
@json_option
@with_client
def artefacts(client: Client, job_id: str, folder: Path | None, as_json: bool) -> None:
    """List the artefacts of a job, or fetch them all with -o."""
    whole = whole_job_id(client, job_id)
    found = list(client.artefacts(whole))
    if folder:
        found = fetch(client, whole, found, folder)
        words(f"{counted(len(found), 'file')}, {amount(sum(one['size'] for one in found))} in {safe(folder)}")
    if as_json:
        print_json(found)
    elif folder:
        for one in found:
            click.echo(safe(folder / one["path"]))
    else:
        rows = [(amount(one["size"]), moment(one["modified_at"]), one["path"]) for one in found]
        print_table(_COLUMNS, rows, empty="no artefacts")


def fetch(client: Client, job_id: str, wanted: list[Artefact], folder: Path) -> list[Artefact]:
    """Save artefacts below a folder; return those that were still there. No path leaves the folder."""
    saved: list[Artefact] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in wanted:
            target = inside(folder, one["path"])
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                size = client.download(job_id, one["path"], target)
            except NotFound:
                words(f"{safe(one['path'])} is gone meanwhile")
                continue
            saved.append({"path": one["path"], "size": size, "modified_at": one["modified_at"]})
    except OSError as error:
        raise EchelonError(f"cannot write {safe(error.filename or folder)}: {error.strerror}") from error
    return saved


def inside(folder: Path, path: str) -> Path:
    """Return where an artefact's path lies below a folder; raises InvalidInput for one that would leave it."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise InvalidInput(f"the artefact path {safe(path)!r} leads out of the folder: nothing is written there")
    target = folder.joinpath(*parts)
    # A link that lies in the folder already may lead elsewhere.
    if not target.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{safe(target.parent)} leads out of {safe(folder)}: nothing is written there")
    return target
