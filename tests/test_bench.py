"""The bench counts and draws correctly; the short one runs and prints its tables, whatever their figures are."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import accounting, bare, chart, goals, report
from bench.contestant import CHAIN, FAN_OUT, MEMORY, VERBS
from bench.contestants import CONTESTANTS
from bench.growth import Stores
from bench.measure import run_bench
from bench.plan import Options, plan_steps
from bench.records import Record, Run, load_run, save_run
from bench.resources import Resources
from bench.summary import compare_to_limit, compute_ratio, group_by_round
from bench.tables import make_tables
from bench.verbs import CALLS
from tests.system.process import until

ROOT = Path(__file__).resolve().parent.parent


def make_run(*records: Record) -> Run:
    return Run("2026-11-21T00:00:00+00:00", {"cores": "2"}, {"echelon": "1"}, {"rounds": "3"}, records=list(records))


def fan_out(contestant: str, round_: int, rate: float, size: int = 10_000, **more: float) -> Record:
    return Record(FAN_OUT, contestant, size, round_, {"rate": rate, **more})


# --- the short bench


@pytest.mark.slow
def test_the_short_bench_measures_and_prints_its_tables(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    target = tmp_path / "run.json"

    done = subprocess.run(
        [sys.executable, "-m", "bench", "--short", "--json", str(target), "--folder", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=540,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    record_property("shown", done.stdout[done.stdout.index("Fan-out, 1 + N") :])
    run = load_run(target)
    took_part = {record.contestant for record in run.find_records(FAN_OUT, size=1_000) if record.figures["rate"] > 0}
    assert {"limit", "standalone"} <= took_part
    assert took_part == set(run.options["contestants"].split())
    assert run.find_records(CHAIN, "standalone", 20)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_each_call_of_the_verbs_bench_changes_all_of_its_tasks(tmp_path: Path) -> None:
    options = Options([CONTESTANTS["standalone"]], frozenset({VERBS}), rounds=1, handled=(200,), rest=0.0)

    run = run_bench(options, target=None, folder=tmp_path)

    assert run.failures == []
    (record,) = run.find_records(VERBS, "standalone", 200)
    assert set(record.figures) == {"add", *CALLS}


# --- sums


def test_a_ratio_is_taken_within_each_round() -> None:
    run = make_run(
        fan_out("limit", 1, 3000), fan_out("standalone", 1, 1500),
        fan_out("limit", 2, 1000), fan_out("standalone", 2, 900),
        fan_out("limit", 3, 2000), fan_out("standalone", 3, 1200), fan_out("celery", 3, 400),
    )  # fmt: skip

    assert compare_to_limit(run, "standalone", 10_000) == pytest.approx(0.6)
    assert compute_ratio(
        run.find_records(FAN_OUT, "standalone"), run.find_records(FAN_OUT, "celery"), "rate"
    ) == pytest.approx(3.0)
    assert compute_ratio(run.find_records(FAN_OUT, "standalone"), run.find_records(FAN_OUT, "huey"), "rate") is None


def test_repeats_within_a_round_count_as_their_median() -> None:
    repeated = [fan_out("limit", 1, rate) for rate in (10, 30, 20)] + [fan_out("limit", 2, 5)]

    assert group_by_round(repeated, "rate") == {1: 20, 2: 5}


@pytest.mark.parametrize(
    ("rate", "verdict"), [(2500, "goal reached"), (2100, "bar reached"), (1500, "missed by 0.10 L")]
)
def test_a_goal_says_which_bar_is_reached_and_by_how_much_it_is_missed(rate: float, verdict: str) -> None:
    run = make_run(fan_out("limit", 1, 3000), fan_out("standalone", 1, rate))

    assert [(goal.what, goal.verdict) for goal in goals.list_goals(run)] == [
        ("fan-out 10,000, share of the limit", verdict)
    ]


def test_small_growth_of_memory_is_good() -> None:
    run = make_run(
        Record(MEMORY, "sqlite", 1_000, 1, {"rss.controller": 90.0}),
        Record(MEMORY, "sqlite", 1_000_000, 1, {"rss.controller": 120.0}),
    )

    (goal,) = goals.list_goals(run)

    assert (goal.measured, goal.verdict) == (30.0, "bar reached")


# --- order


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """Give empty stores: a plan starts nothing."""
    with Resources(tmp_path) as resources:
        yield Stores(resources)


def test_every_round_takes_all_contestants_in_turn(stores: Stores) -> None:
    names = ["limit", "standalone", "celery"]
    options = Options(
        [CONTESTANTS[name] for name in names], frozenset({FAN_OUT}), rounds=2, sizes=(1_000, 100_000), rest=0
    )

    titles = [step.title for step in plan_steps(options, stores)]

    assert titles == [
        *(f"round {round_}, {name}" for round_ in (1, 2) for name in names),
        *(f"round {round_}, {name}, 100,000" for round_ in (1, 2) for name in names[:2]),
    ]


def test_a_measurement_of_more_than_a_minute_is_made_once(stores: Stores) -> None:
    options = Options([CONTESTANTS["standalone"]], frozenset({FAN_OUT}), rounds=3, sizes=(1_000_000,), rest=0)

    assert [step.title for step in plan_steps(options, stores)] == ["round 1, standalone, 1,000,000"]


# --- accounting


def test_ended_children_count_as_tasks_and_peaks_are_read() -> None:
    script = (
        "import subprocess, sys\n"
        "sum(range(3_000_000))\n"
        "subprocess.run([sys.executable, '-c', 'sum(range(12_000_000))'])\n"
        "held = bytearray(64 << 20)\n"
        "print('done', flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"done\n"
        used = accounting.read_cpu({"worker 1": process.pid})
        peak = accounting.read_peaks({"worker 1": process.pid})["worker 1"]
        assert process.stdin is not None
        process.stdin.close()

    assert used["tasks"] > used["worker"] > 0
    assert 64 < peak < 200


def test_processes_below_another_are_found_at_any_depth() -> None:
    command = ["sh", "-c", "sh -c 'cat; :'; :"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        until(lambda: len(accounting.list_processes(process.pid)) == 3, "three processes run")
        assert process.stdin is not None
        process.stdin.close()

    assert accounting.list_processes(os.getpid())[0] == os.getpid()


def test_a_bare_process_reads_the_clock_after_its_start(tmp_path: Path) -> None:
    assert 0 < bare.measure_own_latency(f"{tmp_path}/clock") < 10


# --- tables, chart and document


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    run = make_run(fan_out("limit", 1, 3000, seconds=3.5))

    save_run(run, tmp_path / "run.json")

    assert load_run(tmp_path / "run.json") == run


def test_the_document_contains_the_measurements_and_names_the_missing_ones() -> None:
    run = make_run(fan_out("limit", 1, 3000), fan_out("standalone", 1, 2100))
    text = "head\n<!-- fan-out -->\nold\n<!-- end -->\nbetween\n<!-- chain -->\nold\n<!-- end -->\n"

    filled = report.fill_document(text, run)

    assert "| Echelon standalone | 2,100 | 0.70 |" in filled
    assert "<!-- chain -->\nNot measured in this run.\n<!-- end -->" in filled
    assert "old" not in filled
    assert report.fill_document(filled, run) == filled


def test_the_document_has_a_place_for_every_table() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8")
    figures = {"rate": 1.0, "cpu.tasks": 1.0, "rss.controller": 1.0, "ms": 1.0, "median": 1.0, "p95": 1.0}
    benches = ("fan-out", "chain", "latency", "api", "growth", "memory", "verbs")
    run = make_run(*(Record(bench, "sqlite", 1_000, 1, figures) for bench in benches))

    made = [table.key for table in make_tables(run)]

    assert sorted(made) == sorted([*benches, "parts"])
    assert [key for key in ["goals", "run", "chart", *made] if f"<!-- {key} -->" not in text] == []


def test_the_document_agrees_with_its_records() -> None:
    text = report.DOCUMENT.read_text(encoding="utf-8")
    if not report.RECORDS.exists():
        assert "No full run has been made yet." in text
        return
    run = load_run(report.RECORDS)

    assert report.fill_document(text, run) == text, "python -m bench report docs/evidence/performance.json"
    assert report.CHART.read_text(encoding="utf-8") == chart.draw_chart(run)


def test_the_chart_is_well_formed_and_its_longest_bar_is_the_best() -> None:
    drawn = chart.draw_chart(make_run(fan_out("limit", 1, 3000), fan_out("standalone", 1, 1500)))

    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(drawn)
    widths = [float(bar.attrib["width"]) for bar in root.iter(f"{space}rect")][1:]
    assert root.find(f"{space}title") is not None
    assert widths[0] == pytest.approx(2 * widths[1])
