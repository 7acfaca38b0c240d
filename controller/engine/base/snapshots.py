"""The catalogue and type that a job was accepted with: they never change, so they are kept in memory.

Its values are not: a retry brings others, perhaps at another controller, and a job's end takes its secrets away.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from threading import Lock

from echelon.controller.catalogue.definitions import Catalogue, JobDefinition
from echelon.controller.catalogue.recipes import find_secret_inputs, make_recipe
from echelon.controller.catalogue.stored import from_json
from echelon.controller.catalogue.task_classes import TaskClass
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.records import JobFacts
from echelon.controller.engine.base.labels import TaskLabels
from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId
from echelon.shared.messages import JsonValue, Recipe

#: Of 200 bytes each. Jobs that wait in line are among them.
_JOBS_KEPT = 8_192
_REVISIONS_KEPT = 64


@dataclass(frozen=True, slots=True)
class JobOrigin:
    """The part of a job that never changes."""

    type: str
    revision: str


class Snapshots:
    """Remembers origins of jobs and revisions, the least recently used ones forgotten. Safe for any thread."""

    def __init__(self, store: Datastore, *, max_items: int) -> None:
        self._store = store
        self._max_items = max_items
        self._lock = Lock()
        self._origins: OrderedDict[JobId, JobOrigin] = OrderedDict()
        self._catalogues: OrderedDict[str, Catalogue] = OrderedDict()
        self._recipes: dict[tuple[str, str, str, int | None], Recipe] = {}
        self._private: dict[tuple[str, str], bool] = {}

    def find_facts(self, job_id: JobId) -> JobFacts:
        """Look up a job in the store; raise NotFound."""
        with self._store.read() as reader:
            facts = reader.find_facts(job_id)
        if facts is None:
            raise NotFound(f"there is no job {job_id}")
        return facts

    def find_origin(self, job_id: JobId) -> JobOrigin:
        """Return what a job was accepted with; raise NotFound."""
        with self._lock:
            known = self._origins.get(job_id)
            if known is not None:
                self._origins.move_to_end(job_id)
                return known
        facts = self.find_facts(job_id)
        origin = JobOrigin(facts.type, facts.revision)
        self.keep_origin(job_id, origin)
        return origin

    def keep_origin(self, job_id: JobId, origin: JobOrigin) -> None:
        """Keep the snapshot of a job that was just accepted, so that it is not looked up."""
        with self._lock:
            self._origins[job_id] = origin
            if len(self._origins) > _JOBS_KEPT:
                self._origins.popitem(last=False)

    def forget_job(self, job_id: JobId) -> None:
        """Drop a job that is gone."""
        with self._lock:
            self._origins.pop(job_id, None)

    def find_catalogue(self, job_id: JobId) -> Catalogue:
        """Return the revision of the catalogue that a job was accepted with, or the one that it has brought along."""
        revision = self.find_origin(job_id).revision
        with self._lock:
            known = self._catalogues.get(revision)
            if known is not None:
                self._catalogues.move_to_end(revision)
        if known is not None:
            return known
        with self._store.read() as reader:
            document = reader.find_definition(revision, of=job_id)
        if document is None:
            raise NotFound(f"the store does not hold revision {revision} of the catalogue")
        catalogue = from_json(document)
        self.keep_catalogue(catalogue)
        return catalogue

    def keep_catalogue(self, catalogue: Catalogue) -> None:
        """Keep a revision of the catalogue that a job was just accepted with, so that it is not looked up."""
        with self._lock:
            self._catalogues[catalogue.revision] = catalogue
            while len(self._catalogues) > _REVISIONS_KEPT:
                gone, _ = self._catalogues.popitem(last=False)
                self._recipes = {key: value for key, value in self._recipes.items() if key[0] != gone}
                self._private = {key: value for key, value in self._private.items() if key[0] != gone}

    def find_definition(self, job_id: JobId) -> JobDefinition:
        """Return the definition that a job runs with."""
        return self.find_catalogue(job_id).jobs[self.find_origin(job_id).type]

    def files_revision(self, job_id: JobId) -> str:
        """Return the revision whose files a job's tasks find."""
        catalogue = self.find_catalogue(job_id)
        return catalogue.base or catalogue.revision

    def task_class(self, job_id: JobId, name: str) -> TaskClass:
        """Return a task class as a job knows it."""
        return self.find_catalogue(job_id).tasks[name]

    def has_private_files(self, job_id: JobId) -> bool:
        """Tell whether some tasks of a job run in folders of their own."""
        origin = self.find_origin(job_id)
        key = origin.revision, origin.type
        known = self._private.get(key)
        if known is None:
            catalogue = self.find_catalogue(job_id)
            stages = catalogue.jobs[origin.type].stages
            known = any(catalogue.tasks[name].workdir == "task" for stage in stages for name in stage.classes)
            with self._lock:
                self._private[key] = known
        return known

    def secret_inputs_of(self, job_id: JobId, task_class: str) -> frozenset[str]:
        """Return the inputs of a task class that are secret in a job."""
        origin = self.find_origin(job_id)
        catalogue = self.find_catalogue(job_id)
        return find_secret_inputs(catalogue, catalogue.jobs[origin.type], task_class)

    def label_tasks(self, job_id: JobId, job_values: Callable[[], Mapping[str, JsonValue]]) -> TaskLabels:
        """Return what names the tasks of a job; `job_values` returns the job's, secret ones masked."""
        return TaskLabels(partial(self.task_class, job_id), partial(self.secret_inputs_of, job_id), job_values)

    def find_recipe(self, job_id: JobId, task_class: str, *, spawns: int | None = None) -> Recipe:
        """Return how tasks of a class are run; `spawns` is the number of the stage whose items they leave."""
        origin = self.find_origin(job_id)
        key = (origin.revision, origin.type, task_class, spawns)
        known = self._recipes.get(key)
        if known is None:
            catalogue = self.find_catalogue(job_id)
            job = catalogue.jobs[origin.type]
            spawned = job.stages[spawns].task_class if spawns is not None else None
            known = make_recipe(
                catalogue.tasks[task_class],
                spawns=spawned is not None,
                max_items=self._max_items,
                job=job,
                item_secret=find_secret_inputs(catalogue, job, spawned) if spawned is not None else frozenset(),
                shares_folder=spawns is not None and job.has_siblings(spawns),
            )
            with self._lock:
                self._recipes[key] = known
        return known
