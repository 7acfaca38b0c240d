"""`echelon submit`: submit a job to a running controller."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from echelon.controller.commands.options import (
    escape_message,
    explain_inputs,
    header_option,
    json_option,
    parameter_option,
    with_client,
)
from echelon.controller.commands.screen import escape_text, print_json, print_message
from echelon.controller.commands.values import find_types, parse_headers, parse_parameters
from echelon.controller.commands.watch import watch_options, watch_to_end
from echelon.shared.encodings import NotUtf8, decode_text
from echelon.shared.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from echelon.controller.catalogue_shapes import CatalogueInput
    from echelon.controller.client import Client
    from echelon.controller.shapes import Job


@click.command()
@click.argument("job_type", metavar="[JOB]", required=False)
@parameter_option
@header_option
@click.option("--idempotency-key", metavar="KEY", help="A second submission with this key returns the same job.")
@click.option("--paused", is_flag=True, help="Accept the job, but do not begin it until 'echelon resume'.")
@click.option(
    "--priority", type=click.IntRange(0, 9), metavar="N", help="From 0 to 9: tasks of a higher priority start first."
)
@click.option(
    "--inline",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help='Submit the job of a JSON file, {"name": ..., "stages": [...]}, instead of one of the catalogue (- is stdin).',
)
@watch_options
@json_option
@with_client
def submit(
    client: Client,
    job_type: str | None,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    idempotency_key: str | None,
    paused: bool,
    priority: int | None,
    inline: Path | None,
    then_watch: bool,
    strict: bool,
    as_json: bool,
) -> None:
    """Submit a job; its id goes to stdout.

    \b
      echelon submit hello -p name=Ada --watch
      echelon submit --inline job.json
    """
    if (job_type is None) == (inline is None):
        raise click.UsageError("name either a job of the catalogue or a file with --inline")
    if inline is not None:
        if written or header_lines:
            raise click.UsageError("a job of --inline has no inputs: write those of its tasks into the file")
        job = _submit_file(client, inline, idempotency_key, paused, priority)
    else:
        values = parse_parameters(written, find_input_types(client, str(job_type)))
        with explain_inputs():
            job = client.submit_job(
                str(job_type), input=values, headers=parse_headers(header_lines), idempotency_key=idempotency_key,
                paused=paused, priority=priority,
            )  # fmt: skip
    if not as_json:
        click.echo(job["job_id"])
    if then_watch:
        watch_to_end(client, job, as_json=as_json, strict=strict)
    elif as_json:
        print_json(job)
    else:
        print_message(_describe_job(job, paused))


def _describe_job(job: Job, paused: bool) -> str:
    short = job["job_id"][:8]
    hint = f", paused; 'echelon resume {short}' lets it begin" if paused else f"; 'echelon watch {short}' shows it"
    return f"job {escape_text(job['type'])} is {job['state']}{hint}"


def _submit_file(client: Client, file: Path, key: str | None, paused: bool, priority: int | None) -> Job:
    """Submit the job of a file; the controller checks its stages."""
    document = read_json(file, "--inline")
    if not isinstance(document, dict) or not isinstance(document.get("stages"), list):
        raise InvalidInput(f'{escape_text(file)}: write {{"name": ..., "stages": [...]}}')
    if unknown := sorted(document.keys() - {"name", "stages", "paused", "priority"}):
        raise InvalidInput(f"{escape_text(file)}: unknown key {escape_text(unknown[0])!r}; a job has a name and stages")
    name = str(document.get("name") or ("inline" if str(file) == "-" else file.stem))
    paused = paused or document.get("paused") is True
    priority = document.get("priority") if priority is None else priority
    with explain_inputs():
        return client.compose_job(name, document["stages"], paused=paused, priority=priority, idempotency_key=key)


def read_json(file: Path, option: str) -> Any:
    """Return the content of a JSON file, or of stdin."""
    name = "stdin" if str(file) == "-" else escape_text(file)
    try:
        return json.loads(decode_text(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()))
    except OSError as error:
        raise click.UsageError(f"{option} {name}: cannot be read: {error.strerror}") from error
    except NotUtf8 as error:
        raise InvalidInput(f"{name} {error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {escape_message(error)}") from error


def unknown_job(job_type: str, known: list[str]) -> NotFound:
    """Return the error for a job that is not in the catalogue, with suggestions."""
    if close := difflib.get_close_matches(job_type, known, n=3):
        hint = f"did you mean {' or '.join(repr(escape_text(name)) for name in close)}?"
    else:
        hint = f"the catalogue has {', '.join(map(escape_text, sorted(known)[:20])) or 'no jobs'}"
    return NotFound(f"there is no job {escape_text(job_type)!r}; {hint}")


def find_input_types(client: Client, job_type: str) -> dict[str, str]:
    """Return the type of each of a job's inputs; raises NotFound for an unknown job."""
    definitions = client.get_definitions()
    jobs = {job["type"]: job for job in definitions["jobs"]}
    if job_type not in jobs:
        raise unknown_job(job_type, list(jobs))
    job = jobs[job_type]
    tasks = {task["task_class"]: task["input"] for task in definitions["tasks"]}
    classes = [name for stage in job["stages"] for name in (stage["spawn_task"], stage["task_class"]) if name in tasks]
    return find_types(_list_types(job["input"]), (_list_types(tasks[name]) for name in classes))


def _list_types(inputs: list[CatalogueInput]) -> dict[str, str | None]:
    return {one["name"]: one["type"] for one in inputs}
