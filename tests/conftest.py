"""What every ring of tests shares: seeded randomness, and nothing that belongs to one of them."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A seed of its own per example set would make a red build that nobody can repeat.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
