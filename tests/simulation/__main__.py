"""Run the simulation: `python -m tests.simulation --seeds 2000`, or one seed with `--seed 17 --trace`.

A seed that fails is run again with its history printed; `--shrink` leaves out the faults that it does not need first.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from echelon.shared.ablation import without
from tests.simulation.ablations import BEGIN_AT, OF_FAULTS
from tests.simulation.faults import KINDS
from tests.simulation.run import Result, run_seed, shrink
from tests.simulation.spread import spread

#: The order in which a set of texts is walked through depends on this; with another value a seed means another run.
HASH_SEED = "PYTHONHASHSEED"
#: So many failed seeds are enough for one run.
ENOUGH = 5
#: Lines of a failed seed's history that are printed, unless all are asked for.
TAIL = 200
#: Seeds that one process runs before the next is forked, and seconds between two lines that tell how far it is.
PIECE, PROGRESS_EVERY = 20, 10.0
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def main(arguments: Sequence[str]) -> int:
    """Carry out the command; return its exit code: 0 when every seed held (or every ablation was noticed)."""
    given = _make_parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)
    count = given.seeds or (300 if given.ablate else 100)
    if given.ablate:
        return _run_ablations(given.ablate, given.first, count, processes=given.processes)
    if given.seed is not None:
        return _run_one_seed(given.seed, trace=given.trace, small=given.shrink)
    seeds = range(given.first or 0, (given.first or 0) + count)
    chosen = [*read_regressions(), *seeds] if given.regressions else list(seeds)
    return _run_seeds(chosen, processes=given.processes, small=given.shrink)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many seeds (100; of an ablation at most 300)")
    parser.add_argument("--from", dest="first", type=int, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--regressions", action="store_true", help="those that ever failed first")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time")
    parser.add_argument("--trace", action="store_true", help="print everything that happens in --seed")
    parser.add_argument("--shrink", action="store_true", help="leave out the faults that a failure does not need")
    parser.add_argument("--ablate", action="append", metavar="MECHANISM", choices=["all", *OF_FAULTS])
    return parser


def read_regressions() -> list[int]:
    """Return every seed that ever failed."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def _run_one_seed(seed: int, *, trace: bool, small: bool) -> int:
    result = run_seed(seed, trace=trace)
    if result.violations and not trace:
        result = _run_again(result, small=small)
    _print_result(result, whole=trace)
    return 1 if result.violations else 0


def _run_seeds(seeds: Sequence[int], *, processes: int, small: bool) -> int:
    began = time.perf_counter()
    struck: Counter[str] = Counter()
    failed: list[int] = []
    done, told = 0, began
    # Load and compile everything before the processes are forked.
    run_seed(seeds[0])
    pieces = [seeds[first : first + PIECE] for first in range(0, len(seeds), PIECE)]
    with contextlib.closing(spread(pieces, _run_piece, processes=processes)) as answers:
        for answer in answers:
            done += answer["seeds"]
            struck.update(answer["struck"])
            failed += answer["failed"]
            if time.perf_counter() - told >= PROGRESS_EVERY:
                told = time.perf_counter()
                print(f"{done} of {len(seeds)} seeds, {len(failed)} failed, {told - began:.0f} s", flush=True)
            if len(failed) >= ENOUGH:
                break
    took = time.perf_counter() - began
    for seed in failed[:ENOUGH]:
        _print_result(_run_again(run_seed(seed), small=small), whole=False)
    known = {f"{place}:{kind}" for place, kinds in KINDS.items() for kind, _ in kinds}
    print(f"kinds of faults that never struck: {', '.join(sorted(known - set(struck))) or 'none'}")
    print(
        f"{done} seeds from {seeds[0]} to {seeds[-1]}: {len(failed)} failed {failed or ''}; {struck.total()} faults;"
        f" {took:.1f} s, {1000 * took / max(1, done):.0f} ms a seed"
    )
    return 1 if failed else 0


def _run_piece(seeds: Sequence[int]) -> dict[str, object]:
    """Run some seeds in a process of their own."""
    results = [run_seed(seed) for seed in seeds]
    struck = sum((result.struck for result in results), Counter[str]())
    return {"seeds": len(results), "struck": struck, "failed": [one.seed for one in results if one.violations]}


def _run_again(result: Result, *, small: bool) -> Result:
    """Run a failed seed once more, for its history; with `small` without the faults that it does not need."""
    if not small:
        return run_seed(result.seed, trace=True)
    needed = shrink(result.steps, lambda only: bool(run_seed(result.seed, only=only).violations))
    return run_seed(result.seed, trace=True, only=frozenset(needed))


def _print_result(result: Result, *, whole: bool) -> None:
    lines = result.lines if whole else result.lines[-TAIL:]
    print("\n".join(lines), end="\n" if lines else "")
    print(f"seed {result.seed}: {result.facts}, {len(result.steps)} faults")
    for violation in result.violations[:20]:
        print(f"  {violation}")


def _run_ablations(names: Sequence[str], first: int | None, count: int, *, processes: int) -> int:
    """Take mechanisms away, each until a seed notices."""
    run_seed(0)
    missed = 0

    def try_ablation(name: str) -> tuple[str, bool]:
        began = time.perf_counter()
        start = BEGIN_AT.get(name, 0) if first is None else first
        with without(name):
            results = (run_seed(seed) for seed in range(start, start + count))
            noticed = next((result for result in results if result.violations), None)
        what = f"seed {noticed.seed}: {noticed.violations[0].splitlines()[-1][:150]}" if noticed else "NOT NOTICED"
        return f"without {name}: {what} ({time.perf_counter() - began:.1f} s)", noticed is None

    for line, unnoticed in spread(OF_FAULTS if "all" in names else names, try_ablation, processes=processes):
        print(line, flush=True)
        missed += unnoticed
    return 1 if missed else 0


if __name__ == "__main__":
    if os.environ.get(HASH_SEED) != "0":
        again = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | {HASH_SEED: "0"})
    sys.exit(main(sys.argv[1:]))
