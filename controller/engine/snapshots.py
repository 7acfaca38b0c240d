"""What a job was accepted with, at hand: its type and its catalogue never change, so they are kept in memory.

Its values are not: a retry brings others, perhaps at another controller, and a job's end takes its secrets away.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from controller.catalogue.definitions import Catalogue, JobDefinition, TaskClass, from_json, recipe
from controller.datastore.port import Datastore
from controller.datastore.records import JobFacts
from shared.errors import NotFound
from shared.ids import JobId
from shared.messages import Recipe

#: Of 200 bytes each. Jobs that wait in line are among them.
_JOBS_KEPT = 8_192
_REVISIONS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Origin:
    """What never changes about a job."""

    type: str
    revision: str


class Snapshots:
    """Remembers origins of jobs and revisions, the least recently used ones forgotten. Safe for any thread."""

    def __init__(self, store: Datastore, *, max_items: int) -> None:
        self._store = store
        self._max_items = max_items
        self._lock = Lock()
        self._origins: OrderedDict[JobId, Origin] = OrderedDict()
        self._catalogues: OrderedDict[str, Catalogue] = OrderedDict()
        self._recipes: dict[tuple[str, str, str, bool], Recipe] = {}
        self._private: dict[tuple[str, str], bool] = {}

    def facts(self, job_id: JobId) -> JobFacts:
        """Look up a job in the store; raise NotFound."""
        with self._store.read() as reader:
            facts = reader.facts(job_id)
        if facts is None:
            raise NotFound(f"there is no job {job_id}")
        return facts

    def origin(self, job_id: JobId) -> Origin:
        """Return what a job was accepted with; raise NotFound."""
        with self._lock:
            known = self._origins.get(job_id)
            if known is not None:
                self._origins.move_to_end(job_id)
                return known
        facts = self.facts(job_id)
        origin = Origin(facts.type, facts.revision)
        self.remember(job_id, origin)
        return origin

    def remember(self, job_id: JobId, origin: Origin) -> None:
        """Keep what a job was accepted with: whoever has just accepted it need not look it up."""
        with self._lock:
            self._origins[job_id] = origin
            if len(self._origins) > _JOBS_KEPT:
                self._origins.popitem(last=False)

    def forget(self, job_id: JobId) -> None:
        """Drop a job that is gone."""
        with self._lock:
            self._origins.pop(job_id, None)

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
                self._private = {key: value for key, value in self._private.items() if key[0] != gone}
        return catalogue

    def definition(self, job_id: JobId) -> JobDefinition:
        """Return the definition that a job runs with."""
        origin = self.origin(job_id)
        return self.catalogue(origin.revision).jobs[origin.type]

    def files_revision(self, job_id: JobId) -> str:
        """Return the revision whose files a job's tasks find."""
        revision = self.origin(job_id).revision
        return self.catalogue(revision).base or revision

    def task_class(self, job_id: JobId, name: str) -> TaskClass:
        """Return a task class as a job knows it."""
        return self.catalogue(self.origin(job_id).revision).tasks[name]

    def private(self, job_id: JobId) -> bool:
        """Tell whether some tasks of a job run in folders of their own."""
        origin = self.origin(job_id)
        key = origin.revision, origin.type
        known = self._private.get(key)
        if known is None:
            catalogue = self.catalogue(origin.revision)
            stages = catalogue.jobs[origin.type].stages
            classes = {name for stage in stages for name in (stage.task_class, stage.spawn_task) if name is not None}
            classes |= {task.task_class for stage in stages for task in stage.tasks}
            known = any(catalogue.tasks[name].workdir == "task" for name in classes)
            with self._lock:
                self._private[key] = known
        return known

    def recipe(self, job_id: JobId, task_class: str, *, spawns: bool) -> Recipe:
        """Return how tasks of a class are run."""
        origin = self.origin(job_id)
        key = (origin.revision, origin.type, task_class, spawns)
        known = self._recipes.get(key)
        if known is None:
            catalogue = self.catalogue(origin.revision)
            job = catalogue.jobs[origin.type]
            known = recipe(catalogue.tasks[task_class], spawns=spawns, max_items=self._max_items, job=job)
            with self._lock:
                self._recipes[key] = known
        return known
