"""`echelon submit`: hand a job to a running controller."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import click

from controller.commands.options import explained, header_option, json_option, parameter_option, with_client
from controller.commands.screen import print_json, safe, words
from controller.commands.values import declared_types, headers, parameters
from controller.commands.watch import watch_to_the_end
from shared.errors import NotFound

if TYPE_CHECKING:
    from controller.client import EchelonClient
    from controller.client.answers import Input


@click.command()
@click.argument("job_type", metavar="JOB")
@parameter_option
@header_option
@click.option("--idempotency-key", metavar="KEY", help="Submitted again with this key it is the same job.")
@click.option("--watch", "then_watch", is_flag=True, help="Watch the job to its end; the exit code says how it ended.")
@json_option
@with_client
def submit(
    client: EchelonClient,
    job_type: str,
    written: tuple[str, ...],
    header_lines: tuple[str, ...],
    idempotency_key: str | None,
    then_watch: bool,
    as_json: bool,
) -> None:
    """Submit a job; its id goes to stdout.

    \b
      echelon submit hello -p name=Ada --watch
    """
    sent = headers(header_lines)
    values = parameters(written, input_types(client, job_type))
    with explained():
        job = client.submit(job_type, input=values, headers=sent, idempotency_key=idempotency_key)
    if not as_json:
        click.echo(job["job_id"])
    if then_watch:
        watch_to_the_end(client, job, as_json=as_json)
    elif as_json:
        print_json(job)
    else:
        words(f"job {safe(job['type'])} is {job['state']}; 'echelon watch {job['job_id'][:8]}' shows it")


def unknown_job(job_type: str, known: list[str]) -> NotFound:
    """Return the error for a job that the catalogue does not have, with what may be meant."""
    close = difflib.get_close_matches(job_type, known, n=3)
    if close:
        return NotFound(f"there is no job {safe(job_type)!r}; did you mean {' or '.join(map(repr, map(safe, close)))}?")
    listed = ", ".join(safe(name) for name in sorted(known)[:20]) or "none at all"
    return NotFound(f"there is no job {safe(job_type)!r}; the catalogue has {listed}")


def input_types(client: EchelonClient, job_type: str) -> dict[str, str]:
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
