"""One real standalone for all tests of the commands that talk to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands.calling import Caller
from tests.commands.catalogue import CATALOGUE
from tests.system.process import Standalone


@pytest.fixture(scope="package")
def standalone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standalone]:
    with Standalone(tmp_path_factory.mktemp("standalone"), CATALOGUE, "--slots", "4") as running:
        yield running
        running.terminate()


@pytest.fixture
def echelon(standalone: Standalone, tmp_path: Path) -> Caller:
    return Caller(home=tmp_path, url=standalone.url)


@pytest.fixture
def alone(tmp_path: Path) -> Caller:
    """A user without a controller."""
    return Caller(home=tmp_path, url="http://127.0.0.1:9")


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    file = tmp_path / "jobs.yaml"
    file.write_text(CATALOGUE)
    return file
