"""Who may ask, from where, in which form; and what every answer carries."""

from __future__ import annotations

import base64
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from echelon.controller.api.config import ApiSettings
from echelon.controller.settings import Address, Settings
from echelon.shared.logs import ACCESS
from tests.api.stand import API, Stand
from tests.engine.house import Puppet

TOKEN = "a-token-nobody-guesses"


@pytest.fixture
def guarded(tmp_path: Path) -> Stand:
    return Stand(tmp_path, ApiSettings(token=TOKEN, hosts=None))


def addresses(stand: Stand) -> list[tuple[str, str]]:
    """Return (method, path) of every route there is."""
    found = []
    for rule in stand.app.url_map.iter_rules():
        path = rule.rule.replace("<uuid:job_id>", "0" * 8 + "-0000" * 3 + "-" + "0" * 12)
        path = path.replace("<uuid:task_id>", "0" * 8 + "-0000" * 3 + "-" + "0" * 12).replace("<string:type>", "hello")
        path = path.replace("<path:path>", "x").replace("<any('docs.css', 'docs.js'):name>", "docs.js")
        path = path.replace("<uuid:worker_id>", "0" * 8 + "-0000" * 3 + "-" + "0" * 12)
        path = path.replace("<int:stage>", "0")
        assert "<" not in path
        found += [(method, path) for method in sorted(rule.methods or ())]
    return found


def test_every_route_but_one_asks_for_the_token(guarded: Stand) -> None:
    for method, path in addresses(guarded):
        response = guarded.client.open(path, method=method)

        expected = 200 if path == "/healthz" else 401
        assert response.status_code == expected, (method, path)
        if expected == 401:
            assert response.content_type == "application/problem+json"
            assert "Bearer" in response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}"},
        {"authorization": f"bearer  {TOKEN}"},
        {"X-Echelon-Token": TOKEN},
        {"X-Echelon-Token": TOKEN, "Authorization": "Bearer of-the-job"},
        {"Authorization": "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()},
    ],
)
def test_the_token_opens(guarded: Stand, headers: dict[str, str]) -> None:
    assert guarded.client.get(f"{API}/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer ä"},
        {"Authorization": "Basic ====", "X-Echelon-Token": ""},
        {"Authorization": "Basic " + base64.b64encode(TOKEN.encode()).decode()},
        {"X-Echelon-Token": TOKEN.upper()},
    ],
)
def test_anything_else_does_not(guarded: Stand, headers: dict[str, str]) -> None:
    assert guarded.client.get(f"{API}/jobs", headers=headers).status_code == 401


def test_the_controllers_token_never_becomes_an_input_of_a_job(guarded: Stand) -> None:
    body = {"type": "guarded", "input": {"text": "x"}}

    as_bearer = guarded.client.post(f"{API}/jobs", json=body, headers={"Authorization": f"Bearer {TOKEN}"})
    apart = guarded.client.post(
        f"{API}/jobs", json=body, headers={"X-Echelon-Token": TOKEN, "Authorization": "Bearer of-the-job"}
    )

    assert (as_bearer.status_code, as_bearer.json["errors"][0]["pointer"]) == (422, "#/headers/Authorization")
    assert apart.status_code == 201


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "LOCALHOST"])
def test_a_name_of_this_machine_is_answered(stand: Stand, host: str) -> None:
    assert stand.client.get(f"{API}/jobs", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.com", "localhost.evil.com", "evil.com:8080", "127.0.0.1.evil.com", "::1", ""])
def test_another_name_is_not(stand: Stand, host: str) -> None:
    response = stand.client.get(f"{API}/jobs", headers={"Host": host})

    assert (response.status_code, response.content_type) == (421, "application/problem+json")


def test_without_a_token_a_loopback_address_has_names_of_its_own_and_an_open_one_those_it_is_given() -> None:
    here = Settings(hosts=("Echelon.test",))

    assert ApiSettings.from_settings(here).hosts == {"localhost", "127.0.0.1", "[::1]", "echelon.test"}
    assert ApiSettings.from_settings(replace(here, token="x")).hosts is None
    open_to_all = replace(here, listen=Address("0.0.0.0", 8080), insecure=True)
    assert ApiSettings.from_settings(open_to_all).hosts == {
        "localhost",
        "127.0.0.1",
        "[::1]",
        "0.0.0.0",
        "echelon.test",
    }
    assert ApiSettings.from_settings(replace(open_to_all, hosts=())).hosts is None


def test_with_a_token_any_name_is_answered(guarded: Stand) -> None:
    headers = {"Host": "echelon.example.org", "X-Echelon-Token": TOKEN}

    assert guarded.client.get(f"{API}/jobs", headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, 201),
        ({}, 201),
    ],
)
def test_a_page_of_another_origin_cannot_submit(stand: Stand, headers: dict[str, str], status: int) -> None:
    response = stand.client.post(f"{API}/jobs", json={"type": "hello", "input": {}}, headers=headers)

    assert response.status_code == status
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_form_of_any_page_cannot_cancel(stand: Stand) -> None:
    job = stand.post()

    response = stand.client.post(f"{API}/jobs/{job['job_id']}/cancel", data={"x": "y"})

    assert response.status_code == 415
    assert stand.get(f"/jobs/{job['job_id']}")["state"] == "RUNNING"


