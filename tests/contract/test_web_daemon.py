"""The page with the real daemon behind it, over its real sockets: what the stand-in of the other tests is held to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.contract import test_api
from tests.contract.test_api import SERVICES, Served
from tests.contract.test_web import Page, serving, until

pytestmark = test_api.pytestmark
served, passed = test_api.served, test_api.passed


@pytest.fixture(scope="module")
def page(passed: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    with serving(folder, run=passed.folder) as page:
        yield page


def app_of(page: Page) -> str:
    return str(page.get("/index.json").json()["apps"][0]["name"])


def test_the_front_page_has_every_service_and_the_commit_that_runs(page: Page) -> None:
    text = page.text("/")
    assert text.count('class="dots"') == SERVICES
    for words in ("Healthy", "Synced", "1/1", "Begin", "Lab"):
        assert words in text


@pytest.mark.parametrize("path", ["/deploys", "/events", "/deploys/abcd"])
def test_every_page_that_asks_the_daemon_alone_is_there(page: Page, path: str) -> None:
    assert "web-1" in page.text(path)


def test_an_app_is_drawn_with_its_routes_and_instances(page: Page) -> None:
    app = page.get(f"/apps/{app_of(page)}.json").json()
    text = page.text(f"/apps/{app['name']}")
    for service in app["services"]:
        assert f'id="{service["name"]}"' in text
        for instance in service["instances"]:
            assert instance["name"] in text
        for route in service["routes"]:
            assert route["matches"][0] in text


def test_the_api_is_handed_on_unchanged(page: Page, passed: Served) -> None:
    import http.client
    import socket

    direct = http.client.HTTPConnection("localhost")
    direct.sock = socket.socket(socket.AF_UNIX)
    direct.sock.connect(str(passed.folder / "api.sock"))
    direct.request("GET", "/v1/status")
    assert page.get("/v1/status").json() == json.loads(direct.getresponse().read())
    direct.close()
    assert page.get("/v1/openapi.json").json()["openapi"].startswith("3.")


def test_buttons_are_the_daemons_and_what_they_change_is_seen_live(page: Page, passed: Served) -> None:
    app = app_of(page)
    seal = page.seal(f"/apps/{app}")
    with page.events(f"/apps/{app}") as events:
        until(events, app)
        answer = page.post(f"/apps/{app}/suspend", {"seal": seal, "why": "seen live", "lasts": "1 hour"})
        assert "suspended" in answer.text
        until(events, "seen live", "root", "until")
        assert "resumed" in page.post(f"/apps/{app}/resume", {"seal": seal}).text
        text = until(events, app)
        while "seen live" in text:
            text = until(events, app)
    answer = page.post(f"/apps/{app}/retry", {"seal": seal})
    assert "no version is marked failed" in answer.text
    assert re.search(r'role="alert"', answer.text)
    assert "is not suspended here" in page.post("/resume", {"seal": seal}).text
