"""Reads the spawn.json of a spawn task, checks it, and writes its items for the controller, one per line.

The content is untrusted. It is read item by item through a window, so a large file is never in memory as a whole. Every
error names the item and its position. An item that no task can get is written as the reason, and its task alone fails;
where the text is not JSON, nothing after that place can be read, and the spawn task fails.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import msgspec

from echelon.shared.encodings import NotUtf8, refuse_encoding
from echelon.shared.errors import EchelonError
from echelon.shared.failpoints import failpoint
from echelon.shared.messages import SpawnedItems
from echelon.shared.sealing import Seal, seal_value
from echelon.shared.volume import OpenFile, Volume
from echelon.shared.volume.beneath import REFUSED, NotRegular

NAME: Final = "spawn.json"
#: Deepest nesting of an item: no task's input needs more, and the controller walks through it again.
MAX_DEPTH: Final = 32
_WINDOW: Final = 1024 * 1024
_SPACE: Final = re.compile(r"[ \t\n\r]*")
#: The escape of a NUL character, not an escaped backslash before u0000.
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: A JSON value begins with one of these; NaN and Infinity are none, but can be read.
_BEGINNINGS: Final = frozenset('{["-0123456789tfnNI')


class SpawnInvalid(EchelonError):
    """The spawn.json cannot be used."""


class Limits(msgspec.Struct, frozen=True):
    """Size limits of a spawn.json."""

    items: int = 100_000
    bytes: int = 256 * 1024 * 1024
    item_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Secrets:
    """The names of the items' secret inputs, and the seal for their values."""

    names: frozenset[str]
    seal: Seal

    def occur_in(self, item: dict[str, Any]) -> bool:
        """Return whether an item has a secret input."""
        return not self.names.isdisjoint(item)

    def seal_item(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return an item with its secret inputs sealed."""
        return {name: seal_value(self.seal, value) if name in self.names else value for name, value in item.items()}


def keep_items(
    volume: Volume, *, attempt_path: str, working_path: str, shared: bool, limits: Limits, secrets: Secrets
) -> SpawnedItems:
    """Check a spawn task's file and write its items; raise SpawnInvalid, or OSError from the volume.

    The file in the attempt's own folder takes precedence over the one in the working directory. Both paths are relative
    to the volume. `shared`: other stages run in the working directory, so a file there may be theirs and is not read.
    Secrets are sealed in the written items; a file with secrets is removed afterwards.
    """
    place, found = _open_spawn_file(volume, attempt_path, working_path, shared=shared)
    name = f"{attempt_path}/items.ndjson"
    count, hidden = 0, False

    def write(target: BinaryIO) -> None:
        nonlocal count, hidden
        for item in read_items(found.file, limits):
            if isinstance(item, str):
                # The text of the item may hold a secret.
                hidden = hidden or bool(secrets.names)
            elif secrets.names and secrets.occur_in(item):
                item, hidden = secrets.seal_item(item), True
            target.write(msgspec.json.encode(item))
            target.write(b"\n")
            count += 1

    with found.file:
        if found.size > limits.bytes:
            raise SpawnInvalid(f"{NAME} has {found.size} bytes, at most {limits.bytes} can be read")
        failpoint("spawn.before_write")
        volume.atomic_write(name, write)
    failpoint("spawn.after_write")
    if hidden:
        # If the worker dies before it reports, the spawn task runs again and writes a new file.
        remove_stale(volume, place)
    return SpawnedItems(name, count)


def remove_stale(volume: Volume, folder: str) -> None:
    """Remove a spawn.json: one of an earlier task, or one with secrets whose items have been written."""
    # A folder with this name stays; it is reported as an error later.
    with contextlib.suppress(FileNotFoundError, IsADirectoryError), volume.enter_folder(folder) as entered:
        os.unlink(NAME, dir_fd=entered)


def _open_spawn_file(volume: Volume, attempt_path: str, working_path: str, *, shared: bool) -> tuple[str, OpenFile]:
    """Return the folder of the file, and the open file."""
    for path in dict.fromkeys((attempt_path,) if shared else (attempt_path, working_path)):
        try:
            return path, volume.open_regular(f"{path}/{NAME}", single_link=True)
        except FileNotFoundError:
            continue
        except NotRegular as error:
            raise SpawnInvalid(f"{NAME} {error.strerror}; it must be a plain file") from error
        except OSError as error:
            if error.errno in REFUSED:
                raise SpawnInvalid(f"{NAME} is a symbolic link or special; it must be a plain file") from error
            if error.errno in (errno.EACCES, errno.EPERM):
                raise SpawnInvalid(f"{NAME} cannot be read: {error.strerror}") from error
            raise
    if not shared:
        where = "in its working directory, or where $ECHELON_SPAWN_FILE says"
    elif os.path.lexists(f"{volume.absolute_path(working_path)}/{NAME}"):
        where = f"where $ECHELON_SPAWN_FILE says; the {NAME} in its working directory may be that of another stage, "
        where += "because stages of equal order run there at the same time"
    else:
        where = "where $ECHELON_SPAWN_FILE says, because stages of equal order share its working directory"
    raise SpawnInvalid(f"the spawn task has left no {NAME}: it writes one {where}")


def read_items(file: BinaryIO, limits: Limits) -> Iterator[dict[str, Any] | str]:
    """Yield the items of an array of objects, each as itself or as the reason why no task can get it.

    Raises SpawnInvalid where the text cannot be read on, or when no item is an object.
    """
    reader = _Reader(file, limits)
    reader.open_array()
    if reader.peek_character() == "]":
        reader.close_array()
        return
    for number in range(limits.items + 1):
        if number == limits.items:
            raise SpawnInvalid(f"{NAME} has more than {limits.items} items; the setting max_items is the limit")
        yield reader.read_item(number)
        if not reader.step_to_next(number):
            break
    if reader.no_object is not None:
        raise reader.no_object


class _Reader:
    """A window on the text of the file, and the position in it."""

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._read_bytes = 0
        self._ended = False
        self._text = ""
        self._at = 0
        #: Line of the window's first character, and the number of characters before it in that line.
        self._line, self._column = 1, 0
        #: The error of the first item, until there is an object: then the array is something else altogether.
        self.no_object: SpawnInvalid | None = None
        #: Values of the item that JSON or Python's reader allows, but Echelon does not.
        self._faults: list[str] = []
        self._parse = json.JSONDecoder(
            object_pairs_hook=self._build_object,
            parse_constant=self._refuse_constant,
            parse_int=self._parse_integer,
            parse_float=self._parse_float,
        ).raw_decode

    def open_array(self) -> None:
        """Step over the bracket that opens the array."""
        self._read_more()
        found = self.peek_character()
        if found != "[":
            if not found:
                raise SpawnInvalid(f"{NAME} is empty; for no tasks at all write []")
            raise SpawnInvalid(
                f"{NAME}, {self._describe_place(self._at)}: it must be an array of objects, [{{...}}, {{...}}]"
            )
        self._at += 1

    def close_array(self) -> None:
        """Step over the bracket that closes the array, and check that nothing follows."""
        self._at += 1
        if self.peek_character():
            raise SpawnInvalid(f"{NAME}, {self._describe_place(self._at)}: something follows after the array")

    def step_to_next(self, number: int) -> bool:
        """Step over the comma or bracket after item `number`; return whether another item follows."""
        found = self.peek_character()
        if found == "]":
            self.close_array()
            return False
        if found != ",":
            what = f"{found!r} instead of a comma or ]" if found else "the file ends within the array"
            raise SpawnInvalid(f"{NAME}, {self._describe_place(self._at)}, after item {number}: {what}")
        self._at += 1
        return True

    def read_item(self, number: int) -> dict[str, Any] | str:
        """Return the next item, or why no task can get it."""
        found = self.peek_character()
        if found not in _BEGINNINGS:
            what = "the file ends within the array" if not found else "an item must be an object, {...}"
            if found == "]":
                what = "there is a comma before the ] that closes the array"
            raise self._item_error(number, self._at, what)
        item, end = self._parse_item(number)
        fault = self._find_fault(item, end)
        error = None if fault is None else self._item_error(number, self._at, fault)
        if isinstance(item, dict):
            self.no_object = None
        elif number == 0:
            self.no_object = error
        self._at = end
        return item if error is None else str(error)

    def _parse_item(self, number: int) -> tuple[Any, int]:
        """Return the next item and where it ends."""
        while True:
            self._faults.clear()
            try:
                item, end = self._parse(self._text, self._at)
                if end - self._at > self._limits.item_bytes:
                    raise self._too_long(number)
                if end < len(self._text) or self._ended:
                    return item, end
                # A number may continue after the window.
            except RecursionError:
                raise self._item_error(number, self._at, f"nested deeper than {MAX_DEPTH} levels") from None
            except json.JSONDecodeError as error:
                # The item may continue after the window.
                if self._ended or len(self._text) - self._at > self._limits.item_bytes:
                    raise self._explain_parse_error(number, error) from None
            self._read_more()

    def peek_character(self) -> str:
        """Return the next character except whitespace; an empty text at the end of the file."""
        while True:
            match = _SPACE.match(self._text, self._at)
            assert match is not None
            self._at = match.end()
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._read_more()

    def _read_more(self) -> None:
        """Drop the text before the position and read the next part of the file."""
        passed = self._text[: self._at]
        lines = passed.count("\n")
        self._line += lines
        self._column = len(passed) - passed.rfind("\n") - 1 if lines else self._column + len(passed)
        data = self._file.read(_WINDOW)
        self._ended = not data
        if self._read_bytes == 0:
            try:
                refuse_encoding(data)
            except NotUtf8 as error:
                raise SpawnInvalid(f"{NAME} {error}") from None
        self._read_bytes += len(data)
        if self._read_bytes > self._limits.bytes:
            raise SpawnInvalid(f"{NAME} has more than {self._limits.bytes} bytes")
        try:
            self._text = self._text[self._at :] + self._decode(data, self._ended)
        except UnicodeDecodeError as error:
            offset = self._read_bytes - len(data) + error.start
            raise SpawnInvalid(f"{NAME} is not UTF-8 text: byte {offset} does not belong there") from None
        self._at = 0

    def _find_fault(self, item: object, end: int) -> str | None:
        """Return why no task can get an item. Most have few brackets and no escape; for these the check is quick."""
        text, start = self._text, self._at
        if not isinstance(item, dict):
            return "an item must be an object, {...}"
        if self._faults:
            return self._faults[0]
        brackets = text.count("{", start, end) + text.count("[", start, end)
        if brackets > MAX_DEPTH and _measure_depth(item) > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH} levels"
        if text.find("\\u", start, end) >= 0:
            if _NUL.search(text, start, end):
                return "it holds a NUL character (\\u0000)"
            if _SURROGATE.search(json.dumps(item, ensure_ascii=False)):
                return "it holds half of a surrogate pair"
        return None

    def _explain_parse_error(self, number: int, error: json.JSONDecodeError) -> SpawnInvalid:
        if not self._ended:
            return self._too_long(number)
        if error.pos >= len(self._text) or error.msg.startswith("Unterminated string"):
            return self._item_error(number, error.pos, "the file ends, or a string is not closed")
        if error.msg.startswith("Invalid control character"):
            what = "a line break or another control character in a string: it is not closed, or needs an escape (\\n)"
            return self._item_error(number, error.pos, what)
        return self._item_error(number, error.pos, error.msg)

    def _too_long(self, number: int) -> SpawnInvalid:
        return self._item_error(number, self._at, f"it is longer than {self._limits.item_bytes} bytes")

    def _item_error(self, number: int, position: int, what: str) -> SpawnInvalid:
        return SpawnInvalid(f"{NAME}, {self._describe_place(position)}, item {number}: {what}")

    def _describe_place(self, position: int) -> str:
        passed = self._text[:position]
        lines = passed.count("\n")
        column = len(passed) - passed.rfind("\n") if lines else self._column + len(passed) + 1
        return f"line {self._line + lines}, column {column}"

    def _build_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            self._faults.append(f"the key {twice[:100]!r} occurs twice")
        return made

    def _refuse_constant(self, name: str) -> None:
        self._faults.append(f"{name} is no JSON number")

    def _parse_integer(self, text: str) -> int:
        # Limited to 64 bits: a database would change a larger number.
        if len(text) < 19 or (len(text) <= 20 and -(2**63) <= int(text) < 2**63):
            return int(text)
        # The message does not contain the number: it may be a secret.
        self._faults.append(f"a number of {len(text)} characters is too large: write it as a string")
        return 0

    def _parse_float(self, text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            self._faults.append("a number beyond all limits is too large: write it as a string")
        return value


def _measure_depth(item: object) -> int:
    """Return the nesting depth of a value, without recursion."""
    deepest, level = 0, [item]
    while level:
        nested: list[object] = []
        for value in level:
            if isinstance(value, dict):
                nested += value.values()
            elif isinstance(value, list):
                nested += value
        deepest += 1
        level = [value for value in nested if isinstance(value, dict | list)]
    return deepest
