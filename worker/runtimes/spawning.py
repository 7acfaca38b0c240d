"""Starts processes with posix_spawn of the C library.

Why not subprocess: its fork holds Python's lock until the new program is loaded, a tenth of a millisecond in which
nothing else of this process runs, and costs 11 us more of this thread (measured on 3.11). What posix_spawn cannot do on
an older C library (a working directory, closing inherited files) is left to subprocess there.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Final, Protocol

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
#: More than any C library needs for the three of them.
_Opaque = ctypes.c_char * 1024
#: Combinations of working directory and pipes that are remembered.
_REMEMBERED: Final = 256


class Spawner(Protocol):
    """Starts a program in a session of its own."""

    def spawn_program(
        self,
        program: bytes,
        arguments: Sequence[bytes],
        environment: Sequence[bytes],
        *,
        folder: str,
        outputs: tuple[int, int],
    ) -> int:
        """Return the process id; raise OSError. The program gets /dev/null, the two outputs, and no other file."""


class PosixSpawn:
    """posix_spawn through ctypes. One thread uses it."""

    def __init__(self) -> None:
        """Raise AttributeError where the C library lacks what is needed: glibc before 2.34, musl."""
        # Calls through `quick` keep Python's lock, for they take a fraction of a microsecond; spawning lets go of it.
        quick, slow = ctypes.PyDLL(None), ctypes.CDLL(None)
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self._init = _declare_types(quick.posix_spawn_file_actions_init, pointer)
        self._destroy = _declare_types(quick.posix_spawn_file_actions_destroy, pointer)
        self._dup2 = _declare_types(quick.posix_spawn_file_actions_adddup2, pointer, integer, integer)
        self._chdir = _declare_types(quick.posix_spawn_file_actions_addchdir_np, pointer, ctypes.c_char_p)
        self._closefrom = _declare_types(quick.posix_spawn_file_actions_addclosefrom_np, pointer, integer)
        self._spawn = _declare_types(slow.posix_spawn, pointer, ctypes.c_char_p, pointer, pointer, pointer, pointer)
        self._attributes = _build_attributes(quick)
        #: What happens to the files before the program is loaded; pipes serve again and again, so it repeats itself.
        self._actions: dict[tuple[str, tuple[int, int]], ctypes.Array[ctypes.c_char]] = {}
        self._pid = ctypes.c_int()
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def spawn_program(
        self,
        program: bytes,
        arguments: Sequence[bytes],
        environment: Sequence[bytes],
        *,
        folder: str,
        outputs: tuple[int, int],
    ) -> int:
        actions = self._actions.get((folder, outputs))
        if actions is None:
            actions = self._prepare_actions(folder, outputs)
        argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments)
        environ = (ctypes.c_char_p * (len(environment) + 1))(*environment)
        error = self._spawn(
            ctypes.addressof(self._pid),
            program,
            ctypes.addressof(actions),
            ctypes.addressof(self._attributes),
            argv,
            environ,
        )
        if error:
            raise OSError(error, os.strerror(error))
        return self._pid.value

    def _prepare_actions(self, folder: str, outputs: tuple[int, int]) -> ctypes.Array[ctypes.c_char]:
        if len(self._actions) >= _REMEMBERED:
            for forgotten in self._actions.values():
                self._destroy(ctypes.addressof(forgotten))
            self._actions.clear()
        actions = _Opaque()
        address = ctypes.addressof(actions)
        self._init(address)
        self._dup2(address, self._null, 0)
        self._dup2(address, outputs[0], 1)
        self._dup2(address, outputs[1], 2)
        self._closefrom(address, 3)
        # The path is copied.
        self._chdir(address, os.fsencode(folder))
        self._actions[folder, outputs] = actions
        return actions


class PopenSpawn:
    """subprocess, for C libraries that cannot do it alone."""

    def spawn_program(
        self,
        program: bytes,
        arguments: Sequence[bytes],
        environment: Sequence[bytes],
        *,
        folder: str,
        outputs: tuple[int, int],
    ) -> int:
        process = subprocess.Popen(
            arguments,
            executable=program,
            env=dict(entry.split(b"=", 1) for entry in environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=outputs[0],
            stderr=outputs[1],
            start_new_session=True,
        )
        # Its end is awaited by pid: subprocess must not believe that it still has to be.
        process.returncode = 0
        return process.pid


def best_spawner() -> Spawner:
    """Return the faster one that works here."""
    try:
        return PosixSpawn()
    except AttributeError:
        return PopenSpawn()


def _declare_types(function: ctypes._NamedFuncPointer, *types: type) -> ctypes._NamedFuncPointer:
    function.argtypes = types
    function.restype = ctypes.c_int
    return function


def _build_attributes(libc: ctypes.PyDLL) -> ctypes.Array[ctypes.c_char]:
    """Return attributes for: a new session, nothing blocked, and no signal ignored that this process ignores."""
    attributes, blocked, defaults = _Opaque(), _Opaque(), _Opaque()
    libc.posix_spawnattr_init(attributes)
    libc.sigemptyset(blocked)
    libc.sigemptyset(defaults)
    ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
    for number in ignored | {signal.SIGPIPE, signal.SIGXFSZ}:
        libc.sigaddset(defaults, ctypes.c_int(number))
    libc.posix_spawnattr_setsigmask(attributes, blocked)
    libc.posix_spawnattr_setsigdefault(attributes, defaults)
    libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID))
    return attributes
