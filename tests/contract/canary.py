"""What a thief finds who takes the store, and what he can open of it with the volume's key."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine, inspect, text

from echelon.shared.sealing import CannotOpen, Seal, Sealer
from echelon.shared.volume import Volume

_SEALED = re.compile(r"gAAAA[\w-]+=*")


def dump(url: str) -> str:
    """Return all that stands in a store."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()
        rows = [str(row) for name in names for row in connection.execute(text(f'SELECT * FROM "{name}"'))]
    engine.dispose()
    return "\n".join(rows)


def opened(volume: Volume, words: str) -> list[str]:
    """Return all that the volume's key opens in a text: secrets and seals, and what these open."""
    sealer = Sealer(volume)
    pieces = _SEALED.findall(words)
    found = list(_readable(sealer.open_seal(None), pieces))
    for key in list(found):
        try:
            found += _readable(Seal(key.encode()), pieces)
        except ValueError:
            continue
    return found


def _readable(seal: Seal, pieces: list[str]) -> Iterator[str]:
    for piece in pieces:
        try:
            yield seal.open_text(piece)
        except CannotOpen:
            continue


def files_with(folder: Path, words: bytes) -> Iterator[Path]:
    """Yield the files below a folder that hold some words."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names):
            try:
                if path.is_file() and not path.is_symlink() and words in path.read_bytes():
                    yield path
            except FileNotFoundError:
                # A log or a journal may be put aside meanwhile.
                continue
