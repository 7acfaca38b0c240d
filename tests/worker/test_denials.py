"""A file that could not be executed: the cause is named, and the remedy works."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from echelon.worker.runtimes.denials import explain_denial


def script(folder: Path, mode: int, first_line: str = "#!/bin/sh") -> Path:
    made = folder / "script"
    made.write_text(f"{first_line}\nexit 0\n")
    made.chmod(mode)
    return made


@pytest.fixture
def noexec(tmp_path: Path) -> Iterator[Path]:
    """Give a folder on a file system from which nothing is executed."""
    command = ["mount", "-t", "tmpfs", "-o", "noexec", "tmpfs", tmp_path]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("this user cannot mount a file system")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_mode_without_execution_is_mended_by_chmod(tmp_path: Path) -> None:
    file = script(tmp_path, 0o644)

    assert explain_denial(os.fsencode(file)) == "is not executable: set its mode with chmod +x"
    file.chmod(0o755)
    assert subprocess.run([file], check=False).returncode == 0


def test_a_noexec_file_system_is_named_and_an_interpreter_helps(noexec: Path) -> None:
    file = script(noexec, 0o755)
    with pytest.raises(PermissionError):
        subprocess.run([file], check=False)

    assert "mounted noexec: give it to its interpreter, such as sh" in explain_denial(os.fsencode(file))
    assert subprocess.run(["sh", file], check=False).returncode == 0


def test_an_interpreter_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    interpreter = tmp_path / "interpreter"
    interpreter.write_text("")
    file = script(tmp_path, 0o755, f"#!{interpreter}")
    with pytest.raises(PermissionError):
        subprocess.run([file], check=False)

    assert explain_denial(os.fsencode(file)).endswith(f"cannot be executed: {interpreter}")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    assert explain_denial(os.fsencode(tmp_path)) == "cannot be executed: it is no file"
    assert "cannot be reached" in explain_denial(os.fsencode(tmp_path / "gone" / "script"))
