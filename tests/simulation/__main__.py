"""Run seeds: `python -m tests.simulation --seeds 2000`, or one of them with `--seed 17 --trace`."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence

from tests.simulation.ablations import ABLATIONS, without
from tests.simulation.run import Result, run_seed
from tests.simulation.store import remove_template

#: A set of texts is walked through in an order that depends on this.
ENOUGH = 5
HASH_SEED = "PYTHONHASHSEED"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out the command; return its exit code: 0 when all is well (or when every ablation was noticed)."""
    given = _parser().parse_args(arguments)
    logging.disable(logging.CRITICAL)
    if given.ablate:
        return _ablate(given.ablate, given.seeds or 300, given.first)
    seeds = range(given.first, given.first + (given.seeds or 100)) if given.seed is None else [given.seed]
    began = time.perf_counter()
    failed = 0
    for result in _results(seeds, trace=given.trace):
        failed += bool(result.violations)
        if given.seed is not None or result.violations:
            _show(result)
        if failed >= ENOUGH:
            break
    took = time.perf_counter() - began
    print(f"{len(seeds)} seeds from {seeds[0]}, {failed} failed, {took:.1f} s ({1000 * took / len(seeds):.0f} ms a seed)")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, help="how many seeds (100; of an ablation at most 300)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with its history when it fails")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--ablate", action="append", metavar="MECHANISM", choices=["all", *ABLATIONS])
    return parser


def _results(seeds: Iterable[int], *, trace: bool) -> Iterator[Result]:
    try:
        for seed in seeds:
            yield run_seed(seed, trace=trace)
    finally:
        remove_template()


def _show(result: Result) -> None:
    print("\n".join(result.lines), end="\n" if result.lines else "")
    print(f"seed {result.seed}: {result.counts}")
    for violation in result.violations[:20]:
        print(f"  {violation}")


def _ablate(names: Sequence[str], seeds: int, first: int) -> int:
    """Take mechanisms away, each until a seed notices."""
    missed = 0
    for name in ABLATIONS if "all" in names else names:
        began = time.perf_counter()
        with without(name), contextlib.closing(_results(range(first, first + seeds), trace=False)) as results:
            noticed = next((result for result in results if result.violations), None)
        missed += noticed is None
        what = f"seed {noticed.seed}: {noticed.violations[0].splitlines()[-1][:150]}" if noticed else "NOT NOTICED"
        print(f"without {name}: {what} ({time.perf_counter() - began:.1f} s)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    if os.environ.get(HASH_SEED) != "0":
        os.execve(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]], os.environ | {HASH_SEED: "0"})
    sys.exit(main())
