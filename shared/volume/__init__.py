"""The shared volume: where jobs keep their files, and where controller and workers meet.

Paths that leave this package in messages and records are relative to the volume: it may be mounted elsewhere on every
machine. Nothing here decides what is kept; it only keeps.
"""

from echelon.shared.volume.artefacts import StoredArtefact
from echelon.shared.volume.layout import attempt_name, log_name, workspace_name
from echelon.shared.volume.local import OpenFile, Volume

__all__ = ["OpenFile", "StoredArtefact", "Volume", "attempt_name", "log_name", "workspace_name"]
