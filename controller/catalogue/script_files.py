"""Warns of scripts that a command names and that the folder `files/` does not have."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from echelon.controller.catalogue import files
from echelon.controller.catalogue.checks import Draft
from echelon.controller.catalogue.reading import Reading
from echelon.controller.catalogue.task_classes import TaskClass
from echelon.controller.catalogue.tree import Path as Way
from echelon.shared.expressions import suggest_name

_INTERPRETER = re.compile(r"(?:.*/)?(?:python[\d.]*|sh|bash|dash|zsh|perl|ruby|node|Rscript|Rscript[\d.]*|php|lua)")
_SCRIPT = re.compile(r"(?:\./)?[\w.+-]+(?:/[\w.+-]+)*\.(?:py|sh|bash|pl|rb|js|mjs|R|r|php|lua)")


def warn_of_missing_scripts(draft: Draft, folder: Path | None) -> None:
    """Warn of each script of a task that is not below the folder `files/`, which becomes the job's workspace."""
    known = {one.path for one in files.list_files(folder)} if folder is not None else set()
    for name, task in draft.tasks.items():
        found = _find_script(task)
        if found is None or task.workdir != "job":
            continue
        key, text = found
        path = str(PurePosixPath(text))
        if path not in known:
            _warn(draft.task_readings[name], ("tasks", name, *key), text, path, known)


def _find_script(task: TaskClass) -> tuple[Way, str] | None:
    """Return where the script of a task is named, and its name."""
    if _SCRIPT.fullmatch(task.exec_command) and "/" in task.exec_command:
        return ("exec_command",), task.exec_command
    if _INTERPRETER.fullmatch(task.exec_command) and task.exec_args and _SCRIPT.fullmatch(task.exec_args[0]):
        return ("exec_args", 0), task.exec_args[0]
    return None


def _warn(reading: Reading, way: Way, text: str, path: str, known: set[str]) -> None:
    beside = Path(reading.source.file).parent / path
    guess = suggest_name(path, known)
    if path.removeprefix(f"{files.FOLDER}/") in known:
        remedy = f"write {path.removeprefix(f'{files.FOLDER}/')}: what is in files/ stands in the workspace itself"
    elif guess:
        remedy = f"did you mean {guess}?"
    elif beside.is_file():
        remedy = f"move {path} into files/"
    else:
        remedy = f"put {path} into files/ beside the catalogue, unless an earlier task makes it"
    reading.add_warning(
        reading.find_value(way), f"there is no {text} in the folder files/ beside the catalogue", remedy
    )
