"""A report that the engine cannot carry out holds up nobody: it goes to the dead ones, alone."""

from __future__ import annotations

import pytest

from echelon.controller.core.states import State
from echelon.shared.broker.port import Outgoing
from echelon.shared.messages import REPORTS, Finished, Outcome, Report
from tests.engine.house import House, Puppet

#: No database has a column for this.
ABSURD = 2**100


def test_a_report_that_cannot_be_carried_out_does_not_hold_up_the_others(house: House) -> None:
    sane, absurd = Puppet(house, room={"*": 1}), Puppet(house, name="absurd", room={"*": 1})
    job_ids = {house.submit("one"), house.submit("one")}
    held, poison = sane.take(), absurd.take()
    refused = Finished(poison[0].job_id, poison[1].task_id, 1, Outcome.COMPLETED, exit_code=ABSURD)
    good = Finished(held[0].job_id, held[1].task_id, 1, Outcome.COMPLETED)
    house.broker.publish(
        [
            Outgoing(REPORTS, Report(worker=absurd.worker, number=2, finished=(refused,))),
            Outgoing(REPORTS, Report(worker=sane.worker, number=2, finished=(good,), room={"*": 1})),
        ]
    )
    with pytest.raises(OverflowError):
        house.controller.engine.turn(0.0)
    house.turn()

    states = {job_id: house.view(job_id).state for job_id in job_ids}
    assert states == {held[0].job_id: State.COMPLETED, poison[0].job_id: State.RUNNING}
    assert house.jobs.counters.registry.get_sample_value("echelon_reports_rejected_total") == 1
    absurd.finish(poison)
    assert house.view(poison[0].job_id).state is State.COMPLETED
