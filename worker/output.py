"""Writes a task's output to the volume: masks secrets, limits the size, and leaves all other bytes as they are.

The first byte creates the file, which can be read while it grows. Over the limit, the file keeps the head and a marker
that says how many bytes are left out; the tail is kept in memory and written when the task ends.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from typing import Final

from echelon.shared.volume import beneath
from echelon.shared.volume.layout import FOLDER_MODE
from echelon.worker.reasons import find_cause

MASK: Final = b"***"
#: The tail gets 1/16 of the limit.
_TAIL_SHARE: Final = 16
#: The marker is updated every so many bytes.
_MARK_EVERY: Final = 1024 * 1024
#: The reason of a failure is searched in so many last bytes, and quoted up to so many characters.
_LAST: Final = 8000
_LONGEST_LINE: Final = 300
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Masker:
    """Replaces secret values in bytes and texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for secret in secrets for value in (secret, secret.strip()) if value}
        # Longest first: a secret that contains another one is masked as a whole.
        self._secrets = sorted((value.encode("utf-8", "replace") for value in values), key=len, reverse=True)
        self._longest = max((len(secret) for secret in self._secrets), default=0)
        self._pattern = re.compile(b"|".join(re.escape(secret) for secret in self._secrets) or b"(?!)")

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def mask_bytes(self, data: bytes) -> bytes:
        return self._pattern.sub(MASK, data)

    def mask_text(self, text: str) -> str:
        if not self._secrets:
            return text
        return self.mask_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "replace")

    def mask_part(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the masked data, and an unmasked end that has to wait because a secret may begin there."""
        masked: list[bytes] = []
        position, wait = 0, self._may_begin(data, 0)
        for match in self._pattern.finditer(data):
            if match.start() >= wait:
                break
            masked += (data[position : match.start()], MASK)
            position = match.end()
            if position > wait:
                wait = self._may_begin(data, position)
        masked.append(data[position:wait])
        return b"".join(masked), data[wait:]

    def _may_begin(self, data: bytes, start: int) -> int:
        """Return where the longest end of `data[start:]` starts that may begin a secret; `len(data)`: nowhere."""
        end = len(data)
        found = end
        for secret in self._secrets:
            position = data.find(secret[:1], max(start, end - len(secret) + 1), found)
            while position >= 0:
                # One byte is nearly always enough; comparing all would be slow for a secret of many equal bytes.
                if secret[end - position - 1] == data[-1] and secret.startswith(data[position:]):
                    found = position
                    break
                position = data.find(secret[:1], position + 1, found)
        return found


class Capture:
    """The file of one stream of one attempt. Its errors are kept for the report: a full disk does not end a task."""

    def __init__(self, root: str, name: str, *, cap: int, masker: Masker) -> None:
        """`name`: of the file, below the folder `root`; `cap`: its size limit in bytes."""
        self._root, self._name = root, name
        self._masker = masker
        self._tail_size = cap // _TAIL_SHARE
        self._head_room = cap - self._tail_size
        self._fd = -1
        self._waiting = b""
        self._tail = bytearray()
        self._dropped = 0
        #: The figure in the marker; -1: there is no marker yet.
        self._marked = -1
        self._marker_at = 0
        #: The last printed bytes, masked.
        self._last = b""
        #: Why the file is incomplete; None if it is complete.
        self.loss: OSError | None = None

    def add_output(self, data: bytes) -> None:
        """Add the bytes that were printed next."""
        if self._masker:
            data, self._waiting = self._masker.mask_part(self._waiting + data)
        self._keep_bytes(data)

    def finish_file(self) -> None:
        """Write the bytes that are still in memory, and close the file."""
        if self._waiting:
            self._keep_bytes(self._masker.mask_bytes(self._waiting))
        self._trim_tail()
        if self._tail:
            if self._dropped:
                self._write_marker()
            self._write_bytes(bytes(self._tail))
            self._tail.clear()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def find_reason(self) -> str:
        """Return the line of the last bytes that says why a program failed, shortened."""
        text = find_cause(self._last.decode("utf-8", "replace"))
        return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}..."

    def _keep_bytes(self, data: bytes) -> None:
        if not data:
            return
        self._last = (self._last + data)[-_LAST:] if len(data) < _LAST else data[-_LAST:]
        if self._head_room >= len(data):
            self._head_room -= len(data)
            self._write_bytes(data)
            return
        if self._head_room:
            self._write_bytes(data[: self._head_room])
            data = data[self._head_room :]
            self._head_room = 0
        self._tail += data
        if len(self._tail) > 2 * self._tail_size:
            self._trim_tail()
            if self._dropped - self._marked >= _MARK_EVERY or self._marked < 0:
                self._write_marker()

    def _trim_tail(self) -> None:
        over = len(self._tail) - self._tail_size
        if self._head_room == 0 and over > 0:
            del self._tail[:over]
            self._dropped += over

    def _write_marker(self) -> None:
        """Write the marker, or overwrite it: its length is always the same."""
        marker = b"\n[echelon: %015d bytes are left out here]\n" % self._dropped
        if self._marked < 0:
            self._marker_at = os.lseek(self._fd, 0, os.SEEK_CUR) if self._fd >= 0 else 0
            self._write_bytes(marker)
        elif self._fd >= 0 and self.loss is None:
            with contextlib.suppress(OSError):
                os.pwrite(self._fd, marker, self._marker_at)
        self._marked = self._dropped

    def _write_bytes(self, data: bytes) -> None:
        if self.loss is not None:
            return
        try:
            if self._fd < 0:
                self._fd = _create_file(self._root, self._name)
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            self.loss = error


def _create_file(root: str, name: str) -> int:
    """Create a file below a folder, with no link on the way, and its own folder if it does not exist."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            return beneath.open_beneath(folder, name, _CREATE, 0o640)
        above, _, last = name.rpartition("/")
        parent = beneath.open_folder(folder, above, make=FOLDER_MODE)
        try:
            with contextlib.suppress(FileExistsError):
                return os.open(last, _CREATE, 0o640, dir_fd=parent)
            # A task has made this, perhaps a link that would redirect the log.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(last, dir_fd=parent)
            return os.open(last, _CREATE, 0o640, dir_fd=parent)
        finally:
            os.close(parent)
    finally:
        os.close(folder)
