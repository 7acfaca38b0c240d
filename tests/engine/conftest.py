"""The house that most tests of the engine live in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.house import House, Make
from tests.engine.jobs import CATALOGUE


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Give a builder of houses, each in a folder of its own."""
    houses: list[House] = []

    def build(catalogue: str = CATALOGUE, **settings: object) -> House:
        folder = tmp_path / str(len(houses))
        folder.mkdir()
        houses.append(House(folder, catalogue, **settings))
        return houses[-1]

    yield build
    for house in houses:
        house.close()


@pytest.fixture
def house(make: Make) -> House:
    """Give a house with the usual catalogue."""
    return make()
