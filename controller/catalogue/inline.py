"""A job that a request brings along: its document becomes a small catalogue of its own, held against the same checks.

A mistake names its place in the request ("#/stages/0/tasks/2/exec_args/1"). Tasks by class are those of the catalogue
in force; own commands become classes named after their content, so that equal ones are one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from echelon.controller.catalogue.checks import Draft, check_draft
from echelon.controller.catalogue.definitions import Catalogue, ListedTasks, StageDefinition, TaskDefinition
from echelon.controller.catalogue.inputs import MAX_MISTAKES, InputMistake, check_item_inputs
from echelon.controller.catalogue.keys import Key, keys_of, one_of
from echelon.controller.catalogue.loader import add_reading
from echelon.controller.catalogue.mistakes import Mistake
from echelon.controller.catalogue.reading import Reading
from echelon.controller.catalogue.stored import revision_of
from echelon.controller.catalogue.task_classes import Command, InlineCommand, TaskClass
from echelon.controller.catalogue.tree import Path, SourceText, join_path
from echelon.shared.expressions import suggest_name

MAX_STAGES = 1_000
#: Stands for the class of tasks about which enough is said already; a catalogue that has no such class has none of it.
_WRONG = "?"
_NO_CLASS = "there is no task class of it"


@dataclass(frozen=True, slots=True)
class ComposedJob:
    """The result of composing."""

    #: Holds the job alone, and the classes that it needs; None when there are mistakes.
    catalogue: Catalogue | None
    mistakes: tuple[InputMistake, ...] = ()


def compose_job(base: Catalogue, name: str, stages: object, *, commands: bool) -> ComposedJob:
    """Return the catalogue of one job whose stages stand in a request.

    `commands`: the request may bring commands of its own.
    """
    reader = _JobComposer(base, commands)
    if not isinstance(stages, list) or not 0 < len(stages) <= MAX_STAGES:
        return ComposedJob(None, (InputMistake("#/stages", f"must be a list of 1 to {MAX_STAGES} stages"),))
    written = [reader.compose_stage(number, stage) for number, stage in enumerate(stages)]
    reading = _RequestReading(name, reader.places, {"tasks": reader.own, "jobs": {name: {"stages": written}}})
    draft = Draft(named={*base.tasks, _WRONG})
    add_reading(reading, draft)
    own, jobs = check_draft(draft)
    mistakes = reader.mistakes + [InputMistake(one.file, _tell_mistake(one)) for one in reading.mistakes]
    job = jobs.get(name)
    if mistakes or job is None:
        return ComposedJob(None, tuple(mistakes[:MAX_MISTAKES]))
    classes = {**base.tasks, **own}
    described = tuple(
        replace(stage, source=ListedTasks(tuple(tasks))) if tasks else stage
        for stage, tasks in zip(job.stages, reader.tasks, strict=True)
    )
    mistakes = list(_check_lines(described, classes))
    if mistakes:
        return ComposedJob(None, tuple(mistakes[:MAX_MISTAKES]))
    used = {name for stage in described for name in stage.classes}
    tasks = {name: classes[name] for name in sorted(used)}
    definitions = {name: replace(job, stages=described)}
    revision = revision_of(tasks, definitions, base.revision)
    return ComposedJob(Catalogue(revision, tasks, definitions, base=base.revision))


@dataclass
class _JobComposer:
    """Turns stages of a request into stages of a catalogue, and notes what the schema cannot see."""

    base: Catalogue
    commands: bool
    mistakes: list[InputMistake] = field(default_factory=list)
    #: Own commands, by the name that they get.
    own: dict[str, object] = field(default_factory=dict)
    #: Name of an own command -> where it stands in the request.
    places: dict[str, str] = field(default_factory=dict)
    #: Tasks of each stage.
    tasks: list[list[TaskDefinition]] = field(default_factory=list)

    def compose_stage(self, number: int, stage: object) -> dict[str, object]:
        """Return a stage as a catalogue would have it."""
        place = f"#/stages/{number}"
        self.tasks.append([])
        if not isinstance(stage, Mapping):
            self._note_mistake(place, "must be an object")
            return {"task_class": ""}
        known = keys_of(StageDefinition)
        self._refuse_unknown(place, stage, known)
        for key in ("task_class", "spawn_task"):
            if stage.get(key) == _WRONG and _WRONG not in self.base.tasks:
                self._note_mistake(f"{place}/{key}", _NO_CLASS)
        written = {key: value for key, value in stage.items() if key in known and key != "tasks"}
        tasks = stage.get("tasks")
        if tasks == "open":
            written["tasks"] = "open"
        elif isinstance(tasks, list):
            self.tasks[-1] += self._compose_tasks(place, tasks)
            if tasks and "spawn_task" in stage:
                self._note_mistake(f"{place}/tasks", "a stage with a spawn_task has its tasks from it")
            if not tasks:
                written["tasks"] = "open"
            else:
                first = self.tasks[-1][0].task_class if self.tasks[-1] else _WRONG
                written.setdefault("task_class", first)
        elif tasks is not None:
            self._note_mistake(f"{place}/tasks", 'must be a list of tasks, or "open"')
        elif "spawn_task" not in stage:
            self._check_single_task(place, stage.get("task_class"))
        written.setdefault("name", stage.get("task_class") or f"Stage {number}")
        return written

    def _check_single_task(self, place: str, name: object) -> None:
        """Check the one task of a stage that has no list of them."""
        task_class = self.base.tasks.get(name) if isinstance(name, str) else None
        if task_class is not None:
            self.mistakes += check_item_inputs(task_class, {}, where=f"{place}/task_class")[1]

    def _compose_tasks(self, place: str, tasks: list[object]) -> Iterator[TaskDefinition]:
        for index, task in enumerate(tasks):
            if len(self.mistakes) >= MAX_MISTAKES:
                return
            composed = self._compose_task(f"{place}/tasks/{index}", task)
            if composed is not None:
                yield composed

    def _compose_task(self, place: str, task: object) -> TaskDefinition | None:
        if not isinstance(task, Mapping):
            self._note_mistake(place, "must be an object")
            return None
        paused = task.get("paused", False)
        if not isinstance(paused, bool):
            self._note_mistake(f"{place}/paused", "must be true or false")
            return None
        for key in one_of(InlineCommand):
            if key in task:
                return self._compose_command(place, task, key, paused)
        self._refuse_unknown(place, task, keys_of(TaskDefinition))
        name = task.get("task_class")
        task_class = self.base.tasks.get(name) if isinstance(name, str) else None
        if task_class is None:
            guess = suggest_name(str(name)[:100], self.base.tasks)
            known = f"; did you mean {guess!r}?" if guess else ""
            commands = " or ".join(one_of(InlineCommand))
            detail = f"is missing; or give {commands}" if name is None else f"{_NO_CLASS}{known}"
            self._note_mistake(f"{place}/task_class", detail)
            return None
        given = task.get("input", {})
        values, mistakes = check_item_inputs(task_class, given, where=f"{place}/input")
        self.mistakes += mistakes
        own = {key: value for key, value in values.items() if isinstance(given, Mapping) and key in given}
        return TaskDefinition(task_class.task_class, own, paused)

    def _compose_command(self, place: str, task: Mapping[str, object], key: str, paused: bool) -> TaskDefinition | None:
        if not self.commands:
            detail = "own commands are not taken: the controller has to be started with --allow-inline-commands"
            self._note_mistake(f"{place}/{key}", detail)
            return None
        self._refuse_unknown(place, task, keys_of(InlineCommand))
        written = {key: task[key] for key in keys_of(Command) if key in task}
        content = json.dumps(written, sort_keys=True, default=str)
        name = f"inline-{hashlib.sha256(content.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
        self.own.setdefault(name, written)
        self.places.setdefault(name, place)
        return TaskDefinition(name, {}, paused)

    def _refuse_unknown(self, place: str, given: Mapping[str, object], known: Mapping[str, Key]) -> None:
        for key in given:
            if key not in known and len(self.mistakes) < MAX_MISTAKES:
                guess = suggest_name(str(key)[:100], known)
                detail = "unknown key" + (f"; did you mean {guess}?" if guess else "")
                self._note_mistake(f"{place}/{str(key)[:100]}", detail)

    def _note_mistake(self, pointer: str, detail: str) -> None:
        self.mistakes.append(InputMistake(pointer, detail))


class _RequestReading(Reading):
    """A reading of a document that was never text: places are pointers into the request."""

    def __init__(self, name: str, places: Mapping[str, str], data: dict[str, object]) -> None:
        super().__init__(SourceText(name, ""), data)
        self._places = places
        self._paths: list[Path] = []

    def find_key(self, path: Path) -> int:
        """Return a number that stands for a path."""
        self._paths.append(path)
        return len(self._paths) - 1

    def find_value(self, path: Path) -> int:
        """Return a number that stands for a path."""
        return self.find_key(path)

    def find_text(self, path: Path, text: str, offset: int) -> int:
        """Return a number that stands for a path."""
        return self.find_key(path)

    def _make_mistake(self, index: int, message: str, remedy: str | None) -> Mistake:
        path = self._paths[index]
        return Mistake(self._point_to(path), 0, 0, message.removeprefix(f"{join_path(path)}: "), remedy)

    def _point_to(self, path: Path) -> str:
        """Return where a path of the catalogue stands in the request: jobs.NAME is its top."""
        if path[:1] == ("tasks",) and len(path) > 1:
            steps, top = path[2:], self._places.get(str(path[1]), "#")
        else:
            steps, top = path[2:], "#"
        return "/".join([top, *(str(step).replace("~", "~0").replace("/", "~1") for step in steps)])


def _tell_mistake(mistake: Mistake) -> str:
    return mistake.message + (f" -> {mistake.remedy}" if mistake.remedy else "")


def _check_lines(stages: tuple[StageDefinition, ...], classes: Mapping[str, TaskClass]) -> list[InputMistake]:
    """Return which tasks would wait in another line than their stage: it has one queue and one priority."""
    mistakes = []
    for number, stage in enumerate(stages):
        first = classes[stage.task_class]
        for index, task in enumerate(stage.source.tasks if isinstance(stage.source, ListedTasks) else ()):
            other = classes[task.task_class]
            pairs = (("queue", other.queue, first.queue), ("priority", other.priority, first.priority))
            for key, its, stages_own in pairs:
                if its != stages_own:
                    detail = f"its {key} is {_name_value(its)}, its stage's is {_name_value(stages_own)}"
                    remedy = "put it into a stage of its own, of equal order"
                    mistakes.append(InputMistake(f"#/stages/{number}/tasks/{index}", f"{detail}: {remedy}"))
    return mistakes


def _name_value(value: str | int | None) -> str:
    return "the job's" if value is None else repr(value)
