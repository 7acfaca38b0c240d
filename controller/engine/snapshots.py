"""What a job was accepted with, at hand: its inputs and its catalogue never change, so they are kept in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

from controller.catalogue.definitions import Catalogue, JobDefinition, TaskClass, from_json, recipe
from controller.core.planner import stage_input
from controller.datastore.port import Datastore
from controller.datastore.records import JobFacts
from shared.errors import NotFound
from shared.ids import JobId
from shared.messages import JsonValue, Recipe

_JOBS_KEPT = 512
_REVISIONS_KEPT = 64


class Snapshots:
    """Remembers facts of jobs and revisions, the least recently used ones forgotten. Safe for any thread."""

    def __init__(self, store: Datastore, *, max_items: int) -> None:
        self._store = store
        self._max_items = max_items
        self._lock = Lock()
        self._facts: OrderedDict[JobId, JobFacts] = OrderedDict()
        self._catalogues: OrderedDict[str, Catalogue] = OrderedDict()
        self._recipes: dict[tuple[str, str, str, bool], Recipe] = {}

    def facts(self, job_id: JobId) -> JobFacts:
        """Return what a job was submitted with."""
        with self._lock:
            known = self._facts.get(job_id)
            if known is not None:
                self._facts.move_to_end(job_id)
                return known
        with self._store.read() as reader:
            facts = reader.facts(job_id)
        if facts is None:
            raise NotFound(f"there is no job {job_id}")
        with self._lock:
            self._facts[job_id] = facts
            if len(self._facts) > _JOBS_KEPT:
                self._facts.popitem(last=False)
        return facts

    def forget(self, job_id: JobId) -> None:
        """Drop a job whose secrets have changed or which has ended."""
        with self._lock:
            self._facts.pop(job_id, None)

    def catalogue(self, revision: str) -> Catalogue:
        """Return a revision of the catalogue."""
        with self._lock:
            known = self._catalogues.get(revision)
        if known is not None:
            return known
        with self._store.read() as reader:
            document = reader.definition(revision)
        if document is None:
            raise NotFound(f"the store does not hold revision {revision} of the catalogue")
        catalogue = from_json(document)
        with self._lock:
            self._catalogues[revision] = catalogue
            while len(self._catalogues) > _REVISIONS_KEPT:
                gone, _ = self._catalogues.popitem(last=False)
                self._recipes = {key: value for key, value in self._recipes.items() if key[0] != gone}
        return catalogue

    def definition(self, job_id: JobId) -> JobDefinition:
        """Return the definition that a job runs with."""
        facts = self.facts(job_id)
        return self.catalogue(facts.revision).jobs[facts.type]

    def task_class(self, job_id: JobId, name: str) -> TaskClass:
        """Return a task class as a job knows it."""
        return self.catalogue(self.facts(job_id).revision).tasks[name]

    def recipe(self, job_id: JobId, task_class: str, *, spawns: bool) -> Recipe:
        """Return how tasks of a class are run."""
        facts = self.facts(job_id)
        key = (facts.revision, facts.type, task_class, spawns)
        known = self._recipes.get(key)
        if known is None:
            catalogue = self.catalogue(facts.revision)
            job = catalogue.jobs[facts.type]
            known = recipe(catalogue.tasks[task_class], spawns=spawns, max_items=self._max_items, job=job)
            with self._lock:
                self._recipes[key] = known
        return known

    def stage_input(self, job_id: JobId, task_class: str) -> Mapping[str, JsonValue]:
        """Return the values that tasks of a class get from their job, without secrets."""
        return stage_input(self.task_class(job_id, task_class), self.facts(job_id).input)
