"""`standalone`: what keeps it from starting ends it, with a reason and an exit code."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from echelon.shared.command import ExitCode
from tests.commands.calling import ROOT, Caller

HELLO = ROOT / "example/hello.yaml"


@pytest.fixture
def echelon(tmp_path: Path) -> Caller:
    return Caller(home=tmp_path)


def test_a_volume_that_cannot_be_made_ends_it_instead_of_being_tried_for_ever(echelon: Caller, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    called = echelon("standalone", "--catalogue", HELLO, "--volume", tmp_path / "file", "--listen", "127.0.0.1:0")

    assert called.code == ExitCode.ENGINE
    assert called.err.count("cannot make a volume") == 1
    # The lines of gunicorn would only repeat that something failed.
    assert len(called.err.splitlines()) == 1


def test_an_address_that_others_reach_is_refused_without_a_token(echelon: Caller, tmp_path: Path) -> None:
    called = echelon("standalone", "--catalogue", HELLO, "--volume", tmp_path, "--listen", "0.0.0.0:0")

    assert called.code == ExitCode.USAGE
    assert "set a token" in called.err


def test_an_address_that_is_taken_is_told_with_the_remedy(echelon: Caller, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        called = echelon("standalone", "--catalogue", HELLO, "--volume", tmp_path / "volume", "--listen", taken)

    assert called.code == ExitCode.ENGINE
    assert f"{taken} is taken by another program" in called.err and "--listen" in called.err
    assert len(called.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("host", "said"), [("192.0.2.7", "no interface of this machine has"), ("echelon.invalid", "has no address here")]
)
def test_an_address_that_this_machine_has_not_is_told_at_once(
    echelon: Caller, tmp_path: Path, host: str, said: str
) -> None:
    called = echelon(
        "standalone", "--catalogue", HELLO, "--volume", tmp_path / "volume", "--insecure", "--listen", f"{host}:8099"
    )

    assert called.code == ExitCode.ENGINE
    assert host in called.err and said in called.err and "--listen" in called.err
    assert len(called.err.splitlines()) == 1


def test_a_catalogue_that_is_not_valid_is_not_served(echelon: Caller, tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("jobs: {hello: {stages: []}}\n")

    called = echelon("standalone", "--catalogue", tmp_path / "wrong.yaml", "--volume", tmp_path / "volume")

    assert called.code == ExitCode.NOT_VALID
    assert "wrong.yaml:1:" in called.err
