"""A job's files as a zip archive, made piece by piece for a reader that cannot go back: memory stays bounded.

The archive's directory at its end is the one thing that grows, some hundred bytes per file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from io import RawIOBase

from echelon.shared.errors import NotFound
from echelon.shared.ids import JobId
from echelon.shared.volume import StoredArtefact, Volume

_PIECE = 256 * 1024
#: Bytes that are sent together: a piece for each of many small files would cost more than to pack it.
_SENT = 64 * 1024
#: Suffixes of files that deflate cannot make smaller.
_PACKED = (
    ".zip",
    ".gz",
    ".tgz",
    ".bz2",
    ".xz",
    ".zst",
    ".7z",
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".mp4",
    ".mp3",
    ".whl",
)
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
#: An archive knows no other moments; its first one stands for them.
_UNKNOWN = (_FIRST_YEAR, 1, 1, 0, 0, 0)


class _Pipe(RawIOBase):
    """Takes what the archive writes and gives it out; it cannot be rewound, which tells zipfile not to."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        #: Bytes that wait to be taken.
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self.size += len(piece)
        return len(piece)

    def take_pieces(self) -> bytes:
        """Return what has been written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return taken


def stream_archive(volume: Volume, job_id: JobId) -> Iterator[bytes]:
    """Yield the archive of all files of a job; files that vanish meanwhile are left out."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for artefact in volume.iterate_artefacts(job_id):
            for _ in _pack_artefact(archive, volume, job_id, artefact):
                if pipe.size >= _SENT:
                    yield pipe.take_pieces()
    yield pipe.take_pieces()


def _pack_artefact(archive: zipfile.ZipFile, volume: Volume, job_id: JobId, artefact: StoredArtefact) -> Iterator[None]:
    try:
        found = volume.open_artefact(job_id, artefact.path)
    except NotFound:
        return
    with found.file as source, archive.open(_make_entry(artefact), "w", force_zip64=True) as target:
        # No more than it had when it was opened: a file that grows for ever must not make an endless archive.
        left = found.size
        while left > 0 and (data := source.read(min(_PIECE, left))):
            target.write(data)
            left -= len(data)
            yield
    yield


def _make_entry(artefact: StoredArtefact) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(artefact.path, _UNKNOWN)
    if artefact.modified_at is not None:
        at = datetime.fromtimestamp(artefact.modified_at, UTC)
        if _FIRST_YEAR <= at.year <= _LAST_YEAR:
            entry.date_time = (at.year, at.month, at.day, at.hour, at.minute, at.second)
    packed = artefact.path.lower().endswith(_PACKED)
    entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry

