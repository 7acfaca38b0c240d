"""`echelon run`: an engine for one job, in this process and without any server."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.follow import follow, tell_ending
from echelon.controller.commands.options import (
    explained,
    header_option,
    json_option,
    leave,
    parameter_option,
    with_settings,
)
from echelon.controller.commands.progress import Progress, progress
from echelon.controller.commands.screen import (
    Column,
    amount,
    counted,
    is_terminal,
    print_json,
    print_table,
    safe,
    words,
)
from echelon.controller.commands.submit import unknown_job
from echelon.controller.commands.validate import checked
from echelon.controller.commands.values import declared_types, headers, parameters
from echelon.controller.settings import Origin, Resolved, Settings, seconds
from echelon.shared.command import ExitCode
from echelon.shared.messages import JsonValue

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue, InputDefinition, StageDefinition
    from echelon.controller.client.answers import Artefact, Job
    from echelon.controller.commands.local import LocalJob
    from echelon.controller.standalone import Standalone

#: A longer list helps nobody at a terminal; a program gets them all.
_LISTED_AT_MOST: Final = 20
_COLUMNS = (Column("SIZE", right=True), Column("ARTEFACT", wide=True))


@dataclass(frozen=True, slots=True)
class _Order:
    """What is to be run."""

    job_type: str
    values: Mapping[str, JsonValue]
    headers: Mapping[str, str]
    timeout: float | None


@click.command()
@click.argument("catalogue", type=click.Path(exists=True, path_type=Path))
@click.argument("job_type", metavar="JOB")
@parameter_option
@header_option
@click.option("--timeout", metavar="TIME", help="Cancel the job when it takes longer (90s, 10m).")
@with_settings("volume", "slots")
@json_option
def run(
    resolved: Resolved,
    catalogue: Path,
    job_type: str,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    timeout: str | None,
    as_json: bool,
) -> None:
    """Run one job here and now, without a server.

    JOB is a job of CATALOGUE, which is a file or a folder. Its progress is shown, and its artefacts at the end.
    Without --volume its files lie in a new temporary folder, which stays. Ctrl-C cancels the job and ends its
    processes; a second one gives them no more time. The exit code says how the job ended.

    \b
      echelon run example/hello.yaml hello -p name=Ada
    """
    order = _order(catalogue, job_type, written, header_lines, timeout)
    given = resolved.origins["volume"] is not Origin.DEFAULT
    volume = resolved.settings.volume if given else Path(tempfile.mkdtemp(prefix="echelon-"))
    # A store of its own: the tasks of somebody else's jobs are not for this process to run.
    settings = replace(resolved.settings, catalogue=(catalogue,), volume=volume, datastore="")
    job, late, left = _run(settings, order)
    folder = volume.absolute() / "jobs" / job["job_id"] / "work"
    _report(job, left, folder, as_json=as_json)
    tell_ending(job)
    if late:
        words(f"it was cancelled because it took longer than {timeout}")
        raise click.exceptions.Exit(ExitCode.TIMED_OUT)
    leave(job["state"])


def _order(
    catalogue: Path, job_type: str, written: tuple[str, ...], header_lines: tuple[str, ...], timeout: str | None
) -> _Order:
    """Read the arguments before anything is made or started."""
    try:
        patience = None if timeout is None else seconds(timeout)
    except ValueError as error:
        raise click.UsageError(f"--timeout {safe(timeout)}: {error}") from error
    sent = headers(header_lines)
    known = checked([catalogue])
    if job_type not in known.jobs:
        raise unknown_job(job_type, list(known.jobs))
    _refuse_to_wait(known.jobs[job_type].stages, catalogue, job_type)
    return _Order(job_type, parameters(written, _types(known, job_type)), sent, patience)


def _refuse_to_wait(stages: Sequence[StageDefinition], catalogue: Path, job_type: str) -> None:
    """Refuse a job that would wait for a person who cannot reach it, and say where one may come to that."""
    instead = f"'echelon standalone --catalogue {safe(catalogue)}' and 'echelon submit {safe(job_type)}' let one"
    held = next((stage.name for stage in stages if stage.paused), None)
    if held is not None:
        reason = f"stage {safe(held)!r} is paused from the start, and nobody can resume what 'echelon run' runs"
        raise click.UsageError(f"{reason}; {instead}")
    for stage in stages:
        if stage.block_on_error:
            words(f"a failure in stage {safe(stage.name)!r} waits for a person, and none can help here; {instead}")


def _types(catalogue: Catalogue, job_type: str) -> dict[str, str]:
    """Return the type of each of a job's inputs."""

    def of(inputs: Mapping[str, InputDefinition]) -> dict[str, str | None]:
        return {name: one.type for name, one in inputs.items()}

    job = catalogue.jobs[job_type]
    classes = [name for stage in job.stages for name in (stage.spawn_task, stage.task_class) if name in catalogue.tasks]
    return declared_types(of(job.input), (of(catalogue.tasks[name].input) for name in classes))


def _run(settings: Settings, order: _Order) -> tuple[Job, bool, list[Artefact]]:
    """Return the job as it ended, whether it was too late, and what it left."""
    from echelon.controller.commands.local import LocalJob
    from echelon.controller.engine.base.requests import Submission
    from echelon.controller.standalone import Standalone

    standalone = Standalone(settings)
    standalone.start()
    try:
        with explained():
            sent = {name: [value] for name, value in order.headers.items()}
            job_id, _ = standalone.jobs.submit(Submission(type=order.job_type, input=order.values, headers=sent))
        local = LocalJob(standalone.jobs, job_id, timeout=order.timeout)
        with progress() as shown, _interruptible(local, standalone, shown):
            job = follow(local, local.view(), shown)
            standalone.stop()
    except BaseException:
        standalone.hurry()
        standalone.stop()
        raise
    return job, local.late, list(local.artefacts())


@contextmanager
def _interruptible(local: LocalJob, standalone: Standalone, shown: Progress) -> Iterator[None]:
    """Let Ctrl-C (and TERM) cancel the job; the second one gives its processes no more time."""

    def interrupt(*_: object) -> None:
        if local.unwanted.is_set():
            shown.tell("ending its processes now")
            standalone.kill()
        else:
            # First of all: the second signal may come before the words are written.
            local.unwanted.set()
            shown.tell("cancelling the job; Ctrl-C again gives its processes no more time")

    before: dict[int, Callable[..., object] | int | None] = {}
    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(job: Job, left: list[Artefact], folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"job": job, "artefacts": left, "folder": str(folder)})
        return
    listed = left[:_LISTED_AT_MOST] if is_terminal(sys.stdout) else left
    print_table(_COLUMNS, [(amount(one["size"]), one["path"]) for one in listed], empty="no artefacts")
    if left:
        rest = f" (the first {len(listed)} are listed)" if len(listed) < len(left) else ""
        words(f"{counted(len(left), 'artefact')}, {amount(sum(one['size'] for one in left))}{rest}, in {safe(folder)}")
    if not left or job["failed_tasks"]:
        words(f"what the tasks wrote: {safe(folder.parent / 'attempts')}")
