"""`echelon submit`: hand a job to a running controller."""

from __future__ import annotations

import difflib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from echelon.controller.commands.options import (
    explained,
    header_option,
    json_option,
    parameter_option,
    safe_message,
    with_client,
)
from echelon.controller.commands.screen import print_json, safe, words
from echelon.controller.commands.values import declared_types, headers, parameters
from echelon.controller.commands.watch import watch_to_the_end
from echelon.shared.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from echelon.controller.client import Client
    from echelon.controller.client.answers import Input, Job


@click.command()
@click.argument("job_type", metavar="[JOB]", required=False)
@parameter_option
@header_option
@click.option("--idempotency-key", metavar="KEY", help="Submitted again with this key it is the same job.")
@click.option("--paused", is_flag=True, help="Accepted, but not begun until 'echelon resume'.")
@click.option(
    "--inline",
    type=click.Path(path_type=Path, allow_dash=True),
    metavar="FILE",
    help='Submit the job that stands in a JSON file, {"name": ..., "stages": [...]}, instead of one of the'
    " catalogue (- is stdin).",
)
@click.option("--watch", "then_watch", is_flag=True, help="Watch the job to its end; the exit code says how it ended.")
@json_option
@with_client
def submit(
    client: Client,
    job_type: str | None,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    idempotency_key: str | None,
    paused: bool,
    inline: Path | None,
    then_watch: bool,
    as_json: bool,
) -> None:
    """Submit a job; its id goes to stdout.

    \b
      echelon submit hello -p name=Ada --watch
      echelon submit --inline job.json
    """
    if (job_type is None) == (inline is None):
        raise click.UsageError("name a job of the catalogue, or a file with --inline, and not both")
    if inline is not None:
        if written or header_lines:
            raise click.UsageError("a job of --inline has no inputs of its own: its tasks say theirs")
        job = _composed(client, inline, idempotency_key, paused)
    else:
        job = _submitted(client, str(job_type), written, header_lines, idempotency_key, paused)
    if not as_json:
        click.echo(job["job_id"])
    if then_watch:
        watch_to_the_end(client, job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        short = job["job_id"][:8]
        hint = f"paused; 'echelon resume {short}' lets it begin" if paused else f"'echelon watch {short}' shows it"
        words(f"job {safe(job['type'])} is {job['state']}{', ' if paused else '; '}{hint}")


def _submitted(
    client: Client,
    job_type: str,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    key: str | None,
    paused: bool,
) -> Job:
    sent = headers(header_lines)
    values = parameters(written, input_types(client, job_type))
    with explained():
        return client.submit(job_type, input=values, headers=sent, idempotency_key=key, paused=paused)


def _composed(client: Client, file: Path, key: str | None, paused: bool) -> Job:
    """Submit the job of a file; the controller says what is wrong with its stages, and where."""
    document = json_of(file, "--inline")
    if not isinstance(document, dict) or not isinstance(document.get("stages"), list):
        raise InvalidInput(f'{safe(file)}: write {{"name": ..., "stages": [...]}}')
    known = {"name", "stages", "paused"}
    if unknown := sorted(document.keys() - known):
        raise InvalidInput(f"{safe(file)}: unknown key {safe(unknown[0])!r}; a job has a name and stages")
    held = paused or document.get("paused") is True
    with explained():
        return client.compose(
            str(document.get("name") or ("inline" if str(file) == "-" else file.stem)),
            document["stages"],
            paused=held,
            idempotency_key=key,
        )


def json_of(file: Path, option: str) -> Any:
    """Return what a JSON file, or stdin, holds."""
    name = "stdin" if str(file) == "-" else safe(file)
    try:
        return json.loads(sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"{option} {name}: cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{name} is not JSON: {safe_message(error)}") from error


def unknown_job(job_type: str, known: list[str]) -> NotFound:
    """Return the error for a job that the catalogue does not have, with what may be meant."""
    close = difflib.get_close_matches(job_type, known, n=3)
    if close:
        return NotFound(f"there is no job {safe(job_type)!r}; did you mean {' or '.join(map(repr, map(safe, close)))}?")
    listed = ", ".join(safe(name) for name in sorted(known)[:20]) or "none at all"
    return NotFound(f"there is no job {safe(job_type)!r}; the catalogue has {listed}")


def input_types(client: Client, job_type: str) -> dict[str, str]:
    """Return the type of each of a job's inputs; raises NotFound with what may be meant."""
    definitions = client.definitions()
    jobs = {one["type"]: one for one in definitions["jobs"]}
    if job_type not in jobs:
        raise unknown_job(job_type, list(jobs))
    job = jobs[job_type]
    tasks = {task["task_class"]: task["input"] for task in definitions["tasks"]}
    classes = [name for stage in job["stages"] for name in (stage["spawn_task"], stage["task_class"]) if name in tasks]
    return declared_types(_types(job["input"]), (_types(tasks[name]) for name in classes))


def _types(inputs: list[Input]) -> dict[str, str | None]:
    return {one["name"]: one["type"] for one in inputs}
