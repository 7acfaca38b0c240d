"""Remembers on the volume which catalogue was in force last, for a start at which its files are torn or not valid.

One file for each set of catalogue paths: an engine that is started with other files for the first time has none.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from echelon.controller.catalogue.definitions import Catalogue
from echelon.controller.catalogue.stored import from_json, to_json
from echelon.shared.volume import durable, layout

_log = logging.getLogger(__name__)


class LastGood:
    """The catalogue that was in force last, made of these files and folders. The volume need not be there yet."""

    def __init__(self, volume: str | Path, paths: Sequence[str | Path]) -> None:
        names = "\0".join(os.path.abspath(path) for path in paths)
        name = hashlib.sha256(os.fsencode(names)).hexdigest()[:16]
        self._path = os.path.join(os.path.abspath(volume), layout.CATALOGUES, f"{name}.json")

    def read_catalogue(self) -> Catalogue | None:
        """Return it, without its folder of files, which lie on the volume; None when there is none."""
        try:
            return from_json(Path(self._path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            _log.warning("the catalogue that was in force last cannot be read from %s: %s", self._path, error)
            return None

    def keep_catalogue(self, catalogue: Catalogue) -> None:
        """Remember a catalogue whose files are on the volume; raise OSError."""
        os.makedirs(os.path.dirname(self._path), layout.FOLDER_MODE, exist_ok=True)
        durable.write_bytes(self._path, to_json(catalogue).encode())
