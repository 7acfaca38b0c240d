"""Run seeds: `python -m tests.simulation --seeds 2000`, or one of them with `--seed 17 --trace`."""

from __future__ import annotations

import argparse
import time

from tests.simulation.run import run_seed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds) if given.seed is None else [given.seed]
    began = time.perf_counter()
    for seed in seeds:
        result = run_seed(seed, trace=given.trace)
        if given.trace:
            print("\n".join(result.lines))
        print(seed, result.counts, result.violations[:5])
    print(f"{(time.perf_counter() - began) / len(seeds):.3f} s per seed")


main()
