"""`python -m bench`: measure; `python -m bench report FILE`: write the document's tables and chart from a run."""

from __future__ import annotations

from pathlib import Path

import click

from bench.arguments import Names, Numbers
from bench.contestant import BENCHES, CHAIN, FAN_OUT
from bench.contestants import CONTESTANTS
from bench.measure import run_bench
from bench.plan import Options
from bench.records import load_run
from bench.resources import find_missing_servers

#: Contestants of the short bench: no other engines, because these are installed from the network.
_SHORT = ("limit", "xargs", "standalone", "sqlite", "postgresql")
_DEFAULT = Options((), frozenset())


@click.group(invoke_without_command=True)
@click.pass_context
@click.option(
    "--short",
    is_flag=True,
    help="Fan-out 1,000 and chain 20, one round, without other engines; ignores the other options.",
)
@click.option("--only", type=Names(BENCHES), default=BENCHES, help="Benches; parts and memory also run the fan-out.")
@click.option("--contestants", type=Names(tuple(CONTESTANTS)), default=tuple(CONTESTANTS), help="Contestants.")
@click.option("--rounds", type=click.IntRange(min=1), default=_DEFAULT.rounds, show_default=True)
@click.option("--sizes", type=Numbers(), default=_DEFAULT.sizes, help="N of the fan-out.")
@click.option("--finished", type=Numbers(), default=_DEFAULT.finished, help="Finished tasks of the growth bench.")
@click.option("--counted", type=Numbers(), default=_DEFAULT.counted, help="Counted tasks of the memory bench.")
@click.option("--handled", type=Numbers(), default=_DEFAULT.handled, help="Tasks of one call in the verbs bench.")
@click.option("--clients", type=Numbers(), default=_DEFAULT.clients, help="Clients of the API bench.")
@click.option(
    "--json",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File for the records.  [default: bench.json; none for the short bench]",
)
@click.option(
    "--folder", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Folder for the contestants' files.  [default: the system's temporary folder, like the servers']",
)  # fmt: skip
def main(
    ctx: click.Context,
    short: bool,
    only: tuple[str, ...],
    contestants: tuple[str, ...],
    rounds: int,
    sizes: tuple[int, ...],
    finished: tuple[int, ...],
    counted: tuple[int, ...],
    handled: tuple[int, ...],
    clients: tuple[int, ...],
    target: Path | None,
    folder: Path | None,
) -> None:
    """Measure Echelon, the limit of this machine and other engines, in turn."""
    if ctx.invoked_subcommand is not None:
        return
    if short:
        taking_part = [CONTESTANTS[name] for name in _SHORT if not find_missing_servers(CONTESTANTS[name].servers)]
        options = Options(taking_part, frozenset({FAN_OUT, CHAIN}), rounds=1, sizes=(1_000,), chains=(20,), rest=0.0)
    else:
        taking_part = [CONTESTANTS[name] for name in CONTESTANTS if name in contestants]
        options = Options(
            taking_part, frozenset(only), rounds, sizes,
            clients=clients, finished=finished, counted=counted, handled=handled,
        )  # fmt: skip
    run_bench(options, target=target or (None if short else Path("bench.json")), folder=folder)


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
def report(file: Path) -> None:
    """Write the tables and the chart of docs/evidence/performance.md from FILE, and copy FILE beside it."""
    from bench.report import write_report

    write_report(load_run(file))


if __name__ == "__main__":
    main(prog_name="python -m bench")
