"""Secrets of many tasks that are given anew at once, and what a list of tasks comes to where some are missing."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Composition, Given, InvalidInputs, Submission
from echelon.shared.ids import JobId, new_task_ids
from echelon.shared.messages import Outcome
from echelon.shared.sealing import Sealer
from tests.contract.servers import postgresql_server
from tests.contract.stores import postgresql_template, postgresql_url, store_url
from tests.engine.house import House, Make, Puppet
from tests.engine.jobs import CATALOGUE

__all__ = ["postgresql_server", "postgresql_template", "postgresql_url", "store_url"]

CANARY = "S3CR3T-canary"


@pytest.fixture
def anywhere(make: Make, store_url: str) -> House:
    """Give a house on each product."""
    return make(CATALOGUE, datastore=store_url)


def half_done(house: House, puppet: Puppet) -> JobId:
    """Return a failed job of two tasks with secrets of their own: the first has failed, the second was withdrawn."""
    tasks = [{"task_class": "fetch", "input": {"url": url, "token": CANARY}} for url in "ab"]
    job_id, _ = house.jobs.compose(Composition("half", [{"name": "Fetch", "max_parallel": 1, "tasks": tasks}]))
    house.turn()
    puppet.finish(puppet.take(), Outcome.FAILED)
    assert [task.state for task in house.tasks(job_id, 0)] == [State.FAILED, State.CANCELLED]
    return job_id


@pytest.mark.parametrize(
    ("given", "said"), [({"token": "again"}, "task 1 of stage 0 has lost its own token"), ({"tokn": "x"}, "/tokn")]
)
def test_of_a_list_of_tasks_a_job_that_lacks_secrets_keeps_no_other_from_running(
    anywhere: House, given: dict[str, object], said: str
) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    others = [house.submit("one") for _ in range(2)]
    puppet.run_all(lambda _grant, _task: Outcome.FAILED)
    lacking = half_done(house, puppet)
    before = house.view(lacking), house.tasks(lacking), house.kinds(lacking)
    first, stuck, last = (house.tasks(job_id)[0].task_id for job_id in (others[0], lacking, others[1]))

    answer = house.jobs.control.retry_tasks(
        dict.fromkeys((first, stuck, last)),
        given=Given(tasks={stuck: given}),  # type: ignore[dict-item]
    )

    assert [(one.task_id, one.changed) for one in answer.tasks] == [(first, True), (stuck, False), (last, True)]
    assert said in str(answer.tasks[1].reason)
    assert (house.view(lacking), house.tasks(lacking), house.kinds(lacking)) == before, "nothing happened to it"
    house.turn()
    puppet.run_all()
    assert [house.view(job_id).state for job_id in others] == [State.COMPLETED] * 2


def test_a_list_that_brings_the_secrets_of_all_that_comes_back_opens_their_job(house: House) -> None:
    puppet = Puppet(house)
    job_id = half_done(house, puppet)
    both = [task.task_id for task in house.tasks(job_id, 0)]

    answer = house.jobs.control.retry_tasks(
        dict.fromkeys(both), given=Given(tasks={task_id: {"token": "again"} for task_id in both})
    )

    assert [one.changed for one in answer.tasks] == [True, True]
    house.turn()
    puppet.run_all()
    assert house.view(job_id).state is State.COMPLETED


def test_a_job_with_thousands_of_withdrawn_secrets_is_retried_with_all_of_them(anywhere: House) -> None:
    house, puppet = anywhere, Puppet(anywhere, room={"*": 1})
    job_id, _ = house.jobs.submit(Submission("adding", {}))
    added = house.jobs.control.add_tasks(job_id, 1, [{"url": "u", "token": CANARY}] * 2_001).task_ids
    house.turn()
    puppet.listen()
    puppet.finish(puppet.take())
    puppet.room = {}
    puppet.finish(puppet.take(), Outcome.FAILED)
    assert house.view(job_id).stages[1].tally.cancelled == 2_000
    tokens = {task_id: f"again {number}" for number, task_id in enumerate(added)}
    given = Given(tasks={task_id: {"token": token} for task_id, token in tokens.items()})

    house.jobs.control.job(Verb.RETRY, job_id, given=given)
    puppet.room = {"*": 3_000}
    puppet.heartbeat()
    while len(puppet.granted) < len(added):
        count = len(puppet.granted)
        puppet.heartbeat()
        assert len(puppet.granted) > count

    seal = Sealer(house.volume).open_seal(puppet.granted[0][0].seal)
    assert {task.task_id: seal.open_text(str(task.input["token"])) for _, task in puppet.granted} == tokens


def test_a_job_of_an_earlier_release_that_was_opened_again_asks_for_the_secrets_that_were_erased_before(
    anywhere: House,
) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    both = [{"task_class": "fetch", "input": {"url": url, "token": CANARY}} for url in "ab"]
    job_id, _ = house.jobs.compose(Composition("mine", [{"name": "Fetch", "tasks": both}]))
    house.turn()
    puppet.run_all(lambda _grant, _task: Outcome.FAILED)
    first, second = (task.task_id for task in house.tasks(job_id, 0))
    as_an_earlier_release_left_it(house)
    house.jobs.control.task(Verb.RETRY, first, given=Given(tasks={first: {"token": "again"}}))
    house.turn()

    with pytest.raises(InvalidInputs, match=f"{second}: task 1 of stage 0 has lost its own token"):
        house.jobs.control.task(Verb.RETRY, second)
    assert house.tasks(job_id, 0)[1].state is State.FAILED
    house.jobs.control.task(Verb.RETRY, second, given=Given(tasks={second: {"token": "too"}}))
    house.turn()

    puppet.listen()
    seal = Sealer(house.volume).open_seal(puppet.granted[0][0].seal)
    assert [seal.open_text(str(task.input["token"])) for _, task in puppet.granted] == ["again", "too"]


def as_an_earlier_release_left_it(house: House) -> None:
    """Let the jobs of a store be as the migration makes ended ones that are older than seals."""
    engine = create_engine(house.settings.datastore_url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE job_inputs SET seal = NULL, seal_number = 0"))
        connection.execute(text("UPDATE tasks SET seal_number = 0"))
        # What is known of a job is known of its etag.
        connection.execute(text("UPDATE jobs SET etag = etag + 1"))
    engine.dispose()


def test_no_more_tasks_are_given_secrets_than_a_job_may_have(make: Make) -> None:
    house = make(CATALOGUE, max_items=2)
    puppet = Puppet(house)
    job_id = house.submit("one")
    puppet.finish(puppet.take(), Outcome.FAILED)
    given = Given(tasks={task_id: {"token": "x"} for task_id in new_task_ids(3)})

    with pytest.raises(InvalidInputs, match="names 3 tasks, this job has at most 2"):
        house.jobs.control.job(Verb.RETRY, job_id, given=given)
