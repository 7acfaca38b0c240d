"""`echelon catalogue`: the jobs of a catalogue, their inputs and their stages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from echelon.controller.commands.options import json_option
from echelon.controller.commands.screen import escape_text, print_json, print_message
from echelon.controller.commands.submit import unknown_job
from echelon.controller.commands.tables import Column, print_table
from echelon.controller.commands.validate import load_valid_catalogue

if TYPE_CHECKING:
    from echelon.controller.catalogue.definitions import Catalogue, JobDefinition, StageDefinition
    from echelon.controller.catalogue.task_classes import InputDefinition

_JOBS: tuple[Column[JobDefinition], ...] = (
    Column("JOB", lambda job: job.type),
    Column("INPUTS", lambda job: len(job.input), right=True),
    Column("STAGES", lambda job: len(job.stages), right=True),
    Column("DESCRIPTION", lambda job: job.description or job.name, note=True),
)
#: Of a job and one of its inputs.
_INPUTS: tuple[Column[tuple[JobDefinition, InputDefinition]], ...] = (
    Column("JOB", lambda row: row[0].type, least=12),
    Column("INPUT", lambda row: row[1].name),
    Column("GIVEN AS", lambda row: _show_way(row[1])),
    Column("TYPE", lambda row: row[1].type or "text"),
    Column("DEFAULT", lambda row: _show_default(row[0], row[1]), least=12, spare=1),
    Column("DESCRIPTION", lambda row: row[1].description, note=True),
)
#: Of a job, the number of a stage, and the stage.
_STAGES: tuple[Column[tuple[JobDefinition, int, StageDefinition]], ...] = (
    Column("JOB", lambda row: row[0].type, least=12),
    Column("STAGE", lambda row: row[1], right=True),
    Column("NAME", lambda row: row[2].name, least=12),
    Column("TASK CLASS", lambda row: " > ".join(filter(None, (row[2].spawn_task, row[2].task_class))), least=12),
)


@click.command()
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@click.argument("job_type", metavar="[JOB]", required=False)
@json_option
def catalogue(file: Path, job_type: str | None, as_json: bool) -> None:
    """List the jobs of a catalogue, a file or a folder, with their inputs and stages; or those of one JOB.

    \b
      echelon catalogue example/hello.yaml
    """
    loaded = load_valid_catalogue([file])
    if job_type is not None and job_type not in loaded.jobs:
        raise unknown_job(job_type, list(loaded.jobs))
    wanted = [job for name, job in loaded.jobs.items() if job_type in (None, name)]
    if as_json:
        from echelon.controller.api.definitions import render_job

        print_json([render_job(job) for job in wanted])
        return
    print_jobs(wanted)
    if wanted:
        print_message(f"to run one: {describe_call(file, wanted[0])}")


def print_jobs(jobs: Sequence[JobDefinition]) -> None:
    """Write jobs with their inputs and stages to stdout."""
    print_table(_JOBS, jobs, empty="the catalogue has no jobs")
    if inputs := [(job, one) for job in jobs for one in job.input.values()]:
        click.echo()
        print_table(_INPUTS, inputs, empty="")
    if jobs:
        click.echo()
        stages = [(job, number, stage) for job in jobs for number, stage in enumerate(job.stages)]
        print_table(_STAGES, stages, empty="")


def describe_call(file: Path, job: JobDefinition) -> str:
    """Return the call that runs a job, with a place for each input that is required."""
    needed = [one for one in job.input.values() if one.required]
    given = [escape_text(_show_way(one)) for one in needed]
    return " ".join(["echelon run", escape_text(file), escape_text(job.type), *given])


def choose_job(catalogue: Catalogue, file: Path) -> str:
    """Return the only job of a catalogue; if there are several, list them and end the command."""
    jobs = list(catalogue.jobs.values())
    if len(jobs) == 1:
        return jobs[0].type
    print_jobs(jobs)
    hint = f"; for example: {describe_call(file, jobs[0])}" if jobs else ""
    raise click.UsageError(f"name the job to run{hint}")


def _show_way(one: InputDefinition) -> str:
    return f"-H '{one.key or one.name}: ...'" if one.source == "http-header" else f"-p {one.name}=..."


def _show_default(job: JobDefinition, one: InputDefinition) -> str:
    if one.required:
        return "(required)"
    if one.name in job.secret:
        return "********"
    return one.default if isinstance(one.default, str) else json.dumps(one.default, ensure_ascii=False)
