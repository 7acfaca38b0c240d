"""Loads a catalogue from one file, several, or a folder of them. No other module knows YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from marshmallow import ValidationError

from echelon.controller.catalogue import files
from echelon.controller.catalogue.building import build_record
from echelon.controller.catalogue.checks import Draft, check_draft
from echelon.controller.catalogue.composing import MAX_DEPTH, Composer, DocumentRefused, YamlEvent
from echelon.controller.catalogue.definitions import Catalogue, JobDefinition
from echelon.controller.catalogue.keys import schema_of, walk_keys
from echelon.controller.catalogue.kinds import Named
from echelon.controller.catalogue.mistakes import CatalogueError, Complaint, Mistake, sort_mistakes
from echelon.controller.catalogue.reading import Reading
from echelon.controller.catalogue.remedies import suggest_remedy
from echelon.controller.catalogue.script_files import warn_of_missing_scripts
from echelon.controller.catalogue.stored import revision_of
from echelon.controller.catalogue.task_classes import TaskClass
from echelon.controller.catalogue.tree import Path as Way
from echelon.controller.catalogue.tree import SourceText, join_path
from echelon.shared.encodings import NotUtf8, decode_text
from echelon.shared.errors import InvalidInput

MAX_FILE = 1 << 20
MAX_FILES = 1000
SUFFIXES = frozenset({".yaml", ".yml"})

#: libyaml's parser where PyYAML was built with it: ten times as fast, and the same events.
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Characters that no YAML file may hold.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
#: Mappings whose keys are names that users choose: there marshmallow puts its complaints under "key" and "value".
_NAMED = frozenset(one.name for one in walk_keys(Catalogue) if isinstance(one.kind, Named))
#: How deep such mappings stand.
_NAMED_DEPTHS = (1, 3)

Definition = TypeVar("Definition")


@dataclass(frozen=True, slots=True)
class LoadedCatalogue:
    """The result of loading."""

    #: None when there are mistakes.
    catalogue: Catalogue | None
    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]

    def require_valid(self) -> Catalogue:
        """Return the catalogue; raise CatalogueError with every mistake when there is none."""
        if self.catalogue is None:
            raise CatalogueError(self.mistakes)
        return self.catalogue


def load_catalogue(paths: Sequence[str | Path]) -> LoadedCatalogue:
    """Load files and folders as one catalogue; what is wrong with them is returned, never raised."""
    found, mistakes = find_catalogue_files(paths)
    readings = [read_file(path) for path in found]
    draft = Draft()
    for reading in readings:
        add_reading(reading, draft)
    tasks, jobs = check_draft(draft)
    before = len(mistakes)
    dangling: list[Mistake] = []
    folder, digest = _digest_files(found, mistakes, dangling)
    if len(mistakes) == before:
        warn_of_missing_scripts(draft, folder)
    mistakes += [mistake for reading in readings for mistake in reading.mistakes]
    warnings = sort_mistakes([*dangling, *(warning for reading in readings for warning in reading.warnings)])
    if not mistakes and not tasks and not jobs:
        mistakes.append(
            Mistake(str(found[0]), 0, 0, "there are no tasks and no jobs in it", "write `tasks:` and `jobs:`")
        )
    if mistakes:
        return LoadedCatalogue(None, sort_mistakes(mistakes), warnings)
    revision = revision_of(tasks, jobs, digest)
    return LoadedCatalogue(Catalogue(revision, tasks, jobs, folder, digest), (), warnings)


def find_catalogue_files(paths: Iterable[str | Path]) -> tuple[list[Path], list[Mistake]]:
    """Return the files that make a catalogue, folders read in the order of names, and what is wrong with the paths."""
    found: list[Path] = []
    mistakes: list[Mistake] = []
    for path in map(Path, paths):
        try:
            inside = _list_folder(path) if os.path.isdir(path) else [path]
        except OSError as error:
            mistakes.append(Mistake(str(path), 0, 0, f"cannot be read: {error.strerror}"))
            continue
        if not inside:
            mistakes.append(Mistake(str(path), 0, 0, "holds no catalogue", "put a file named *.yaml or *.yml into it"))
        found += [one for one in inside if one not in found]
    if not found and not mistakes:
        mistakes.append(Mistake("", 0, 0, "no catalogue is given", "name a file or a folder"))
    return found[:MAX_FILES], mistakes


def _list_folder(folder: Path) -> list[Path]:
    names = sorted(os.listdir(folder))
    return [
        folder / name
        for name in names
        if Path(name).suffix in SUFFIXES and not name.startswith(".") and not os.path.isdir(folder / name)
    ]


def _digest_files(
    found: Iterable[Path], mistakes: list[Mistake], dangling: list[Mistake]
) -> tuple[Path | None, str | None]:
    """Return the one folder `files/` beside the files and its digest; note links in it that lead to nothing."""
    folders = find_files_folders(found)
    if not folders:
        return None, None
    if len(folders) > 1:
        others = ", ".join(str(folder) for folder in folders[1:])
        mistakes.append(Mistake(str(folders[0]), 0, 0, f"there is another such folder: {others}", "keep one of them"))
        return None, None

    def note(name: str) -> None:
        said, remedy = "is a link to nothing and is left out", "remove it, or write its name into files/.echelonignore"
        dangling.append(Mistake(str(folders[0] / name), 0, 0, said, remedy))

    try:
        return folders[0], files.digest_folder(folders[0], note)
    except InvalidInput as error:
        mistakes.append(Mistake(str(folders[0]), 0, 0, str(error)))
    except OSError as error:
        mistakes.append(Mistake(str(error.filename or folders[0]), 0, 0, f"cannot be read: {error.strerror}"))
    return None, None


def find_files_folders(found: Iterable[Path]) -> list[Path]:
    """Return the folders `files/` beside these files."""
    beside = dict.fromkeys(Path(os.path.abspath(path)).parent / files.FOLDER for path in found)
    return [folder for folder in beside if os.path.isdir(folder)]


# --- one file


def read_file(path: Path) -> Reading:
    """Read one file as far as it can be read."""
    try:
        return read_text(str(path), _read_content(path))
    except OSError as error:
        message, remedy = f"cannot be read: {error.strerror or error}", None
    except DocumentRefused as error:
        message, remedy = error.message, error.remedy
    except NotUtf8 as error:
        message, remedy = str(error), "save it as UTF-8"
    reading = Reading(SourceText(str(path), ""), broken=True)
    reading.mistakes.append(Mistake(str(path), 0, 0, message, remedy))
    return reading


def _read_content(path: Path) -> str:
    # A named pipe would be waited for without an end.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        content = file.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise DocumentRefused(f"is larger than {MAX_FILE >> 20} MiB", 0, "split it; a folder of files is one catalogue")
    if not content.strip():
        raise DocumentRefused("is empty", 0, "write `tasks:` and `jobs:`")
    return decode_text(content).replace("\r\n", "\n")


def read_text(file: str, text: str) -> Reading:
    """Read the text of one file as far as it can be read."""
    reading = Reading(SourceText(file, text))
    if (found := _UNPRINTABLE.search(text)) is not None:
        reading.broken = True
        reading.add_mistake(found.start(), f"the character U+{ord(found[0]):04X} must not stand in a YAML file")
        return reading
    try:
        _read_documents(reading, text)
        return reading
    except DocumentRefused as refused:
        reading.add_mistake(refused.index, refused.message, refused.remedy)
    except yaml.MarkedYAMLError as error:
        reading.add_mistake(*_explain_error(error, text))
    except yaml.YAMLError as error:
        reading.add_mistake(0, f"is not YAML: {error}")
    reading.broken = True
    return reading


def _read_documents(reading: Reading, text: str) -> None:
    composer = Composer(_translate_events(yaml.parse(text, Loader=_PARSER)))
    while (document := composer.compose_document()) is not None:
        reading.read_document(document, composer.nodes)


def _translate_events(events: Iterable[yaml.Event]) -> Iterator[YamlEvent]:
    """Yield the events that bear content."""
    for event in events:
        start, end = _index_of(event.start_mark), _index_of(event.end_mark)
        if isinstance(event, yaml.ScalarEvent):
            block, plain = event.style in (">", "|"), not event.style
            yield YamlEvent("scalar", start, end, event.value, plain, block, anchor=event.anchor, tag=event.tag)
        elif isinstance(event, yaml.AliasEvent):
            yield YamlEvent("alias", start, end, anchor=event.anchor)
        elif isinstance(event, yaml.SequenceStartEvent):
            yield YamlEvent("list", start, end, anchor=event.anchor, tag=event.tag)
        elif isinstance(event, yaml.MappingStartEvent):
            yield YamlEvent("table", start, end, flow=bool(event.flow_style), anchor=event.anchor, tag=event.tag)
        elif isinstance(event, yaml.CollectionEndEvent):
            yield YamlEvent("end", start, end)


def _index_of(mark: Any) -> int:
    return 0 if mark is None else int(mark.index)


def _explain_error(error: yaml.MarkedYAMLError, text: str) -> tuple[int, str, str | None]:
    """Return where, what and what to do, in the words of someone who writes a catalogue."""
    index = min(_index_of(error.problem_mark or error.context_mark), len(text))
    problem = error.problem or str(error)
    if "nesting depth" in problem:
        # libyaml has a limit of its own since 0.2.6, and looks ahead far enough to meet it before we meet ours.
        return index, f"nested more than {MAX_DEPTH} deep", None
    return index, f"is not YAML here: {problem}", suggest_remedy(problem, text, index)


# --- from values to definitions


def add_reading(reading: Reading, draft: Draft) -> None:
    """Hold what a file says against the schema and add it to the draft, as far as it goes."""
    draft.whole = draft.whole and not reading.broken
    written = reading.data.get("tasks")
    draft.named.update(written if isinstance(written, dict) else ())
    schema = schema_of(Catalogue)()
    try:
        values: Mapping[str, Any] = schema.load(reading.data)
    except ValidationError as error:
        values = error.valid_data if isinstance(error.valid_data, Mapping) else {}
        _note_complaints(reading, (), error.messages)
    _add_section(reading, "tasks", values, TaskClass, draft.tasks, draft.task_readings)
    _add_section(reading, "jobs", values, JobDefinition, draft.jobs, draft.job_readings)


def _add_section(
    reading: Reading,
    section: str,
    values: Mapping[str, Any],
    record: type[Definition],
    taken: dict[str, Definition],
    readings: dict[str, Reading],
) -> None:
    for name, one in (values.get(section) or {}).items():
        if name in taken:
            place = readings[name].source
            first = place.line_and_column(readings[name].find_key((section, name)))[0]
            message = f"{name!r} is defined in {place.file}, line {first}, too"
            reading.add_mistake(reading.find_key((section, name)), message, "give one of them another name")
            continue
        taken[name] = build_record(record, one if isinstance(one, Mapping) else {}, name)
        readings[name] = reading


def _note_complaints(reading: Reading, way: Way, messages: object) -> None:
    """Turn marshmallow's tree of complaints into mistakes with places."""
    if isinstance(messages, Mapping):
        named = len(way) in _NAMED_DEPTHS and way[-1] in _NAMED
        for key, inner in messages.items():
            if named and isinstance(inner, Mapping):
                _note_complaints(reading, (*way, key), inner.get("value", ()))
                _note_key_complaints(reading, (*way, key), inner.get("key", ()))
            else:
                _note_complaints(reading, way if key == "_schema" else (*way, key), inner)
    elif isinstance(messages, list):
        for message in messages:
            _note_complaint(reading, way, message)


def _note_complaint(reading: Reading, way: Way, message: object) -> None:
    at_key = way not in reading.values or (isinstance(message, str) and message.startswith("unknown"))
    place = reading.find_key(way) if at_key else reading.find_value(way)
    remedy = message.remedy if isinstance(message, Complaint) else None
    reading.add_mistake(place, f"{join_path(way) or 'the catalogue'}: {message}", remedy)


def _note_key_complaints(reading: Reading, way: Way, messages: Iterable[object]) -> None:
    for message in messages:
        remedy = message.remedy if isinstance(message, Complaint) else None
        reading.add_mistake(reading.find_key(way), f"{join_path(way)}: {message}", remedy)
