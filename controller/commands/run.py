"""`echelon run`: an engine for one job, in this process and without any server."""

from __future__ import annotations

import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from echelon.controller.commands.catalogue import choose_job
from echelon.controller.commands.follow import follow_job, print_ending
from echelon.controller.commands.options import (
    LENGTH_OF_TIME,
    exit_like_job,
    explain_inputs,
    header_option,
    json_option,
    parameter_option,
    strict_option,
    with_settings,
)
from echelon.controller.commands.progress import Progress, choose_progress
from echelon.controller.commands.screen import (
    escape_log,
    escape_text,
    format_bytes,
    format_count,
    format_duration,
    is_terminal,
    print_json,
    print_message,
)
from echelon.controller.commands.submit import unknown_job
from echelon.controller.commands.tables import Column, print_table
from echelon.controller.commands.validate import load_valid_catalogue
from echelon.controller.commands.values import describe_retry, find_types, parse_headers, parse_parameters
from echelon.controller.settings import Resolved, Settings
from echelon.shared.command import ExitCode
from echelon.shared.settings import Origin

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue, StageDefinition
    from echelon.controller.catalogue.task_classes import InputDefinition
    from echelon.controller.commands.local import LocalJob
    from echelon.controller.engine.base.requests import Submission
    from echelon.controller.shapes import Job, JobArtefact
    from echelon.controller.standalone import Standalone

#: Artefacts listed on a terminal; a program gets them all.
_LISTED_AT_MOST: Final = 20
#: Characters of the tasks' output that are shown where nothing else is left of a job.
_SHOWN_AT_MOST: Final = 4000
_COLUMNS: tuple[Column[JobArtefact], ...] = (
    Column("SIZE", lambda artefact: format_bytes(artefact["size"]), right=True),
    Column("ARTEFACT", lambda artefact: artefact["path"], note=True),
)


