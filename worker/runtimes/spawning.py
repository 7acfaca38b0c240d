"""Starts processes with posix_spawn of the C library.

Why not subprocess: its fork holds Python's lock until the new program is loaded, 0.1 ms in which no other thread of
this process runs, and costs 11 us more of this thread (measured on 3.11). Older C libraries can neither set a working
directory nor close inherited files in posix_spawn; there, subprocess does it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Final

from echelon.worker.runtimes.port import Launch, StartRefused

_SETSIGDEF, _SETSIGMASK, _SETSID = 0x04, 0x08, 0x80
#: Larger than the three structures of any C library.
_Opaque = ctypes.c_char * 1024
#: Cached combinations of working directory and pipes.
_CACHED: Final = 256

#: Starts a program in a session of its own and returns its process id; raises OSError. Arguments: the program's path,
#: the launch, the files for stdout and stderr. The program also gets /dev/null as stdin, and no other file. It asks
#: `Launch.may_start` last of all.
Spawner = Callable[[bytes, Launch, tuple[int, int]], int]


class PosixSpawn:
    """posix_spawn through ctypes. One thread uses it."""

    def __init__(self) -> None:
        """Raise AttributeError if the C library is too old (glibc before 2.34) or is musl."""
        # Calls through `quick` keep Python's lock, because they take a fraction of a microsecond; posix_spawn frees it.
        quick, slow = ctypes.PyDLL(None), ctypes.CDLL(None)
        pointer, integer = ctypes.c_void_p, ctypes.c_int
        self._init = _declare_types(quick.posix_spawn_file_actions_init, pointer)
        self._destroy = _declare_types(quick.posix_spawn_file_actions_destroy, pointer)
        self._dup2 = _declare_types(quick.posix_spawn_file_actions_adddup2, pointer, integer, integer)
        self._chdir = _declare_types(quick.posix_spawn_file_actions_addchdir_np, pointer, ctypes.c_char_p)
        self._closefrom = _declare_types(quick.posix_spawn_file_actions_addclosefrom_np, pointer, integer)
        self._spawn = _declare_types(slow.posix_spawn, pointer, ctypes.c_char_p, pointer, pointer, pointer, pointer)
        self._attributes = _build_attributes(quick)
        #: File actions before the program is loaded. Pipes are reused, so the same actions are needed again.
        self._actions: dict[tuple[str, tuple[int, int]], ctypes.Array[ctypes.c_char]] = {}
        self._pid = ctypes.c_int()
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def __call__(self, program: bytes, launch: Launch, outputs: tuple[int, int]) -> int:
        actions = self._actions.get((launch.folder, outputs)) or self._prepare_actions(launch.folder, outputs)
        arguments, environment = [launch.command, *launch.arguments, None], [*launch.environment, None]
        given = (
            ctypes.addressof(self._pid),
            program,
            ctypes.addressof(actions),
            ctypes.addressof(self._attributes),
            (ctypes.c_char_p * len(arguments))(*arguments),
            (ctypes.c_char_p * len(environment))(*environment),
        )
        if not launch.may_start():
            raise StartRefused
        error = self._spawn(*given)
        if error:
            raise OSError(error, os.strerror(error))
        return self._pid.value

    def _prepare_actions(self, folder: str, outputs: tuple[int, int]) -> ctypes.Array[ctypes.c_char]:
        if len(self._actions) >= _CACHED:
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
        # The C library copies the path.
        self._chdir(address, os.fsencode(folder))
        self._actions[folder, outputs] = actions
        return actions


def spawn_with_popen(
    program: bytes, launch: Launch, outputs: tuple[int, int], *, user: int | None = None, group: int | None = None
) -> int:
    """Start a program with subprocess, for C libraries that lack what `PosixSpawn` needs, and for another user.

    `group` is the only supplementary group of that user's process. It costs 1 ms more, for the fork of this process.
    """
    if not launch.may_start():
        raise StartRefused
    process = subprocess.Popen(
        [launch.command, *launch.arguments],
        executable=program,
        env=dict(entry.split(b"=", 1) for entry in launch.environment),
        cwd=launch.folder,
        stdin=subprocess.DEVNULL,
        stdout=outputs[0],
        stderr=outputs[1],
        start_new_session=True,
        user=user,
        group=launch.group,
        extra_groups=None if group is None else [group],
    )
    # The runtime waits for its end by pid; with a return code set, subprocess does not.
    process.returncode = 0
    return process.pid


def choose_spawner() -> Spawner:
    """Return the fastest spawner that works here."""
    try:
        return PosixSpawn()
    except AttributeError:
        return spawn_with_popen


def _declare_types(function: ctypes._NamedFuncPointer, *types: type) -> ctypes._NamedFuncPointer:
    function.argtypes = types
    function.restype = ctypes.c_int
    return function


def _build_attributes(libc: ctypes.PyDLL) -> ctypes.Array[ctypes.c_char]:
    """Return attributes for: a new session, no signal blocked, and none ignored that this process ignores."""
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
