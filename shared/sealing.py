"""Seals (encrypts) secret values in the store and in messages. The volume's key opens them.

The key is a file on the volume that only its owner can read. Controllers and workers share the volume; the store and
the broker never get the key.

The secrets of a job's single tasks are sealed with the job's own key, its seal, which is itself sealed with the
volume's key. Without the seal, the secrets of a hundred thousand tasks, and every copy of them, are unreadable.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
from typing import Final

import msgspec
from cryptography.fernet import Fernet, InvalidToken

from echelon.shared.errors import EchelonError, VolumeUnavailable
from echelon.shared.failpoints import failpoint
from echelon.shared.messages import JsonValue
from echelon.shared.volume import Volume
from echelon.shared.volume.durable import write_bytes
from echelon.shared.volume.layout import KEY

#: Prefix of a sealed value in a place where other values are in clear text.
_SEALED: Final = "sealed:"


class CannotOpen(EchelonError):
    """The value was sealed with another key."""


class Seal:
    """Seals and opens texts with one key. Safe for any thread."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    def seal_text(self, text: str) -> str:
        """Return the text encrypted, differently each time."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass")).decode("ascii")

    def open_text(self, text: str) -> str:
        """Return a sealed text decrypted; raise CannotOpen."""
        try:
            return self._fernet.decrypt(text.encode("ascii", "replace")).decode("utf-8", "surrogatepass")
        except InvalidToken:
            raise CannotOpen from None


class Sealer:
    """Seals and opens texts with the key of one volume, and keeps the seals of jobs. Safe for any thread."""

    def __init__(self, volume: Volume) -> None:
        self._path = volume.absolute_path(KEY)

    def seal_text(self, text: str) -> str:
        return self._own_seal.seal_text(text)

    def open_text(self, text: str) -> str:
        return self._own_seal.open_text(text)

    def new_seal(self) -> str:
        """Return a new seal for the tasks of one job."""
        return self.seal_text(Fernet.generate_key().decode())

    def open_seal(self, seal: str | None) -> Seal:
        """Return a job's seal, ready for use; for a job without one (None), return the volume's own key.

        Raises CannotOpen if the seal was made on another volume.
        """
        return self._own_seal if seal is None else Seal(self.open_text(seal).encode())

    def digest_text(self, text: str) -> str:
        """Return a digest that cannot be matched against guessed texts without the key."""
        return hmac.new(self._digest_key, text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()

    def derive_key(self, purpose: str) -> bytes:
        """Return a separate key: no key serves two purposes."""
        return hmac.new(self._key, purpose.encode(), hashlib.sha256).digest()

    @functools.cached_property
    def _own_seal(self) -> Seal:
        try:
            return Seal(self._key)
        except ValueError as error:
            raise VolumeUnavailable(f"cannot use the key at {self._path}: {error}") from error

    @functools.cached_property
    def _digest_key(self) -> bytes:
        return self.derive_key("echelon request digests")

    @functools.cached_property
    def _key(self) -> bytes:
        try:
            if not os.path.exists(self._path):
                failpoint("key.before_write")
                # If another process has written a key meanwhile, that one stays.
                write_bytes(self._path, Fernet.generate_key(), mode=0o600, replace=False)
                failpoint("key.after_write")
            with open(self._path, "rb") as file:
                return file.read()
        except OSError as error:
            raise VolumeUnavailable(f"cannot use the key at {self._path}: {error}") from error


def seal_value(seal: Seal, value: JsonValue) -> str:
    """Return a sealed value, marked so that `open_value` recognises it."""
    return _SEALED + seal.seal_text(msgspec.json.encode(value).decode())


def open_value(seal: Seal, value: JsonValue) -> JsonValue:
    """Return the value that `seal_value` sealed; return a value in clear text unchanged. Raises CannotOpen."""
    if not isinstance(value, str) or not value.startswith(_SEALED):
        return value
    found: JsonValue = msgspec.json.decode(seal.open_text(value.removeprefix(_SEALED)))
    return found