@click.command()
@click.argument("catalogue", type=click.Path(exists=True, path_type=Path))
@click.argument("job_type", metavar="[JOB]", required=False)
@parameter_option
@header_option
@click.option("--timeout", type=LENGTH_OF_TIME, help="Cancel the job if it takes longer (90s, 10m).")
@click.option("--keep", is_flag=True, help="Keep the temporary folder of a good run that left no artefacts.")
@with_settings("volume", "slots")
@strict_option
@json_option
def run(
    resolved: Resolved,
    catalogue: Path,
    job_type: str | None,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    timeout: float | None,
    keep: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Run one job here and now, without a server.

    JOB is a job of CATALOGUE, a file or a folder; it may be left out if there is one only. The command shows its
    progress, and its artefacts at the end. Without --volume its files go into a new temporary folder. That one is
    removed if the run was good, left no artefacts, and all that its tasks printed has been shown. Ctrl-C cancels the
    job and ends its processes; a second one gives them no more time. The exit code says how the job ended.

    \b
      echelon run example/hello.yaml hello -p name=Ada
    """
    submission, inputs = _read_arguments(catalogue, job_type, written, header_lines)
    given = resolved.origins["volume"] is not Origin.DEFAULT
    volume = resolved.settings.volume if given else Path(tempfile.mkdtemp(prefix="echelon-"))
    # A new store: a shared one may hold other jobs, whose tasks this process must not run.
    settings = replace(resolved.settings, catalogue=(catalogue,), volume=volume, datastore="")
    job, timed_out, artefacts, output = _run_job(settings, submission, timeout, keep=given or keep)
    folder = volume.absolute() / "jobs" / job["job_id"] / "work"
    good = job["state"] == "COMPLETED" and not job["failed_tasks"] and not job["error"]
    shown = good and not artefacts and output is not None and not (given or keep or as_json)
    _print_results(job, artefacts, folder, as_json=as_json, output=output if shown else None)
    print_ending(job)
    if shown:
        shutil.rmtree(volume, ignore_errors=True)
    else:
        _print_next_steps(job, None if good or as_json else catalogue, volume, inputs, temporary=not given)
    if timed_out and timeout is not None:
        print_message(f"it was cancelled because it took longer than {format_duration(timeout)}")
        raise click.exceptions.Exit(ExitCode.TIMED_OUT)
    exit_like_job(job, strict=strict)


def _read_arguments(
    catalogue: Path, job_type: str | None, written: tuple[str, ...], header_lines: tuple[str, ...]
) -> tuple[Submission, Mapping[str, InputDefinition]]:
    """Check the arguments before anything is created or started; return them, and the inputs of the job."""
    from echelon.controller.engine.base.requests import Submission

    headers = {name: [value] for name, value in parse_headers(header_lines).items()}
    loaded = load_valid_catalogue([catalogue])
    job_type = choose_job(loaded, catalogue) if job_type is None else job_type
    if job_type not in loaded.jobs:
        raise unknown_job(job_type, list(loaded.jobs))
    _check_pauses(loaded.jobs[job_type].stages, catalogue, job_type)
    values = parse_parameters(written, _find_types(loaded, job_type))
    return Submission(type=job_type, input=values, headers=headers), loaded.jobs[job_type].input


def _check_pauses(stages: Sequence[StageDefinition], catalogue: Path, job_type: str) -> None:
    """Reject a job that begins paused, and warn of stages that a failure blocks: nothing can resume them here."""
    server = f"'echelon standalone --catalogue {escape_text(catalogue)}' and 'echelon submit {escape_text(job_type)}'"
    for stage in stages:
        if stage.paused:
            reason = f"stage {escape_text(stage.name)!r} is paused from the start, and 'echelon run' cannot resume it"
            raise click.UsageError(f"{reason}; use {server}")
    for stage in stages:
        if stage.block_on_error:
            reason = f"a failure in stage {escape_text(stage.name)!r} waits for a person, who cannot act on it here"
            print_message(f"{reason}; use {server} to be able to")


def _find_types(catalogue: Catalogue, job_type: str) -> dict[str, str]:
    """Return the type of each of a job's inputs."""

    def list_types(inputs: Mapping[str, InputDefinition]) -> dict[str, str | None]:
        return {name: one.type for name, one in inputs.items()}

    job, tasks = catalogue.jobs[job_type], catalogue.tasks
    classes = [name for stage in job.stages for name in (stage.spawn_task, stage.task_class) if name in tasks]
    return find_types(list_types(job.input), (list_types(tasks[name].input) for name in classes))


def _run_job(
    settings: Settings, submission: Submission, timeout: float | None, *, keep: bool
) -> tuple[Job, bool, list[JobArtefact], str | None]:
    """Return the job as it ended, whether it timed out, its artefacts, and what its tasks printed if that is short."""
    from echelon.controller.commands.local import LocalJob
    from echelon.controller.standalone import Standalone, StandaloneOptions

    standalone, job_id = None, None
    try:
        standalone = Standalone(settings, options=StandaloneOptions(sole_parent=True))
        standalone.start()
        with explain_inputs():
            job_id, _ = standalone.jobs.submit_job(submission)
        local = LocalJob(standalone.jobs, job_id, timeout=timeout)
        with choose_progress() as progress, _handle_signals(local, standalone, progress):
            job = follow_job(local, local.render_job(), progress)
            standalone.stop()
    except BaseException:
        if standalone is not None:
            standalone.hurry()
            standalone.stop()
        if job_id is None and not keep:
            # There is no job whose files could be looked at.
            shutil.rmtree(settings.volume, ignore_errors=True)
        raise
    return job, local.timed_out, local.list_artefacts(), local.read_output(_SHOWN_AT_MOST)


@contextmanager
def _handle_signals(local: LocalJob, standalone: Standalone, progress: Progress) -> Iterator[None]:
    """Cancel the job on Ctrl-C or TERM; the second one gives its processes no more time."""

    def handle_signal(*_: object) -> None:
        if local.cancel_requested.is_set():
            progress.print_lines("ending its processes now")
            standalone.kill()
        else:
            # Before the message: the second signal may come while it is written.
            local.cancel_requested.set()
            progress.print_lines("cancelling the job; Ctrl-C again gives its processes no more time")

    before = {number: signal.signal(number, handle_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_next_steps(
    job: Job, failed: Path | None, volume: Path, inputs: Mapping[str, InputDefinition], *, temporary: bool
) -> None:
    """Say how only what failed of a catalogue runs again, and how a temporary folder is removed."""
    if failed is not None:
        server = shlex.join(["echelon", "standalone", "--catalogue", str(failed), "--volume", str(volume.absolute())])
        headers = {name: one.key for name, one in inputs.items() if one.source == "http-header"}
        retry = describe_retry(job["job_id"][:8], job, headers)
        print_message(f"to run again only what failed:\n  {server}\n  {retry}")
    if temporary:
        print_message(f"to remove all its files: rm -r {shlex.quote(str(volume))}")


def _print_results(
    job: Job, artefacts: list[JobArtefact], folder: Path, *, as_json: bool, output: str | None = None
) -> None:
    """Show what a job has left; `output`: what its tasks printed, instead of the folder where that is."""
    if as_json:
        print_json({"job": job, "artefacts": artefacts, "folder": str(folder)})
        return
    listed = artefacts[:_LISTED_AT_MOST] if is_terminal(sys.stdout) else artefacts
    print_table(_COLUMNS, listed, empty="no artefacts")
    if artefacts:
        size = format_bytes(sum(artefact["size"] for artefact in artefacts))
        rest = f" (the first {len(listed)} are listed)" if len(listed) < len(artefacts) else ""
        print_message(f"{format_count(len(artefacts), 'artefact')}, {size}{rest}, in {escape_text(folder)}")
    if output is not None:
        click.echo(escape_log(output), nl=False)
    elif not artefacts or job["failed_tasks"]:
        print_message(f"the tasks' output: {escape_text(folder.parent / 'attempts')}")
