"""A datastore that comes late: until then everybody hears at once that it is away, afterwards it is like any other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from echelon.controller.datastore.errors import SchemaMismatch
from echelon.controller.datastore.late import LateDatastore
from echelon.controller.datastore.open import open_datastore
from echelon.controller.datastore.port import Datastore
from echelon.shared.errors import StoreUnavailable
from tests.system.process import until

DEADLINE = 20.0


class Server:
    """Opens an SQLite file when told that it is there."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.error: Exception | None = StoreUnavailable("connection refused")

    def open(self) -> Datastore:
        if self.error is not None:
            raise self.error
        return open_datastore(self._url)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(f"sqlite:///{tmp_path_factory.mktemp('late')}/echelon.db")


@contextmanager
def late(open_: Callable[[], Datastore]) -> Iterator[LateDatastore]:
    store = LateDatastore(open_)
    try:
        yield store
    finally:
        store.close()


def works(store: LateDatastore) -> bool:
    try:
        store.check()
    except StoreUnavailable:
        return False
    return True


def test_until_it_comes_whoever_asks_hears_why_and_then_it_works(server: Server) -> None:
    with late(server.open) as store:
        store.first_look(DEADLINE)
        for ask in (store.check, store.read, store.write):
            with pytest.raises(StoreUnavailable, match="connection refused"):
                ask()
        server.error = None
        until(lambda: works(store), "it is open", DEADLINE)
        with store.write() as transaction:
            assert transaction.now() > 0
        with store.read() as reader:
            assert reader.workers(lost_after=1.0) == []


def test_a_look_that_lasts_is_not_waited_for(server: Server) -> None:
    answered = threading.Event()

    def slowly() -> Datastore:
        assert answered.wait(DEADLINE)
        return server.open()

    server.error = None
    with late(slowly) as store:
        store.first_look(0.0)
        with pytest.raises(StoreUnavailable, match="not answered yet"):
            store.check()
        answered.set()
        until(lambda: works(store), "it is open", DEADLINE)


def test_a_schema_that_is_not_ours_is_told_at_the_start_and_works_when_it_was_migrated(server: Server) -> None:
    server.error = SchemaMismatch("run `echelon migrate`")
    with late(server.open) as store:
        with pytest.raises(SchemaMismatch, match="echelon migrate"):
            store.first_look(DEADLINE)
        with pytest.raises(StoreUnavailable, match="echelon migrate"):
            store.check()
        server.error = None
        until(lambda: works(store), "it is open", DEADLINE)


def test_even_a_mistake_of_ours_does_not_end_the_looking(server: Server) -> None:
    server.error = RuntimeError("a mistake")
    with late(server.open) as store:
        store.first_look(DEADLINE)
        server.error = None
        until(lambda: works(store), "it is open", DEADLINE)
