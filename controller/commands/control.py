"""`echelon pause`, `resume`, `cancel`, `kill` and `skip`: change a job, a stage or tasks while the job runs."""

from __future__ import annotations

import click

from echelon.controller.commands.verbs import VerbRequest, opening_options, verb_options


@click.command()
@verb_options
def pause(request: VerbRequest) -> None:
    """Pause a job, a stage or tasks.

    None of its tasks start until 'echelon resume'; running tasks go on. STAGE is a number from 0 or a name, INDEX a
    number, ranges such as 0-99,150, or spawn.

    \b
      echelon pause 3f2a            the job whose id begins with 3f2a
      echelon pause 3f2a.Publish    its stage Publish
      echelon pause 3f2a.1.0-99     the first 100 tasks of its stage 1
    """
    request.carry_out("pause", "is paused", "are paused")


@click.command()
@verb_options
def resume(request: VerbRequest) -> None:
    """Resume a paused job, stage or tasks.

    Name the same thing as for 'echelon pause': resuming a job does not resume a stage or a task that was paused
    itself.

    \b
      echelon resume 3f2a
      echelon resume 3f2a.Publish
      echelon resume 3f2a.1.0-99
    """
    request.carry_out("resume", "goes on", "go on")


@click.command()
@verb_options
def cancel(request: VerbRequest) -> None:
    """End a job, a stage or tasks for good.

    No further task starts, and running tasks are ended with all their processes. 'echelon retry' opens it again.

    \b
      echelon cancel 3f2a
      echelon cancel 3f2a.1.17
      echelon cancel 3f2a.1 --state queued
    """
    request.carry_out("cancel", "is CANCELLED", "are CANCELLED")


@click.command()
@verb_options
def kill(request: VerbRequest) -> None:
    """End running tasks, as failed attempts.

    All their processes are ended. A task with retries left runs again; 'echelon pause' first prevents that.

    \b
      echelon kill 3f2a.1.17
      echelon kill 3f2a
    """
    request.carry_out("kill", "is killed", "are killed", of_tasks=True)


@click.command()
@verb_options
@opening_options
def skip(request: VerbRequest) -> None:
    """Count a job, a stage or tasks as done without running them.

    Running tasks are ended. The next stage may start, and a failed job goes on. An ended job has lost its secret
    inputs: give them again with -p and -H; those of single tasks cannot be given again.

    \b
      echelon skip 3f2a.1.17
      echelon skip 3f2a.1 --state failed
      echelon skip 3f2a.Publish
    """
    request.carry_out("skip", "is SKIPPED", "are SKIPPED")
