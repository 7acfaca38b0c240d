"""A TCP proxy for every link of a process to its servers: passes, cuts (RST), swallows (one way or both), delays."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

_PIECE = 64 * 1024
_PATIENCE = 10.0
#: Lingering for 0 s makes a close a reset.
_RESET = struct.pack("ii", 1, 0)


class Proxies:
    """The thread that all links run on."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._links: list[Link] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for link in self._links:
            self.call(link.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE)
        self._loop.close()

    def link(self, target: int) -> Link:
        """Open a link to a port of this machine."""
        link = Link(self, target)
        self._links.append(link)
        self.call(link.open)
        return link

    def call(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run something on the proxies' own thread and wait for it."""
        asyncio.run_coroutine_threadsafe(act(), self._loop).result(_PATIENCE)


class Link:
    """One port of ours that leads to a server's; its methods without `async` may be called from any thread."""

    def __init__(self, proxies: Proxies, target: int) -> None:
        self._proxies = proxies
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Set: bytes to the server flow; bytes from it flow.
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self._delay = 0.0
        self.port = 0
        #: Connections that were ever opened.
        self.opened = 0

    def cut(self) -> None:
        """Reset every connection; new ones are let through."""
        self._proxies.call(self._reset)

    def swallow(self, *, up: bool = True, down: bool = True) -> None:
        """Silently drop all data in the given directions."""

        async def act() -> None:
            for flows, hold in ((self._up, up), (self._down, down)):
                flows.clear() if hold else flows.set()

        self._proxies.call(act)

    def slow(self, seconds: float) -> None:
        """Let every piece wait."""

        async def act() -> None:
            self._delay = seconds

        self._proxies.call(act)

    def heal(self) -> None:
        """Let everything through again; what was held back arrives."""

        async def act() -> None:
            self._delay = 0.0
            self._up.set()
            self._down.set()

        self._proxies.call(act)

    async def open(self) -> None:
        """Listen."""
        self._up.set()
        self._down.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more and reset what is open."""
        if self._server is not None:
            self._server.close()
        await self._reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reset(self) -> None:
        for writer in list(self._writers):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.opened += 1
        self._tasks.add(task)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            answers, far = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far)
            await asyncio.gather(self._pump(reader, far, self._up), self._pump(answers, writer, self._down))
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, flows: asyncio.Event) -> None:
        while data := await source.read(_PIECE):
            if self._delay:
                await asyncio.sleep(self._delay)
            await flows.wait()
            sink.write(data)
            await sink.drain()
        await flows.wait()
        with contextlib.suppress(OSError):
            sink.write_eof()
