"""Secrets that have been read leave the environment and what the system shows of a process's start."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems show nothing of this in /proc")

FORGET = """
import json, os, sys
from echelon.shared.secrecy import forget_secrets
forget_secrets(["ECHELON_TOKEN", "ECHELON_BROKER", "ECHELON_DATASTORE"], ["amqp://u:p4ss@host", "t0ken"])
def show(name):
    return open(f"/proc/self/{name}", errors="surrogateescape").read().split(chr(0))
print(json.dumps([show("cmdline"), show("environ"), dict(os.environ), sys.argv]))
"""


def forget(*arguments: str, **environ: str) -> tuple[list[str], list[str], dict[str, str], list[str]]:
    """Return what a process shows that has forgotten: arguments, environment; and what it and its children have."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    command = [sys.executable, "-c", FORGET, *arguments]
    done = subprocess.run(command, env=kept | environ, capture_output=True, check=True)
    shown, started_with, own, known = json.loads(done.stdout)
    return shown[3:-1], started_with, own, known[1:]


def test_a_variable_is_forgotten_and_hidden() -> None:
    _, started_with, own, _ = forget(ECHELON_TOKEN="t0ken", ECHELON_BROKER="amqp://x:y@z", OTHER="t0ken", EMPTY="")

    assert {"ECHELON_TOKEN=*****", "ECHELON_BROKER=************", "OTHER=t0ken", "EMPTY="} <= set(started_with)
    assert own["OTHER"] == "t0ken" and not own.keys() & {"ECHELON_TOKEN", "ECHELON_BROKER"}


def test_an_argument_is_hidden_in_both_forms_and_nothing_beside_it() -> None:
    given = ["--broker", "amqp://u:p4ss@host", "--token=t0ken", "t0ken-volume", "--x=at0ken", ""]
    shown, _, _, known = forget(*given)

    assert shown == ["--broker", "*" * 18, "--token=*****", "t0ken-volume", "--x=at0ken", ""]
    assert known == given, "what the process itself has read stays"


def test_an_argument_that_is_no_text_does_no_harm() -> None:
    shown, _, _, _ = forget("\udcff=t0ken", "t0ken")

    assert [os.fsencode(one) for one in shown] == [b"\xff=*****", b"*****"]
