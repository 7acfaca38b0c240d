"""The lengths of time that controllers and workers share keep two attempts of a task apart, whatever is set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echelon.shared import lease as times
from echelon.shared.broker.rabbitmq.link import LONGEST_PAUSE
from echelon.shared.lease import DEFAULT_LEASE, RETURN_TIME, RULES, SHORTEST_LEASE, find_violations

#: For each rule that a constant can break: such a constant, and a value that breaks it.
BROKEN = {
    "one heartbeat may get lost": ("RENEWAL_MISSED", 2.0),
    "an attempt that is granted with a whole lease": ("RENEWED_WITHIN", 2.0),
    "an attempt whose order answers": ("CAPACITY_TRUSTED_PART", 0.9),
    "a lease that counts from before": ("RESERVE_PART", 0.04),
    "a set clock that goes unnoticed": ("CLOCK_TOLERANCE_PART", 0.3),
    "a worker that lives was heard lately": ("HEARD_LATELY_PART", 0.3),
    "a worker that was stopped": ("HEARD_LATELY_PART", 0.7),
    "a controller whose store or broker hangs": ("HANGS_PART", 0.3),
    "a status file is written twice": ("STATUS_WRITTEN_TIMES", 1.5),
    "the status file of a killed controller": ("STATUS_FRESH_PART", 1.1),
    "a worker that no controller can reach": ("STATUS_READ_EVERY", 10.0),
    "a worker ends an attempt before": ("STATUS_FRESH_FOR", 0.2),
    "a worker remembers an order": ("ORDER_REMEMBERED_FOR", 200.0),
    "an order can lie in the queue": ("QUEUE_LIFETIME", 100.0),
    "a worker remembers the report": ("REPORT_REMEMBERED_FOR", 0.5),
    "a worker is known": ("WORKER_FORGOTTEN_AFTER", 10.0),
}

leases = st.floats(min_value=SHORTEST_LEASE, max_value=900.0)
heartbeats = st.floats(min_value=0.1, max_value=3600.0)


def test_the_default_settings_keep_every_rule() -> None:
    assert find_violations(DEFAULT_LEASE) == []


@given(leases, heartbeats)
def test_every_lease_up_to_a_quarter_of_an_hour_keeps_every_rule(lease: float, heartbeat: float) -> None:
    assert find_violations(lease, heartbeat) == []


@pytest.mark.parametrize("begins", BROKEN)
def test_a_constant_that_breaks_a_rule_is_caught(monkeypatch: pytest.MonkeyPatch, begins: str) -> None:
    name, value = BROKEN[begins]
    monkeypatch.setattr(times, name, value)
    settings = (SHORTEST_LEASE, DEFAULT_LEASE)

    assert any(sentence.startswith(begins) for lease in settings for sentence in find_violations(lease))


def test_each_rule_has_a_constant_that_breaks_it() -> None:
    assert [next((begins for begins in BROKEN if sentence.startswith(begins)), sentence) for sentence, _ in RULES] == [
        *BROKEN
    ]


def test_after_an_outage_a_worker_has_the_time_of_several_reconnects() -> None:
    assert 3 * LONGEST_PAUSE < RETURN_TIME
