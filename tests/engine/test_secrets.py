"""Secrets of single tasks: sealed with a key of their job's own, beyond anybody's reach when it has ended."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, text

from echelon.controller.core.answers import Verb
from echelon.controller.core.states import State
from echelon.controller.engine.base.requests import Choice, Composition, Submission
from echelon.shared.errors import Conflict
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue, Outcome
from echelon.shared.sealing import Sealer, seal_value
from tests.contract.canary import dump, opened
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


def composed(house: House) -> JobId:
    stages = [{"name": "Fetch", "tasks": [{"task_class": "fetch", "input": {"url": "u", "token": CANARY}}]}]
    return house.jobs.submit_composition(Composition("mine", stages, idempotency_key="k"))[0]


def added(house: House) -> JobId:
    job_id, _ = house.jobs.submit_job(Submission("adding", {}))
    house.jobs.control.add_tasks(job_id, 1, [{"url": "u", "token": CANARY}])
    return job_id


def spawned(house: House, puppet: Puppet) -> JobId:
    """Return a job whose items were left by a worker of this release: their secrets are sealed."""
    job_id = house.submit("many")
    held = puppet.take()
    assert held[0].seal is not None
    seal = Sealer(house.volume).open_seal(held[0].seal)
    puppet.finish(held, items=[{"url": "u", "token": seal_value(seal, CANARY)}])
    return job_id


def begun(house: House, puppet: Puppet, way: str) -> JobId:
    """Return a job with a task that has a secret of its own and is with the puppet."""
    job_id = {"composed": composed, "added": added}[way](house) if way != "spawned" else spawned(house, puppet)
    house.turn()
    while not any("token" in task.input for _, task in puppet.granted):
        puppet.listen()
        if not any("token" in task.input for _, task in puppet.granted):
            puppet.finish(puppet.take())
    return job_id


WAYS = pytest.mark.parametrize("way", ["composed", "added", "spawned"])


@WAYS
@pytest.mark.parametrize("end", [State.COMPLETED, State.FAILED, State.CANCELLED])
def test_a_tasks_own_secret_opens_for_its_worker_and_for_nobody_when_the_job_has_ended(
    anywhere: House, way: str, end: State
) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    job_id = begun(house, puppet, way)
    (grant, task) = held = puppet.take()
    seal = Sealer(house.volume).open_seal(grant.seal)
    while_open = dump(house.settings.datastore_url)
    told = str(task.input["token"])
    if end is State.CANCELLED:
        house.jobs.control.change_job(Verb.CANCEL, job_id)
    else:
        puppet.finish(held, Outcome.COMPLETED if end is State.COMPLETED else Outcome.FAILED)
        puppet.run_all()

    assert seal.open_text(told) == CANARY
    assert CANARY in opened(house.volume, while_open), "this test would find what can be opened"
    assert house.view(job_id).state is end
    after = dump(house.settings.datastore_url)
    assert (CANARY in while_open, CANARY in after, opened(house.volume, after)) == (False, False, [])


@WAYS
def test_a_deleted_job_leaves_nothing_that_can_be_opened(anywhere: House, way: str) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    job_id = begun(house, puppet, way)
    puppet.run_all()
    house.jobs.delete_job(job_id)

    after = dump(house.settings.datastore_url)
    assert (CANARY in after, opened(house.volume, after)) == (False, [])


def test_no_secret_stands_in_a_composed_jobs_definition_nor_shows_in_its_revision(house: House) -> None:
    def revision(token: str) -> str | None:
        stages = [{"name": "Fetch", "tasks": [{"task_class": "fetch", "input": {"url": "u", "token": token}}]}]
        return house.view(house.jobs.submit_composition(Composition("mine", stages))[0]).revision

    assert revision("one") == revision("two")
    assert "'one'" not in dump(house.settings.datastore_url) and '"one"' not in dump(house.settings.datastore_url)


def test_what_a_repeated_request_is_known_by_cannot_be_guessed_from_the_store(house: House, make: Make) -> None:
    def submit(place: House, token: str) -> JobId:
        return place.jobs.submit_job(Submission("guarded", {"token": token}, idempotency_key="key"))[0]

    def kept(place: House) -> str:
        engine = create_engine(place.settings.datastore_url)
        with engine.connect() as connection:
            found = str(connection.execute(text("SELECT request_hash FROM job_inputs")).scalar_one())
        engine.dispose()
        return found

    other = make()
    job_id = submit(house, "1234")
    submit(other, "1234")

    assert submit(house, "1234") == job_id
    with pytest.raises(Conflict, match="another request"):
        submit(house, "4321")
    assert kept(house) != kept(other), "it depends on the volume's key"


def test_a_request_without_a_key_leaves_no_digest(house: House) -> None:
    house.submit("guarded", token="1234")

    assert _column(house, "job_inputs", "request_hash") == [None]


def test_a_key_of_an_earlier_release_still_finds_its_job(house: House) -> None:
    job_id, _ = house.jobs.submit_job(Submission("guarded", {"token": "t"}, idempotency_key="key"))
    _execute(house, "UPDATE job_inputs SET request_hash = NULL")

    assert house.jobs.submit_job(Submission("guarded", {"token": "t"}, idempotency_key="key")) == (job_id, False)


# --- asked again ----------------------------------------------------------------------------------------------------


@WAYS
def test_a_job_whose_task_has_lost_its_own_secret_is_not_retried(anywhere: House, way: str) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    job_id = begun(house, puppet, way)
    held = puppet.take()
    index, stage = held[1].index, held[0].stage
    puppet.finish(held, Outcome.FAILED)
    before = house.view(job_id)

    with pytest.raises(Conflict, match=f"task {index} of stage {stage} needs its own token, .* submit the job again"):
        house.jobs.control.change_job(Verb.RETRY, job_id)

    assert house.view(job_id) == before, "nothing happened"
    assert opened(house.volume, dump(house.settings.datastore_url)) == []


@pytest.mark.parametrize("ask", ["task", "stage", "chosen", "named", "job"])
def test_however_it_is_asked_no_task_runs_again_without_its_own_secret(house: House, ask: str) -> None:
    puppet = Puppet(house)
    job_id = begun(house, puppet, "composed")
    held = puppet.take()
    task_id = held[1].task_id
    puppet.finish(held, Outcome.FAILED)
    control = house.jobs.control
    if ask == "named":
        (told,) = control.retry_tasks({task_id: None}).tasks
        assert told.reason is not None and "token" in told.reason
        assert house.view(job_id).state is State.FAILED
        return
    with pytest.raises(Conflict, match="token"):
        if ask == "task":
            control.change_task(Verb.RETRY, task_id)
        elif ask == "stage":
            control.change_stage(Verb.RETRY, job_id, 0)
        elif ask == "chosen":
            control.change_job(Verb.RETRY, job_id, choice=Choice(state=State.FAILED))
        else:
            control.change_job(Verb.RETRY, job_id)

    assert house.view(job_id).state is State.FAILED


def test_a_skip_that_brings_a_later_stage_back_without_its_secrets_is_refused_until_that_is_skipped(
    house: House,
) -> None:
    puppet = Puppet(house)
    stages = [
        {"name": "First", "task_class": "step"},
        {"name": "Fetch", "tasks": [{"task_class": "fetch", "input": {"url": "u", "token": CANARY}}]},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("mine", stages))
    house.turn()
    puppet.finish(puppet.take(), Outcome.FAILED)
    (fetch,) = house.tasks(job_id, 1)
    with pytest.raises(Conflict, match="task 0 of stage 1 needs its own token"):
        house.jobs.control.change_stage(Verb.SKIP, job_id, 0)

    house.jobs.control.change_task(Verb.SKIP, fetch.task_id)
    house.jobs.control.change_stage(Verb.SKIP, job_id, 0)
    house.turn()

    assert house.view(job_id).state is State.COMPLETED


def test_a_secret_lost_in_an_earlier_life_is_missed_while_the_job_is_open_again(anywhere: House) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    inputs = [{"url": "a", "token": CANARY}, {"url": "b", "token": CANARY}]
    policy = {"job_failed_on_error": False}
    stages = [
        {"name": "Fetch", "tasks": [{"task_class": "fetch", "input": one} for one in inputs], **policy},
        {"name": "Step", "task_class": "step"},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("mine", stages))
    house.turn()
    puppet.run_all(lambda _grant, _task: Outcome.FAILED)
    first = house.tasks(job_id, 0)[0].task_id
    house.jobs.control.change_job(Verb.RETRY, job_id)
    house.turn()

    with pytest.raises(Conflict, match="task 0 of stage 0 needs its own token"):
        house.jobs.control.change_task(Verb.RETRY, first)

    assert house.tasks(job_id, 0)[0].state is State.FAILED


def half_done(house: House, puppet: Puppet) -> JobId:
    """Return a failed job of two tasks, the first without a secret of its own."""
    tasks: list[JsonValue] = [
        {"task_class": "step"},
        {"task_class": "fetch", "input": {"url": "b", "token": CANARY}},
    ]
    job_id, _ = house.jobs.submit_composition(Composition("half", [{"name": "Fetch", "tasks": tasks}]))
    house.turn()
    puppet.run_all(lambda _grant, _task: Outcome.FAILED)
    return job_id


def test_of_a_list_of_tasks_a_job_that_lacks_secrets_keeps_no_other_from_running(anywhere: House) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    others = [house.submit("one") for _ in range(2)]
    lacking = half_done(house, puppet)
    before = house.view(lacking), house.tasks(lacking), house.kinds(lacking)
    first, last = (house.tasks(job_id)[0].task_id for job_id in others)
    stuck = house.tasks(lacking)[1].task_id

    answer = house.jobs.control.retry_tasks(dict.fromkeys((first, stuck, last)))

    assert [(one.task_id, one.changed) for one in answer.tasks] == [(first, True), (stuck, False), (last, True)]
    assert "task 1 of stage 0 needs its own token" in str(answer.tasks[1].reason)
    assert (house.view(lacking), house.tasks(lacking), house.kinds(lacking)) == before, "nothing happened to it"
    house.turn()
    puppet.run_all()
    assert [house.view(job_id).state for job_id in others] == [State.COMPLETED] * 2


def test_a_job_of_an_earlier_release_that_was_opened_again_misses_the_secrets_that_were_erased_before(
    anywhere: House,
) -> None:
    house = anywhere
    job_id = half_done(house, Puppet(house))
    plain, private = (task.task_id for task in house.tasks(job_id, 0))
    # As the migration leaves ended jobs that are older than seals; what is known of a job is known of its etag.
    _execute(house, "UPDATE job_inputs SET seal = NULL, seal_number = 0")
    _execute(house, "UPDATE tasks SET seal_number = 0 WHERE idx = 1")
    _execute(house, "UPDATE jobs SET etag = etag + 1")
    house.jobs.control.change_task(Verb.RETRY, plain)
    house.turn()

    with pytest.raises(Conflict, match="task 1 of stage 0 needs its own token"):
        house.jobs.control.change_task(Verb.RETRY, private)

    assert house.tasks(job_id, 0)[1].state is State.FAILED


# --- spawned items --------------------------------------------------------------------------------------------------


def test_items_that_were_sealed_in_an_earlier_life_of_their_job_cannot_run_again(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("many")
    held = puppet.take()
    old = Sealer(house.volume).open_seal(Sealer(house.volume).new_seal())
    puppet.finish(held, items=[{"url": "u", "token": seal_value(old, CANARY)}, {"url": "plain"}])
    puppet.run_all()

    lost = next(task for task in house.tasks(job_id, 0) if task.index == 0)
    assert lost.state is State.FAILED
    assert "'token'" in str(lost.error) and "erased" in str(lost.error)
    with pytest.raises(Conflict, match="token"):
        house.jobs.control.change_job(Verb.RETRY, job_id)


def test_nobody_is_asked_for_the_secret_of_an_item_that_never_fitted(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("many")
    held = puppet.take()
    seal = Sealer(house.volume).open_seal(held[0].seal)
    puppet.finish(held, items=[{"url": "u", "color": "red", "token": seal_value(seal, CANARY)}, {"url": "plain"}])
    puppet.run_all()
    unfit = next(task for task in house.tasks(job_id, 0) if task.index == 0)
    assert unfit.state is State.FAILED

    with pytest.raises(Conflict, match="did not fit"):
        house.jobs.control.change_task(Verb.RETRY, unfit.task_id)


def test_an_item_that_does_not_fit_does_not_tell_its_secret(house: House) -> None:
    puppet = Puppet(house)
    job_id = house.submit("many")
    held = puppet.take()
    seal = Sealer(house.volume).open_seal(held[0].seal)
    wrong: list[object] = [
        {"url": "u", "token": seal_value(seal, [CANARY])},
        {"url": "u", "token": seal_value(seal, f"{CANARY}\0")},
        {"url": "u", "token": seal_value(seal, {CANARY: 1})},
        {"url": 1, "size": "x", "token": seal_value(seal, CANARY)},
    ]
    puppet.finish(held, items=wrong)

    tasks = [task for task in house.tasks(job_id, 0) if task.index >= 0]
    assert {task.state for task in tasks} == {State.FAILED}
    assert CANARY not in dump(house.settings.datastore_url)
    assert CANARY not in str(tasks)


def test_items_of_a_worker_of_the_release_before_are_sealed_on_their_way_into_the_store(anywhere: House) -> None:
    house, puppet = anywhere, Puppet(anywhere)
    job_id = house.submit("many")
    puppet.finish(puppet.take(), items=[{"url": "u", "token": CANARY}])
    (grant, task) = puppet.take()

    assert CANARY not in dump(house.settings.datastore_url)
    assert Sealer(house.volume).open_seal(grant.seal).open_text(str(task.input["token"])) == CANARY
    assert house.view(job_id).state is State.RUNNING


def test_what_a_spawned_task_is_granted_names_the_secrets_of_items_to_the_spawn_tasks_worker(house: House) -> None:
    puppet = Puppet(house)
    house.submit("many")
    grant, _ = puppet.take()

    assert grant.recipe.item_secret == frozenset({"token"})


def test_a_job_without_secrets_has_no_seal(house: House) -> None:
    puppet = Puppet(house)
    house.submit("one")
    grant, _ = puppet.take()

    assert grant.seal is None
    assert _column(house, "job_inputs", "seal") == [None]


def test_tasks_of_an_ended_job_get_no_secret(house: House) -> None:
    job_id, _ = house.jobs.submit_job(Submission("adding", {}))
    house.jobs.control.change_job(Verb.CANCEL, job_id)

    with pytest.raises(Conflict):
        house.jobs.control.add_tasks(job_id, 1, [{"url": "u", "token": CANARY}])


def test_the_ends_of_a_hundred_thousand_secrets_are_one_small_change(house: House) -> None:
    puppet = Puppet(house)
    job_id = begun(house, puppet, "composed")
    house.jobs.control.change_stage(Verb.PAUSE, job_id, 0)
    house.jobs.control.add_tasks(job_id, 0, [{"url": "u", "token": CANARY}] * 50)
    sealed = _column(house, "tasks", "input")
    house.jobs.control.change_job(Verb.CANCEL, job_id)

    assert _column(house, "tasks", "input") == sealed, "no task's row is rewritten for it"
    assert opened(house.volume, dump(house.settings.datastore_url)) == []


def _column(house: House, table: str, column: str) -> list[object]:
    engine = create_engine(house.settings.datastore_url)
    with engine.connect() as connection:
        found = [row[0] for row in connection.execute(text(f"SELECT {column} FROM {table} ORDER BY key"))]
    engine.dispose()
    return found


def _execute(house: House, statement: str) -> None:
    engine = create_engine(house.settings.datastore_url)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()
