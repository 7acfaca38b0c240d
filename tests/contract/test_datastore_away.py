"""A datastore that is away when its controller starts: every use says so, and works as soon as it answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from echelon.controller.datastore.errors import SchemaMismatch
from echelon.controller.datastore.migrate import HEAD
from echelon.controller.datastore.open import migrate_datastore, open_when_there
from echelon.controller.datastore.port import Datastore
from echelon.controller.datastore.postgresql import translate_error
from echelon.shared.errors import InvalidInput, StoreUnavailable
from echelon.shared.ids import new_job_id
from tests.contract.certificates import issue, make_authority
from tests.contract.servers import PrivatePostgresql, postgresql_binaries, postgresql_server, unavailable
from tests.contract.test_datastore_schema import set_schema

__all__ = ["postgresql_server"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give the place of a folder where a file stands: no database can be made in it."""
    (tmp_path / "data").touch()
    return tmp_path / "data"


@pytest.fixture
def store(folder: Path) -> Iterator[Datastore]:
    datastore = open_when_there(f"sqlite:///{folder}/echelon.db")
    yield datastore
    datastore.close()


def use(store: Datastore) -> None:
    """Use a store in every way."""
    store.check()
    with store.write() as transaction:
        assert transaction.now() > 0
    with store.read() as reader:
        assert reader.list_workers(lost_after=1.0) == []
    assert store.find_job(new_job_id()) is None


def read(store: Datastore) -> None:
    with store.read():
        pass


def write(store: Datastore) -> None:
    with store.write():
        pass


def test_every_use_says_that_it_is_away_and_works_when_it_has_come(store: Datastore, folder: Path) -> None:
    for way in (lambda store: store.check(), read, write, lambda store: store.find_job(new_job_id())):
        with pytest.raises(StoreUnavailable, match="cannot be opened"):
            way(store)

    folder.unlink()

    use(store)


def test_a_schema_of_another_release_is_refused_at_the_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/echelon.db"
    migrate_datastore(url)
    set_schema(url, "9999")

    with pytest.raises(SchemaMismatch, match="newer"):
        open_when_there(url)


def test_a_schema_of_another_release_is_refused_when_it_comes_later(store: Datastore, folder: Path) -> None:
    folder.unlink()
    url = f"sqlite:///{folder}/echelon.db"
    migrate_datastore(url)
    set_schema(url, "9999")
    with pytest.raises(SchemaMismatch, match="newer"):
        write(store)

    set_schema(url, HEAD)

    use(store)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PrivatePostgresql]:
    """Give a PostgreSQL that may be stopped and configured."""
    binaries = postgresql_binaries()
    if binaries is None:
        unavailable("PostgreSQL's programs are not there")
        return
    with PrivatePostgresql(binaries) as server:
        migrate_datastore(server.url)
        yield server


@pytest.mark.server
def test_a_server_that_starts_after_its_controller_is_used_when_it_answers(own_server: PrivatePostgresql) -> None:
    own_server.stop()
    store = open_when_there(own_server.url)
    for way in (lambda store: store.check(), read, write, lambda store: store.find_job(new_job_id())):
        with pytest.raises(StoreUnavailable):
            way(store)

    own_server.start()

    use(store)
    store.close()


@pytest.mark.server
def test_with_tls_the_certificate_is_checked(own_server: PrivatePostgresql, tmp_path: Path) -> None:
    authority = make_authority(tmp_path, "ours")

    def over_tls(host: str, trusted: Path) -> str:
        url = own_server.url.replace("127.0.0.1", host)
        return f"{url}?sslmode=verify-full&sslrootcert={trusted}"

    def refused(host: str, trusted: Path) -> str:
        store = open_when_there(over_tls(host, trusted))
        with pytest.raises(StoreUnavailable) as told:
            store.check()
        store.close()
        return str(told.value)

    assert "speaks no TLS" in refused("localhost", authority.file)
    own_server.speak_tls(issue(authority, tmp_path, "localhost"))
    stranger = refused("localhost", make_authority(tmp_path, "stranger").file)
    assert "is not trusted" in stranger and "sslrootcert" in stranger
    assert "is for another host" in refused("127.0.0.1", authority.file)
    assert "is not trusted" in refused("localhost", tmp_path / "missing.pem")
    store = open_when_there(over_tls("localhost", authority.file))
    use(store)
    store.close()
    with psycopg.connect(own_server.url) as connection:
        found = connection.execute("SHOW ssl").fetchone()
    assert found == ("on",)


@pytest.mark.server
def test_the_cause_decides_the_words(postgresql_server: str) -> None:
    server = urlsplit(postgresql_server)

    def refused(**parts: str) -> str:
        given = {"user": server.username, "host": server.hostname, "port": server.port, "name": "postgres", **parts}
        store = open_when_there("postgresql://{user}:S3CR3T@{host}:{port}/{name}".format(**given))
        with pytest.raises(StoreUnavailable) as told:
            store.check()
        store.close()
        assert "S3CR3T" not in str(told.value)
        return str(told.value)

    assert "has no database of that name" in refused(name="nowhere")
    assert "does not know the user" in refused(user="stranger")
    assert "nothing listens" in refused(port="1")
    assert "no host of that name" in refused(host="no-such-host.invalid")
    told = translate_error(psycopg.OperationalError('FATAL:  password authentication failed for user "echelon"'))
    assert "refuses the user or the password" in str(told)


def test_an_option_that_postgresql_does_not_know_is_a_mistake_in_the_url() -> None:
    with pytest.raises(InvalidInput, match=r"option in the datastore's URL cannot be used .*sslmod"):
        open_when_there("postgresql://echelon:S3CR3T@localhost:1/echelon?sslmod=require")
