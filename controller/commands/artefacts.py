"""`echelon artefacts`: list or download the artefacts of a job."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

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
from echelon.shared.errors import Conflict, EchelonError, InvalidInput, NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.shapes import JobArtefact

#: So many files are fetched as one archive: a request for each would take far longer.
_BY_ARCHIVE: Final = 50
#: Seconds between two lines about the progress of a download.
_TELL_EVERY: Final = 2.0
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
@click.argument("patterns", metavar="[PATH]...", nargs=-1)
@click.option("-o", "--output", "folder", type=click.Path(path_type=Path), help="Download them into this folder.")
@click.option("--force", is_flag=True, help="Replace files that are in the folder already.")
@json_option
@with_client
def artefacts(
    client: Client, job_id: str, patterns: tuple[str, ...], folder: Path | None, force: bool, as_json: bool
) -> None:
    """List the artefacts of a job, or download them with -o.

    PATH is a file, a folder or a pattern, in which * stands for any characters, slashes too; without one all are meant.

    \b
      echelon artefacts 3f2a
      echelon artefacts 3f2a -o results
      echelon artefacts 3f2a report.pdf 'plots/*.png' -o results
    """
    job_id = resolve_job_id(client, job_id)
    pages = list(client.list_artefact_pages(job_id))
    every = [one for page in pages for one in page["items"]]
    found = [one for one in every if not patterns or any(_matches(one["path"], pattern) for pattern in patterns)]
    tell_left_out(sum(page.get("left_out", 0) for page in pages))
    if patterns and not found:
        raise NotFound(f"no artefact of job {job_id[:8]} matches {' or '.join(map(escape_text, patterns))}")
    if folder is None:
        print_table(_COLUMNS, found, empty="no artefacts", as_json=as_json)
        return
    _refuse_to_replace(found, folder, force)
    all_at_once = len(found) >= _BY_ARCHIVE and 2 * len(found) > len(every)
    found = (download_archive if all_at_once else download_artefacts)(client, job_id, found, folder)
    size = format_bytes(sum(artefact["size"] for artefact in found))
    print_message(f"{format_count(len(found), 'file')}, {size} in {escape_text(folder)}")
    if as_json:
        print_json(found)
        return
    for artefact in found:
        click.echo(escape_text(folder / artefact["path"]))


def tell_left_out(count: int) -> None:
    """Say how many entries of a job's folder are no artefacts, and why."""
    if count:
        print_message(
            f"{count} more {'entry of its folder is' if count == 1 else 'entries of its folder are'} left out: links, "
            "pipes, names that are not UTF-8 and folders that are too deep can be neither listed nor fetched"
        )


def _matches(path: str, pattern: str) -> bool:
    """Tell whether a path is what a pattern names, or lies in the folder that it names."""
    return path == pattern or path.startswith(f"{pattern.rstrip('/')}/") or fnmatchcase(path, pattern)


def _refuse_to_replace(found: Sequence[JobArtefact], folder: Path, force: bool) -> None:
    """Raise Conflict if files would be replaced; `force` allows it."""
    checked: set[Path] = set()
    targets = [] if force else [(one["path"], resolve_inside(folder, one["path"], checked)) for one in found]
    there = [path for path, target in targets if os.path.lexists(target)]
    if there:
        rest = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise Conflict(
            f"{escape_text(folder / there[0])}{rest} would be replaced: --force does so, or name another folder"
        )


class _Progress:
    """Writes now and then how much has come."""

    def __init__(self, files: int, size: int) -> None:
        self._all = f"{format_count(files, 'file')}, {format_bytes(size)}"
        self._told_at = time.monotonic()

    def tell(self, text: str) -> None:
        """Write a line if the last one is old."""
        if time.monotonic() - self._told_at >= _TELL_EVERY:
            self._told_at = time.monotonic()
            print_message(f"{text} of {self._all}")


def download_archive(client: Client, job_id: str, wanted: list[JobArtefact], folder: Path) -> list[JobArtefact]:
    """Save artefacts that come as one archive; return those that it holds."""
    progress = _Progress(len(wanted), sum(one["size"] for one in wanted))
    left = {one["path"]: one for one in wanted}
    saved: list[JobArtefact] = []
    checked: set[Path] = set()
    with _explain_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            for piece in client.read_zip(job_id):
                file.write(piece)
                progress.tell(f"{format_bytes(file.tell())} received")
            with zipfile.ZipFile(file) as archive:
                for entry in archive.infolist():
                    one = left.pop(entry.filename, None)
                    if one is not None:
                        _extract_entry(archive, entry, resolve_inside(folder, entry.filename, checked))
                        saved.append({**one, "size": entry.file_size})
                        progress.tell(format_count(len(saved), "file"))
    for path in left:
        print_message(f"{escape_text(path)} does not exist any more")
    return saved


def _extract_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """Save an entry as a file, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    name = target.with_name(f".{target.name[:50]}.{uuid.uuid4().hex}")
    try:
        with archive.open(entry) as source, name.open("xb") as file:
            shutil.copyfileobj(source, file)
        os.replace(name, target)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def download_artefacts(client: Client, job_id: str, wanted: list[JobArtefact], folder: Path) -> list[JobArtefact]:
    """Save artefacts below a folder, never outside of it; return those that still existed."""
    progress = _Progress(len(wanted), sum(one["size"] for one in wanted))
    saved: list[JobArtefact] = []
    with _explain_errors(folder):
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
            progress.tell(format_count(len(saved), "file"))
    return saved


@contextmanager
def _explain_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EchelonError(f"cannot write {escape_text(error.filename or folder)}: {error.strerror}") from error


def resolve_inside(folder: Path, path: str, checked: set[Path] | None = None) -> Path:
    """Return the file for an artefact's path below a folder; raises InvalidInput if it would lie outside.

    `checked` remembers the folders of one download that have been looked at: the download makes no links itself.
    """
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise InvalidInput(f"the artefact path {escape_text(path)!r} leads out of the folder: nothing is written there")
    file = folder.joinpath(*parts)
    # A link that is already in the folder may lead elsewhere.
    if checked is not None and file.parent in checked:
        return file
    if not file.parent.resolve().is_relative_to(folder.resolve()):
        raise InvalidInput(f"{escape_text(file.parent)} leads out of {escape_text(folder)}: nothing is written there")
    if checked is not None:
        checked.add(file.parent)
    return file
