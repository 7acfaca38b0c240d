"""What every ring of tests shares: seeded randomness, and who runs beside whom."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

_HERE = Path(__file__).parent

# A seed of its own per example set would make a red build that nobody can repeat.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep a file's tests together, for they share servers; and all of tests/system, for they fill a machine."""
    for item in items:
        place = item.path.relative_to(_HERE)
        group = "system" if place.parts[0] == "system" else str(place)
        item.add_marker(pytest.mark.xdist_group(group))
    # What takes longest begins first.
    items.sort(key=lambda item: item.path.relative_to(_HERE).parts[0] not in ("system", "simulation"))
