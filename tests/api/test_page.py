"""The page to try the interface at: from this machine alone, and nothing it shows can run."""

from __future__ import annotations

import re

from echelon.controller.api import page
from tests.api.stand import Stand

FOLDER = page._FILES


def test_the_page_and_what_it_needs_come_from_here(stand: Stand) -> None:
    with stand.client.get("/docs") as response:
        html = response.text
        policy = response.headers["Content-Security-Policy"]

    assert policy.startswith("default-src 'self'") and "unsafe" not in policy
    for address in re.findall(r'(?:src|href)="([^"]+)"', html):
        with stand.client.get(address) as found:
            assert (address.startswith("/"), found.status_code) == (True, 200)


def test_no_script_or_style_stands_in_the_page_itself(stand: Stand) -> None:
    html = (FOLDER / "docs.html").read_text()

    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|javascript:|style=", html)


def test_nothing_of_an_answer_becomes_markup() -> None:
    script = (FOLDER / "docs.js").read_text()

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Function\(|https?://", script)


def test_no_other_file_is_served(stand: Stand) -> None:
    for path in (
        "/docs/../page.py",
        "/docs/page.py",
        "/docs/",
        "/docs/docs.html",
        "/static/docs.js",
        "/docs/%2e%2e/page.py",
    ):
        assert stand.client.get(path).status_code == 404
