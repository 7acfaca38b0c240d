"""What tasks print: kept as it is, capped, without secrets, and never the end of the worker."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.shared.messages import Outcome
from echelon.worker.output import MASK, Capture, Masker
from tests.worker.workbench import Workbench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    made = Workbench(tmp_path, log_cap=1024 * 1024)
    yield made
    made.executor.close()


def capture(path: Path, parts: list[bytes], *, cap: int = 10_000, secrets: tuple[str, ...] = ()) -> bytes:
    made = Capture(str(path.parent), path.name, cap=cap, masker=Masker(secrets))
    for part in parts:
        made.add_output(part)
    made.finish_file()
    assert made.loss is None
    return path.read_bytes() if path.exists() else b""


def marker(dropped: int) -> bytes:
    return b"\n[echelon: %015d bytes are left out here]\n" % dropped


# --- kept as it is --------------------------------------------------------------------------------------------------


def test_stdout_and_stderr_are_kept_apart(bench: Workbench) -> None:
    bench.shell("echo out; echo err >&2")

    assert (bench.log("stdout"), bench.log("stderr")) == (b"out\n", b"err\n")


def test_any_bytes_are_kept_as_they_are(bench: Workbench) -> None:
    data = os.urandom(300_000) + b"\0\xff\x1b[31m\r\n" + b"x" * 300_000
    (bench.folder / "data").write_bytes(data)

    bench.run("cat", str(bench.folder / "data"))

    assert bench.log() == data


def test_what_a_running_task_prints_can_be_read_at_once(bench: Workbench) -> None:
    ref = bench.start("sh", "-c", "echo begun; printf 'no newline'; sleep 300")

    bench.until(lambda: bench.log() == b"begun\nno newline")

    bench.executor.stop_attempt(ref, Outcome.STOPPED, "cancelled")
    bench.end(ref)


def test_each_attempt_has_its_own_logs(bench: Workbench) -> None:
    bench.shell("echo one", attempt=1)
    bench.shell("echo two", attempt=2)

    assert (bench.log(attempt=1), bench.log(attempt=2)) == (b"one\n", b"two\n")


def test_a_link_that_a_task_planted_where_its_log_goes_is_not_followed(bench: Workbench) -> None:
    target = bench.folder / "precious"
    target.write_text("precious")

    bench.shell(f"ln -s {target} {bench.log_path()}; echo printed")

    assert target.read_text() == "precious"
    assert bench.log() == b"printed\n"


# --- capped ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 9_375, 9_376, 10_000])
@pytest.mark.parametrize("part", [7, 100_000])
def test_what_fits_into_the_cap_is_whole(tmp_path: Path, size: int, part: int) -> None:
    data = bytes(n % 251 for n in range(size))

    assert capture(tmp_path / "log", [data[n : n + part] for n in range(0, size, part)]) == data


@pytest.mark.parametrize("part", [7, 1_000, 1_000_000])
def test_over_the_cap_head_and_tail_stay_with_a_marker_between(tmp_path: Path, part: int) -> None:
    data = bytes(n % 251 for n in range(123_456))

    kept = capture(tmp_path / "log", [data[n : n + part] for n in range(0, len(data), part)])

    assert kept == data[:9_375] + marker(len(data) - 10_000) + data[-625:]


def test_while_it_runs_the_file_says_how_much_is_left_out_so_far(tmp_path: Path) -> None:
    made = Capture(str(tmp_path), "log", cap=10_000, masker=Masker([]))

    made.add_output(b"x" * 3_000_000)
    first = (tmp_path / "log").read_bytes()
    made.add_output(b"y" * 3_000_000)
    second = (tmp_path / "log").read_bytes()
    made.finish_file()

    assert first == b"x" * 9_375 + marker(3_000_000 - 10_000)
    assert second == b"x" * 9_375 + marker(6_000_000 - 10_000)
    assert (tmp_path / "log").read_bytes() == second + b"y" * 625


def test_a_flood_leaves_the_workers_memory_flat_and_the_exit_code_right(bench: Workbench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    finished = bench.shell("yes | head -c 300000000; yes | head -c 300000000 >&2; exit 7")

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (finished.outcome, finished.exit_code) == (Outcome.FAILED, 7)
    assert grown < 10 * 1024
    for stream in ("stdout", "stderr"):
        log = bench.volume.open_log(bench.job_id, 0, 0, 1, "stdout" if stream == "stdout" else "stderr")
        assert log is not None
        with log:
            assert len(log.read()) == 1024 * 1024 + len(marker(0))


def test_a_line_of_a_gigabytes_kind_is_no_trouble(bench: Workbench) -> None:
    finished = bench.shell("head -c 50000000 /dev/zero")

    assert finished.outcome is Outcome.COMPLETED
    assert bench.log()[:3] == b"\0\0\0"


# --- without secrets ------------------------------------------------------------------------------------------------


def test_secrets_are_masked_in_both_streams_and_in_errors_and_results(bench: Workbench) -> None:
    finished = bench.run(
        "sh",
        "-c",
        'echo "<$1>"; echo "no $2 here" >&2; echo "$1 $2" > "$ECHELON_OUTPUT"; exit 1',
        "sh",
        "{token}",
        "{own}",
        sealed={"token": bench.sealer.seal_text("S3CR3T-job")},
        task_input={"own": bench.sealer.seal_text("S3CR3T-task")},
        secret=frozenset({"token", "own"}),
    )

    assert bench.log("stdout") == b"<***>\n"
    assert bench.log("stderr") == b"no *** here\n"
    assert finished.error == "exit code 1: no *** here"
    assert finished.result == "*** ***\n"


def test_a_secret_printed_in_two_pieces_is_masked(bench: Workbench) -> None:
    ref = bench.start(
        "sh",
        "-c",
        "printf 'a S3CR'; touch half; while ! [ -e go ]; do sleep 0.01; done; printf '3T b'",
        sealed={"token": bench.sealer.seal_text("S3CR3T")},
    )
    bench.until(lambda: (bench.work / "half").exists() and bench.log() == b"a ")

    (bench.work / "go").touch()
    bench.end(ref)

    assert bench.log() == b"a *** b"


def test_what_only_begins_like_a_secret_comes_out_in_the_end(tmp_path: Path) -> None:
    assert capture(tmp_path / "log", [b"a S3CR"], secrets=("S3CR3T",)) == b"a S3CR"


def test_a_secret_that_contains_another_is_masked_as_a_whole(tmp_path: Path) -> None:
    assert capture(tmp_path / "log", [b"abc", b"def abc."], secrets=("abc", "abcdef")) == b"*** ***."


def test_a_secret_is_masked_with_and_without_the_newline_it_was_given_with(tmp_path: Path) -> None:
    assert capture(tmp_path / "log", [b"[token] token\n."], secrets=("token\n",)) == b"[***] ***."


def test_an_empty_secret_masks_nothing(tmp_path: Path) -> None:
    assert capture(tmp_path / "log", [b"plain"], secrets=("",)) == b"plain"


@given(
    secrets=st.lists(st.text("ab", min_size=1, max_size=6), min_size=1, max_size=3),
    parts=st.lists(st.text("abc", max_size=8), max_size=8),
)
def test_masking_does_not_depend_on_how_the_output_is_cut(secrets: list[str], parts: list[str]) -> None:
    masker = Masker(secrets)
    pieces, waiting = [], b""

    for part in parts:
        masked, waiting = masker.mask_part(waiting + part.encode())
        assert len(waiting) < max(len(secret) for secret in secrets)
        pieces.append(masked)
    pieces.append(masker.mask_bytes(waiting))

    assert b"".join(pieces) == masker.mask_bytes("".join(parts).encode())


def test_a_long_secret_of_like_bytes_does_not_make_masking_slow(tmp_path: Path) -> None:
    secret = "a" * 60_000 + "b"

    kept = capture(tmp_path / "log", [b"a" * 65_536] * 50 + [b"b"], cap=10_000_000, secrets=(secret,))

    assert kept == b"a" * (65_536 * 50 - 60_000) + MASK


# --- a full disk ----------------------------------------------------------------------------------------------------


def test_a_log_that_cannot_be_written_is_noted_and_the_exit_still_counts(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(".stdout"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)

    finished = bench.shell("echo out; echo err >&2; exit 0")

    assert finished.outcome is Outcome.COMPLETED
    assert finished.error == "stdout is not complete: No space left on device (ENOSPC)"
    assert bench.log("stderr") == b"err\n"
