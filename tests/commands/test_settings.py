"""Settings: flag over environment over file over default, and every mistake says where it stands."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from echelon.controller.settings import Address, Settings, list_settings, read_address, resolve_settings
from echelon.shared.readers import read_seconds, read_size
from echelon.shared.settings import InvalidSetting, Origin

NO_FILE = {"ECHELON_CONFIG": "/dev/null"}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "echelon.toml"
    path.write_text('slots = 7\nlisten = "127.0.0.1:9000"\ncatalogue = ["jobs.yaml", "/more"]\nlease = 20\n')
    return path


def test_a_flag_stands_over_the_environment_and_that_over_the_file(config: Path) -> None:
    found = resolve_settings({"slots": "3"}, {"ECHELON_SLOTS": "5", "ECHELON_LISTEN": "[::1]:80"}, file=config)

    assert (found.settings.slots, found.origins["slots"]) == (3, Origin.FLAG)
    assert (found.settings.listen, found.origins["listen"]) == (Address("::1", 80), Origin.ENVIRONMENT)
    assert (found.settings.lease, found.origins["lease"]) == (20.0, Origin.FILE)
    assert (found.settings.heartbeat, found.origins["heartbeat"]) == (5.0, Origin.DEFAULT)


def test_paths_of_a_config_file_begin_in_its_folder(config: Path) -> None:
    found = resolve_settings({}, {}, file=config)

    assert found.settings.catalogue == (config.parent / "jobs.yaml", Path("/more"))


def test_paths_of_a_flag_begin_in_the_current_folder() -> None:
    found = resolve_settings({"catalogue": ("a.yaml", "b.yaml")}, NO_FILE)

    assert found.settings.catalogue == (Path("a.yaml"), Path("b.yaml"))


def test_what_stands_there_for_workers_is_not_read(config: Path) -> None:
    config.write_text(config.read_text() + '[worker]\nname = "north-1"\nslots = "many"\n')

    assert resolve_settings({}, {}, file=config).settings.slots == 7


def test_an_empty_variable_is_none() -> None:
    assert resolve_settings({}, {"ECHELON_SLOTS": "", **NO_FILE}).origins["slots"] is Origin.DEFAULT


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("slot = 3", "there is no setting 'slot'; did you mean 'slots'?"),
        ("slots = 0", "slots: '0' cannot be used: write a whole number from 1"),
        ("slots = [1, 2]", "slots: '[1, 2]' cannot be used"),
        ("listen = 8080", "listen: '8080' cannot be used: write HOST:PORT"),
        ("[slots]\nx = 1", "slots: write one plain value"),
        ("lease = 2.9", "lease: '2.9' cannot be used: write 3s or more"),
        ("slots = ", "Invalid value"),
        ("\xff", "Invalid"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_its_place(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "echelon.toml"
    path.write_text(content)

    with pytest.raises(InvalidSetting) as caught:
        resolve_settings({}, {}, file=path)

    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_all_unknown_keys_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "echelon.toml"
    path.write_text("a = 1\nlistn = 2\n")

    with pytest.raises(InvalidSetting, match=r"'a'.*\n.*did you mean 'listen'"):
        resolve_settings({}, {}, file=path)


def test_a_mistake_in_a_variable_is_named_with_the_variable() -> None:
    with pytest.raises(InvalidSetting, match=r"ECHELON_SLOTS: 'many' cannot be used"):
        resolve_settings({}, {"ECHELON_SLOTS": "many", **NO_FILE})


def test_a_config_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="there is no config file"):
        resolve_settings({}, {"ECHELON_CONFIG": str(tmp_path / "missing.toml")})


def test_the_users_own_config_file_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "echelon").mkdir()
    (tmp_path / "echelon" / "echelon.toml").write_text("slots = 9\n")

    assert resolve_settings({}, {}).settings.slots == 9


def test_a_secret_may_lie_in_a_file_and_is_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("S3CR3T\n")

    found = resolve_settings({}, {"ECHELON_TOKEN_FILE": str(secret), **NO_FILE})

    assert (found.settings.token, found.origins["token"]) == ("S3CR3T", Origin.ENVIRONMENT)
    assert "S3CR3T" not in repr(found) + repr(found.rows())


def test_a_secret_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"--token-file: cannot read .*missing: No such file"):
        resolve_settings({"token_file": str(tmp_path / "missing")}, NO_FILE)


@pytest.mark.parametrize("content", ["", " \n"])
@pytest.mark.parametrize("name", ["TOKEN", "DATASTORE", "BROKER"])
def test_a_secret_file_without_a_secret_is_refused(tmp_path: Path, name: str, content: str) -> None:
    empty = tmp_path / "secret"
    empty.write_text(content)

    with pytest.raises(InvalidSetting, match=rf"ECHELON_{name}_FILE: .*/secret is empty: write the value into it"):
        resolve_settings({}, {f"ECHELON_{name}_FILE": str(empty), **NO_FILE})


def test_the_password_of_a_url_is_masked() -> None:
    url = "postgresql://me:S3C/R3@T@host/db?password=S3CR3T"
    shown = [value for one, value, _ in resolve_settings({"datastore": url}, NO_FILE).rows() if one.name == "datastore"]

    assert shown == ["postgresql://me:********@host/db?password=********"]


def test_without_a_database_url_the_store_is_a_file_in_the_volume() -> None:
    assert Settings(volume=Path("/data")).datastore_url == "sqlite:////data/.echelon/echelon.db"


def test_every_setting_has_a_meaning_and_a_variable_of_its_own() -> None:
    rows = list_settings()

    assert all(one.meaning.endswith(".") for one in rows)
    assert len({one.variable for one in rows}) == len(rows)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:80", True), ("[::1]:80", True), ("localhost:80", True), ("0.0.0.0:80", False), ("host:80", False)],
)
def test_an_address_knows_whether_only_this_machine_reaches_it(text: str, expected: bool) -> None:
    assert read_address(text).is_loopback is expected
    assert str(read_address(text)) == text


@pytest.mark.parametrize("text", ["", ":80", "host", "host:", "host:http", "host:70000", "host:-1", "host:٣"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        read_address(text)


@pytest.mark.parametrize(("text", "expected"), [("10", 10), ("1.5s", 1.5), ("500ms", 0.5), ("10m", 600), ("2h", 7200)])
def test_lengths_of_time_are_written_as_people_write_them(text: str, expected: float) -> None:
    assert read_seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("30 days", "write 30d"), ("1.5 Hours", "write 1.5h"), ("10min", "write 10m"), ("90 seconds", "write 90s"),
        ("2 months", "write a number of seconds, or"), ("soon", "write a number of seconds, or"),
    ],
)  # fmt: skip
def test_a_length_of_time_in_words_is_told_how_it_is_written(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        read_seconds(text)


@pytest.mark.parametrize(("text", "expected"), [("4096", 4096), ("64KiB", 65536), ("16 MiB", 1 << 24), ("1g", 1 << 30)])
def test_sizes_are_written_as_people_write_them(text: str, expected: int) -> None:
    assert read_size(text) == expected


def test_the_origin_of_a_secret_in_a_file_names_what_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t\n")
    (tmp_path / "echelon.toml").write_text('token_file = "token"\n')
    file, token = tmp_path / "echelon.toml", str(tmp_path / "token")

    def show(given: dict[str, str], environ: dict[str, str], file: Path | None) -> str:
        return next(row[2] for row in resolve_settings(given, environ, file=file).rows() if row[0].name == "token")

    assert show({}, {"ECHELON_TOKEN_FILE": token, **NO_FILE}, None) == "environment (ECHELON_TOKEN_FILE)"
    assert show({"token_file": token}, NO_FILE, None) == "flag (--token-file)"
    assert show({}, {}, file) == f"file ({file}: token_file)"
    assert show({}, {"ECHELON_TOKEN": "s3cr3t", **NO_FILE}, None) == "environment"


def test_a_home_that_belongs_to_another_user_holds_no_settings(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".config").mkdir(parents=True)
    tmp_path.chmod(0o755)
    home.chmod(0o000)
    was = os.geteuid()
    resolve_settings({}, {})
    try:
        if was == 0:
            os.seteuid(12_345)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home))
            patch.delenv("XDG_CONFIG_HOME", raising=False)
            assert resolve_settings({}, {}).settings.slots >= 1
            with pytest.raises(InvalidSetting, match="Permission denied"):
                resolve_settings({}, {}, file=home / "named.toml")
    finally:
        os.seteuid(was)
        home.chmod(0o755)


def test_a_config_file_of_the_user_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / ".config/echelon/echelon.toml"
    folder.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.delenv("XDG_CONFIG_HOME", raising=False)
        with pytest.raises(InvalidSetting, match=r"echelon\.toml"):
            resolve_settings({}, {})