def test_every_answer_forbids_what_a_browser_could_do_with_it(stand: Stand) -> None:
    for path in (f"{API}/jobs", "/nothing", "/docs", "/openapi.json", f"{API}/jobs/{stand.post()['job_id']}/log"):
        with stand.client.get(path) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Frame-Options"] == "DENY"
            assert "Access-Control-Allow-Origin" not in response.headers


def test_a_sane_request_id_is_echoed_and_remembered(stand: Stand) -> None:
    response = stand.client.post(
        f"{API}/jobs", json={"type": "hello", "input": {}}, headers={"X-Request-ID": "from-a-client.1"}
    )

    events = stand.get(f"/jobs/{response.json['job_id']}/events")["items"]
    assert response.headers["X-Request-ID"] == "from-a-client.1"
    assert events[0]["detail"]["request_id"] == "from-a-client.1"


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", '"level":"error"', "ä"])
def test_another_request_id_is_replaced(stand: Stand, given: str) -> None:
    response = stand.client.get("/healthz", headers={"X-Request-ID": given})

    assert response.headers["X-Request-ID"] not in ("", given)


def test_an_unknown_route_a_wrong_method_and_too_much_are_problems(stand: Stand) -> None:
    missing = stand.client.get("/api/v2/jobs")
    wrong = stand.client.put(f"{API}/jobs", json={})
    large = stand.client.post(f"{API}/jobs", data=b" " * 10_000_000, content_type="application/json")

    assert [one.status_code for one in (missing, wrong, large)] == [404, 405, 413]
    assert {one.content_type for one in (missing, wrong, large)} == {"application/problem+json"}
    assert wrong.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


def test_a_fault_is_told_to_the_log_and_not_to_the_client(stand: Stand, caplog: pytest.LogCaptureFixture) -> None:
    def fault() -> str:
        raise RuntimeError("S3CR3T of the inside")

    stand.app.add_url_rule("/fault", view_func=fault)

    with caplog.at_level(logging.ERROR):
        response = stand.client.get("/fault?\n")

    assert (response.status_code, response.content_type) == (500, "application/problem+json")
    assert "S3CR3T" not in response.text and "Traceback" not in response.text
    assert response.json["request_id"] in response.json["detail"]
    assert response.json["request_id"] in caplog.text and "S3CR3T" in caplog.text


def test_without_its_volume_the_controller_says_so_and_when_to_try_again(stand: Stand) -> None:
    job = stand.finished()
    Puppet(stand)
    stand.settings.volume.rename(stand.settings.volume.with_name("unmounted"))

    ready = stand.client.get("/readyz")
    artefacts = stand.client.get(f"{API}/jobs/{job['job_id']}/artefacts")

    assert (ready.status_code, ready.json["ready"], ready.content_type) == (503, False, "application/problem+json")
    assert [part["name"] for part in ready.json["parts"] if not part["ok"]] == ["volume", "disk"]
    assert ready.headers["Retry-After"] == "2"
    assert stand.client.get("/healthz").status_code == 200
    assert artefacts.status_code in (200, 503)


