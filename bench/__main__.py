"""`python -m bench`: measure; `python -m bench report FILE`: write the document's tables and chart from a run."""

from __future__ import annotations

from pathlib import Path

import click

from bench.arguments import Names, Numbers
from bench.contestant import BENCHES, CHAIN, FAN_OUT
from bench.field import CONTESTANTS
from bench.ground import missing_servers
from bench.measure import measure
from bench.plan import Options
from bench.records import load

#: Who takes part in the short bench: no other engine, for that would be fetched from the network.
_SHORT = ("limit", "xargs", "standalone", "sqlite", "postgresql")
_DEFAULT = Options((), frozenset())


@click.group(invoke_without_command=True)
@click.pass_context
@click.option(
    "--short", is_flag=True, help="Fan-out 1,000 and chain 20, one round, without other engines; nothing else is asked."
)
@click.option("--only", type=Names(BENCHES), default=BENCHES, help="Benches; parts and memory run the fan-out too.")
@click.option("--contestants", type=Names(tuple(CONTESTANTS)), default=tuple(CONTESTANTS), help="Who takes part.")
@click.option("--rounds", type=click.IntRange(min=1), default=_DEFAULT.rounds, show_default=True)
@click.option("--sizes", type=Numbers(), default=_DEFAULT.sizes, help="N of the fan-out.")
@click.option("--finished", type=Numbers(), default=_DEFAULT.finished, help="Finished tasks of the growth bench.")
@click.option("--counted", type=Numbers(), default=_DEFAULT.counted, help="N of the memory bench's counted tasks.")
@click.option("--handled", type=Numbers(), default=_DEFAULT.handled, help="Tasks of one call in the verbs bench.")
@click.option("--clients", type=Numbers(), default=_DEFAULT.clients, help="Clients of the API bench.")
@click.option(
    "--json",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the records go.  [default: bench.json; of the short bench nowhere]",
)
@click.option(
    "--folder", type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Where contestants keep their files while it runs.  [default: where temporary files lie, as the servers' do]",
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
        taking_part = [CONTESTANTS[name] for name in _SHORT if not missing_servers(CONTESTANTS[name].servers)]
        options = Options(taking_part, frozenset({FAN_OUT, CHAIN}), rounds=1, sizes=(1_000,), chains=(20,), rest=0.0)
    else:
        taking_part = [CONTESTANTS[name] for name in CONTESTANTS if name in contestants]
        options = Options(
            taking_part, frozenset(only), rounds, sizes,
            clients=clients, finished=finished, counted=counted, handled=handled,
        )  # fmt: skip
    measure(options, target=target or (None if short else Path("bench.json")), folder=folder)


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
def report(file: Path) -> None:
    """Write the tables and the chart of docs/performance.md from FILE, and keep a copy beside it."""
    from bench.report import write

    write(load(file))


if __name__ == "__main__":
    main(prog_name="python -m bench")
