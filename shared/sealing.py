"""Keeps secret values unreadable wherever they rest or travel; whoever can read the volume's key can open them.

The key lies on the volume, readable by its owner alone: controller and workers share the volume, the store and the
broker never see the key.

The secrets of a job's single tasks are sealed with a key of the job's own, its seal, which itself is sealed with the
volume's. One erased seal makes unreadable what a hundred thousand tasks hold, and every copy of it.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from typing import Final, Protocol

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from echelon.shared.errors import EchelonError, VolumeUnavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.messages import JsonValue
from echelon.shared.volume import Volume
from echelon.shared.volume.durable import write_bytes
from echelon.shared.volume.layout import KEY

#: How a value begins that is sealed where others stand in clear.
_SEALED: Final = "sealed:"


class CannotOpen(EchelonError):
    """The sealed value was not sealed with this key."""


class Seal:
    """Seals and opens texts with one key. Safe for any thread."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    def seal(self, text: str) -> str:
        """Return the text so that only holders of the key can read it; the same text never looks the same twice."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def open(self, text: str) -> str:
        """Return a sealed text in clear; raise CannotOpen."""
        try:
            return self._fernet.decrypt(text.encode("ascii", "replace")).decode("utf-8", "surrogatepass")
        except InvalidToken:
            raise CannotOpen from None


class Sealer:
    """Seals and opens texts with the key of one volume, and keeps the seals of jobs. Safe for any thread."""

    def __init__(self, volume: Volume) -> None:
        self._path = volume.absolute(KEY)

    def seal(self, text: str) -> str:
        """Return the text so that only holders of the key can read it; the same text never looks the same twice."""
        return self._own.seal(text)

    def open(self, text: str) -> str:
        """Return a sealed text in clear; raise CannotOpen."""
        return self._own.open(text)

    def new_seal(self) -> str:
        """Return a new key for the tasks of one job, sealed."""
        return self.seal(Fernet.generate_key().decode())

    def unsealed(self, seal: str | None) -> Seal:
        """Return what `new_seal` has made, ready for use; None, of a job that has none, is the volume's own key.

        Raises CannotOpen when it was made on another volume.
        """
        return self._own if seal is None else Seal(self.open(seal).encode())

    def digest(self, text: str) -> str:
        """Return a digest that nobody can try texts against who does not hold the key."""
        return hmac.new(self._digest_key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    @functools.cached_property
    def _own(self) -> Seal:
        try:
            return Seal(self._key)
        except ValueError as error:
            raise VolumeUnavailable(f"cannot use the key at {self._path}: {error}") from error

    @functools.cached_property
    def _digest_key(self) -> bytes:
        # Of its own: no key serves two purposes.
        return hmac.new(self._key, b"echelon request digests", hashlib.sha256).digest()

    @functools.cached_property
    def _key(self) -> bytes:
        try:
            if not os.path.exists(self._path):
                failpoint("key.before_write")
                # Whoever comes second keeps the first one's key.
                write_bytes(self._path, Fernet.generate_key(), mode=0o600, replace=False)
                failpoint("key.after_write")
            with open(self._path, "rb") as file:
                return file.read()
        except OSError as error:
            raise VolumeUnavailable(f"cannot use the key at {self._path}: {error}") from error


class Opener(Protocol):
    """What seals and opens texts."""

    def seal(self, text: str) -> str:
        """Return the text so that only holders of the key can read it."""

    def open(self, text: str) -> str:
        """Return a sealed text in clear; raise CannotOpen."""


def wrap(seal: Opener, value: JsonValue) -> str:
    """Return a value sealed, in a form that can be told from one in clear."""
    return _SEALED + seal.seal(msgspec.json.encode(value).decode())


def unwrap(seal: Opener, value: JsonValue) -> JsonValue:
    """Return what `wrap` was given; a value in clear is returned as it is. Raises CannotOpen."""
    if not isinstance(value, str) or not value.startswith(_SEALED):
        return value
    found: JsonValue = msgspec.json.decode(seal.open(value.removeprefix(_SEALED)))
    return found