def test_the_figures_tell_of_jobs_tasks_and_requests_but_of_no_paths(stand: Stand) -> None:
    job = stand.post()
    stand.get(f"/jobs/{job['job_id']}")
    stand.client.get("/nothing/of/this/kind")
    stand.client.open("/healthz", method="BREW")

    text = stand.client.get("/metrics").text

    assert 'echelon_jobs{state="RUNNING"} 1.0' in text
    assert 'echelon_open_tasks{state="QUEUED"} 1.0' in text
    assert 'echelon_http_requests_total{method="GET",route="/api/v1/jobs/<uuid:job_id>",status="200"} 1.0' in text
    assert 'method="other"' in text
    assert "nothing" not in text and job["job_id"] not in text


def test_when_the_store_is_away_the_answer_is_503_and_when_to_try_again(stand: Stand) -> None:
    job = stand.post()
    stand.store.close()
    database = stand.settings.volume / ".echelon" / "echelon.db"
    for file in database.parent.glob("echelon.db*"):
        file.rename(file.with_suffix(".away"))
    database.mkdir()

    for method, path in [
        ("GET", f"/jobs/{job['job_id']}"),
        ("POST", f"/jobs/{job['job_id']}/cancel"),
        ("GET", "/queues"),
    ]:
        response = stand.client.open(API + path, method=method)

        assert (response.status_code, response.content_type) == (503, "application/problem+json"), response.text
        assert response.headers["Retry-After"] == "2"
    assert stand.client.get("/readyz").status_code == 503
    assert "echelon_store_up 0.0" in stand.client.get("/metrics").text


def test_no_page_of_another_origin_changes_anything_by_any_route(stand: Stand) -> None:
    """A form, a script of another site, a rebound name: each is stopped at every route that changes something."""
    job = stand.post("fan")
    (task, *_) = stand.get(f"/jobs/{job['job_id']}/tasks")["items"]
    before = stand.get(f"/jobs/{job['job_id']}"), stand.get(f"/jobs/{job['job_id']}/events"), stand.get("/jobs")
    nobody = "0" * 8 + "-0000" * 3 + "-" + "0" * 12
    changing = [
        (
            method,
            path.replace(f"jobs/{nobody}", f"jobs/{job['job_id']}").replace(
                f"tasks/{nobody}", f"tasks/{task['task_id']}"
            ),
        )
        for method, path in addresses(stand)
        if method in ("POST", "DELETE")
    ]

    assert len(changing) >= 22
    for method, path in changing:
        form = stand.client.open(path, method=method, data={"only_failed": "false"})
        text = stand.client.open(path, method=method, data="[{}]", content_type="text/plain")
        page = stand.client.open(path, method=method, json={}, headers={"Origin": "https://evil.com"})
        site = stand.client.open(path, method=method, headers={"Sec-Fetch-Site": "cross-site"})
        rebound = stand.client.open(path, method=method, headers={"Host": "evil.com"})

        answers = (form, text, page, site, rebound)
        assert [one.status_code for one in answers] == [415, 415, 403, 403, 421], (method, path)
        assert {one.content_type for one in answers} == {"application/problem+json"}
    after = stand.get(f"/jobs/{job['job_id']}"), stand.get(f"/jobs/{job['job_id']}/events"), stand.get("/jobs")
    assert after == before


def test_a_request_is_a_line_of_the_access_log_if_that_is_wanted(
    stand: Stand, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    stand.client.get(f"{API}/jobs?state=RUNNING&token=S3CR3T", headers={"X-Request-ID": "r1"})

    (record,) = [record for record in caplog.records if record.name == ACCESS.name]
    assert "request method=GET path=/api/v1/jobs status=" in record.getMessage()
    assert "request_id=r1" in record.getMessage() and "S3CR3T" not in record.getMessage()

    monkeypatch.setattr(ACCESS, "disabled", True)
    caplog.clear()
    stand.client.get(f"{API}/jobs")
    assert caplog.records == []
