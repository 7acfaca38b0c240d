"""`echelon retry`: run failed and cancelled tasks again, on request completed and skipped ones too."""

from __future__ import annotations

import click

from echelon.controller.commands.screen import print_message
from echelon.controller.commands.verbs import VerbRequest, describe_hint, opening_options, verb_options
from echelon.controller.commands.watch import watch_options, watch_to_end


@click.command()
@verb_options
@opening_options
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Run completed and skipped tasks again too; kill running ones first.",
)
@click.option(
    "--downstream",
    is_flag=True,
    help="Later stages that have run do so again as a whole, with the tasks that their spawn tasks list then.",
)
@watch_options
def retry(request: VerbRequest, everything: bool, downstream: bool, then_watch: bool, strict: bool) -> None:
    """Run failed and cancelled tasks again.

    No limit of attempts applies, and an ended job opens again. Completed tasks are kept. Skipped tasks run again if
    named, or with --state skipped. A running task is killed first if named. An ended job has lost its secret inputs:
    give them again with -p and -H. If its tasks had secrets of their own, submit the job again instead.

    \b
      echelon retry 3f2a                       all failed tasks
      echelon retry 3f2a.1.17                  one task
      echelon retry 3f2a.1.17 --downstream     and all later stages
      echelon retry 3f2a.1.0-99 --all          these 100, completed ones too
    """
    if then_watch:
        answer = request.send_verb("retry", only_failed=not everything, downstream=downstream)
        if answer.get("hint"):
            print_message(describe_hint(answer))
        job = request.client.get_job(request.target.job_id)
        watch_to_end(request.client, job, as_json=request.as_json, strict=strict)
        return
    changed = request.carry_out(
        "retry", "runs again", "run again", of_tasks=True, only_failed=not everything, downstream=downstream
    )
    if changed and not request.as_json:
        print_message(f"'echelon watch {str(request.target)[:8]}' shows it")
