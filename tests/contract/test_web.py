"""The page as a process of its own, asked over HTTP; behind it is a stand-in for the daemon."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from msgspec.structs import replace

from gitops_mvd.api.endpoints import BY_NAME
from gitops_mvd.api.views import CommitView, DrainView, HeldView, LogLine
from gitops_mvd.web.live import MOST_SCREENS
from tests.daemon_standin import World, commit, daemon
from tests.page_world import chatbot, going, green, line, plain, red, server, troubled

TOKEN = "a-token-of-more-than-sixteen-characters"
SSE = {"Accept": "text/event-stream"}
PATIENCE_SECONDS = 20.0
MOST_BYTES_OF_STYLE = 50_000
MOST_MEMORY_KB = 60 * 1024
PATHS = {
    "/": "/index.json",
    "/apps/chatbot": "/apps/chatbot.json",
    "/plan": "/plan.json",
    "/deploys": "/deploys.json",
    "/deploys/3f9c2a1": "/deploys/3f9c2a1.json",
    "/logs/chatbot": "/logs/chatbot.json",
    "/logs/chatbot/web": "/logs/chatbot/web.json",
    "/events": "/events.json",
    "/doctor": "/doctor.json",
}
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>\x1b[31mred\x1b[0m \x07'


@dataclass(frozen=True)
class Page:
    """A running `mvd web`."""

    url: str
    process: subprocess.Popen[str]
    log: Path

    def get(self, path: str, headers: Mapping[str, str] | None = None, **more: Any) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"{self.url}{path}", headers=headers, timeout=30, **more)

    def text(self, path: str, **more: Any) -> str:
        answer = self.get(path, **more)
        assert answer.status_code == 200, answer.text[:500]
        return answer.text

    def post(
        self, path: str, form: Mapping[str, str], headers: Mapping[str, str] | None = None, **more: Any
    ) -> requests.Response:
        with requests.Session() as session:
            session.trust_env = False
            return session.post(f"{self.url}{path}", data=form, headers=headers, timeout=30, **more)

    def seal(self, path: str = "/", **more: Any) -> str:
        found = re.search(r'name="seal" value="([0-9a-f]+)"', self.text(path, **more))
        assert found, "the page has a form"
        return found[1]

    def memory(self) -> int:
        """What it has of the machine's memory, in KB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        return int(found[1])

    @contextmanager
    def events(self, path: str, headers: Mapping[str, str] | None = None) -> Iterator[Iterator[tuple[str, str]]]:
        """The events of a page that stays open: name and text."""
        with requests.Session() as session:
            session.trust_env = False
            with session.get(
                f"{self.url}{path}", headers={**SSE, **(headers or {})}, stream=True, timeout=PATIENCE_SECONDS
            ) as answer:
                assert answer.status_code == 200, answer.text
                assert answer.headers["Content-Type"] == "text/event-stream"
                yield read_events(answer)


def read_events(answer: requests.Response) -> Iterator[tuple[str, str]]:
    name, text = "", []
    for said in answer.iter_lines(chunk_size=1, decode_unicode=True):
        if said.startswith("id: "):
            yield "id", said[4:]
        elif said.startswith("event: "):
            name = said[7:]
        elif said.startswith("data: "):
            text.append(said[6:])
        elif said.startswith(":"):
            yield "beat", ""
        elif not said and name:
            yield name, "\n".join(text)
            name, text = "", []


def until(events: Iterator[tuple[str, str]], *words: str, name: str = "page") -> str:
    """The first event of that name with all of these words in it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    last = ""
    for found, text in events:
        last = text if found == name else last
        if found == name and all(word in text for word in words):
            return text
        if time.monotonic() > deadline:
            break
    raise AssertionError(f"{words} did not come: {last[:2000]}")


def eventually(look: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not look():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings_text(folder: Path, port: int, web: str = "") -> str:
    return f"repository: /srv/config\nhost: web-1\nrun: {folder}\nweb: {{listen: '127.0.0.1:{port}'{web}}}\n"


@contextmanager
def serving(folder: Path, web: str = "", *words: str, run: Path | None = None) -> Iterator[Page]:
    """Inside, `mvd web` runs with these settings; `web` is what is in its section, behind `listen`.

    `run` is the folder of the daemon's sockets, `folder` itself by default.
    """
    port = free_port()
    config, log = folder / "config.yaml", folder / "web.log"
    config.write_text(settings_text(run or folder, port, web))
    command = [sys.executable, "-m", "gitops_mvd", "--config", str(config), "web", *words]
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, text=True)
    try:
        page = Page(f"http://127.0.0.1:{port}", process, log)
        eventually(lambda: process.poll() is not None or listens(port), "it listens")
        assert process.poll() is None, log.read_text()
        yield page
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        process.terminate()
        assert process.wait(10) in (0, -15), log.read_text()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture
def world() -> World:
    return server()


@pytest.fixture
def page(world: World, tmp_path: Path) -> Iterator[Page]:
    with daemon(world, tmp_path), serving(tmp_path) as page:
        yield page


@pytest.fixture
def locked(world: World, tmp_path: Path) -> Iterator[Page]:
    """A page with a token."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with daemon(world, tmp_path), serving(tmp_path, f", token_file: {tmp_path}/token") as page:
        yield page


# ---- what it shows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
def test_every_page_comes_with_its_rules_and_without_anything_from_elsewhere(page: Page, path: str) -> None:
    answer = page.get(path)
    assert answer.status_code == 200
    rules = answer.headers["Content-Security-Policy"]
    assert rules.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in rules
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Server" not in answer.headers
    loaded = re.findall(r'(?:src|href|action)="([^"]*)"', answer.text)
    outside = [it for it in loaded if not it.startswith(("/", "#", "?"))]
    assert all(it.startswith("https://forge.example.com/") for it in outside), outside
    assert not re.search(r"<[^>]+\s(?:style|on\w+)=", answer.text), "nothing is inline"
    assert not re.search(r"<script(?! src=)", answer.text)


def test_script_and_style_are_small_and_cached_by_their_content(page: Page) -> None:
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text("/"))
    answers = {path: page.get(path) for path in dict.fromkeys(found)}
    assert {path.partition("?")[0] for path in answers} == {"/static/mvd.css", "/static/mvd.js", "/static/mark.svg"}
    assert sum(len(answer.content) for answer in answers.values()) < MOST_BYTES_OF_STYLE
    assert all("immutable" in answer.headers["Cache-Control"] for answer in answers.values())
    assert not any(re.search(r"https?://(?!www\.w3\.org)|@import", answer.text) for answer in answers.values())


@pytest.mark.parametrize("path", [path for path in PATHS if not path.startswith("/logs")])
def test_every_page_has_the_answer_of_the_api_as_its_json(page: Page, world: World, path: str) -> None:
    answer = page.get(PATHS[path])
    assert answer.headers["Content-Type"] == "application/json"
    expected: Any = {
        "/": world.status,
        "/apps/chatbot": world.app("chatbot"),
        "/plan": world.plan,
        "/deploys": [replace(it, steps=()) for it in world.operations],
        "/deploys/3f9c2a1": [it for it in world.operations if it.commit.commit.startswith("3f9c2a1")],
        "/events": world.answer("events", {}),
        "/doctor": world.doctor,
    }[path]
    assert answer.json() == json.loads(msgspec.json.encode(expected))


def test_the_front_page_has_each_app_with_what_runs_and_what_is_wrong(page: Page) -> None:
    text = page.text("/")
    for words in (
        *("Degraded", "OutOfSync", "Move search to OpenSearch 2.19", "Marta Silva", "Priya Natarajan"),
        *("3/3", "1/2", "b4d15c0 failed and was rolled back", "registry.example.com:5000/payments/"),
        *("https://forge.example.com/acme/config/commit/3f9c2a1", "every day at 02:30"),
    ):
        assert words in text
    assert text.index(">billing<") < text.index(">search<") < text.index(">chatbot<"), "what is wrong comes first"
    assert ">chatbot<" not in page.text("/?q=degraded")


def test_the_front_page_tells_of_trouble_with_git_settings_and_threads(world: World, page: Page) -> None:
    world.show(troubled().status)
    text = page.text("/")
    trouble = "could not resolve host forge.example.com", "docker events", "came to nothing", "branhc"
    for words in (*trouble, "Greet in Welsh</b> waits: wave 1 (canary) is not green yet"):
        assert words in text


def test_an_app_is_drawn_from_the_gateway_to_its_instances(page: Page) -> None:
    text = page.text("/apps/chatbot")
    drawing = text[text.index('<svg class="drawing"') : text.index("</svg>", text.index('<svg class="drawing"'))]
    for words in ("Kong", "/chatbot", "key-auth, rate-limiting", "3 of 3 ready", "web-3f9c2a1b-2", "127.0.0.1:20002"):
        assert words in drawing
    assert "<title" in drawing
    assert "Kong leads /chatbot" in drawing


def test_events_have_the_colour_of_their_level(page: Page) -> None:
    text = page.text("/events")
    assert '<span class="level bad">error</span>' in text
    assert '<span class="level warn">warning</span>' in text
    assert '<span class="level rest">info</span>' in text


def test_a_red_deploy_shows_its_steps_with_the_cause(page: Page) -> None:
    text = page.text("/deploys/b4d15c0")
    for words in ("RolledBack", "answers 503 Service Unavailable (for 30 s)", "mvd-billing-api-0de1f2aa-1", "30 s"):
        assert words in text
    assert text.count('class="bar ') == len(red().steps)


def test_a_commit_that_nobody_knows_says_so_and_turns_live(page: Page, world: World) -> None:
    assert "Not deployed here (yet)" in page.text("/deploys/abcdef1")
    with page.events("/deploys/abcdef1") as events:
        until(events, "Not deployed here (yet)")
        world.operations.insert(0, replace(going(50), commit=commit(0xABCDEF1, "Now it comes")))
        world.note()
        until(events, "Now it comes", "Running")
        done = replace(green(50), commit=commit(0xABCDEF1, "Now it comes"))
        world.operations[0] = done
        world.note()
        until(events, "Succeeded in 26 s")


def test_a_running_step_grows_by_the_second(page: Page) -> None:
    with page.events("/deploys/c0ffee1") as events:
        times = {re.search(r"Running for ([^<\n]+)", text)[1] for _, (_, text) in zip(range(4), events, strict=False)}  # type: ignore[index]
    assert len(times) > 1


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/apps/none", ["there is no app none on web-1", "chatbot", "billing"]),
        ("/logs/none", ["there is no app none on web-1", "chatbot"]),
        ("/logs/chatbot/none", ["the app chatbot has no service none", "chatbot/worker"]),
        ("/deploys/xyz", ["xyz is not a commit"]),
        ("/no/such/page", ["there is no page /no/such/page"]),
        ("/static/../config.yaml", ["there is no"]),
        ("/apps/%3Cscript%3E", ["there is no app &lt;script&gt;"]),
    ],
)
def test_what_is_not_there_is_said_with_what_is(page: Page, path: str, words: list[str]) -> None:
    answer = page.get(path)
    assert answer.status_code == 404
    assert all(word in answer.text for word in words), answer.text


def test_programs_are_told_of_an_error_in_json(page: Page) -> None:
    answer = page.get("/apps/none.json")
    assert (answer.status_code, answer.json()["error"]) == (404, "there is no app none on web-1")


def test_whatever_a_text_has_in_it_is_only_text(page: Page, world: World) -> None:
    app = replace(
        plain("evil", HOSTILE, 1, HOSTILE),
        why=HOSTILE,
        changed=HOSTILE,
        running=CommitView("a" * 40, HOSTILE, HOSTILE, 1.0, "javascript:alert(1)"),
    )
    world.show_app(app)
    world.operations.insert(
        0, replace(red(60), commit=CommitView("a" * 40, HOSTILE, HOSTILE, 1.0, "javascript:alert(1)"))
    )
    world.doctor = [{"what": HOSTILE, "verdict": HOSTILE, "told": HOSTILE, "hint": HOSTILE}]
    world.plan = {"revision": HOSTILE, "changes": {HOSTILE: {"changed": [], "cost": {}, "remarks": [HOSTILE]}}}
    world.print(LogLine(time.time(), "evil", "evil", HOSTILE, HOSTILE))
    for path in ("/", "/apps/evil", "/deploys", "/deploys/aaaa", "/doctor", "/plan", "/logs/evil", f"/?q={HOSTILE}"):
        text = page.text(path)
        assert "&lt;script&gt;" in text, path
        assert "<script>" not in text
        assert "<img" not in text
        assert "javascript:" not in text


# ---- logs ------------------------------------------------------------------------------------------------------------


def test_a_log_is_followed_across_replicas_without_its_colours(page: Page, world: World) -> None:
    first = page.text("/logs/chatbot")
    assert "GET /chatbot/messages" in first
    with page.events("/logs/chatbot") as events:
        until(events, "/chatbot/messages", name="lines")
        world.print(
            line("\x1b[32mone\x1b[0m", number=1, cursor="d1"), line("\\x1b[1mtwo\\x1b[0m <b>", number=2, cursor="d2")
        )
        text = until(events, ">one<", name="lines")
        assert ">two &lt;b&gt;<" in text
        assert "x1b" not in text
        assert "web-3f9c-1" in text
        assert "web-3f9c-2" in text


def test_a_long_line_is_folded_and_there_to_be_seen(page: Page, world: World) -> None:
    world.print(line("begin " + "x" * 3000 + " end", cursor="d1"))
    text = page.text("/logs/chatbot")
    assert re.search(r"<details><summary>begin x+<i>… [\d,]+ more characters</i></summary><span>x+ end</span>", text)


def test_a_line_of_ten_megabytes_costs_no_memory_and_nothing_else(page: Page, world: World) -> None:
    page.text("/logs/chatbot")
    world.print(line("y" * 10_000_000, cursor="d1"))
    with page.events("/logs/chatbot") as events:
        until(events, "too long", name="trouble")
    assert ">chatbot<" in page.text("/")
    eventually(lambda: page.memory() < MOST_MEMORY_KB, "the memory is given back")


def test_a_log_goes_on_where_it_was_when_the_daemon_comes_back(world: World, tmp_path: Path) -> None:
    world.print(line("before", service="redis", cursor="e1"))
    with serving(tmp_path) as page, page.events("/logs/chatbot/redis") as events:
        with daemon(world, tmp_path):
            assert ">before<" in until(events, name="lines")
        until(events, "does not run here", name="trouble")
        world.print(line("meanwhile", service="redis", cursor="e2"))
        with daemon(world, tmp_path):
            text = until(events, name="lines")
            assert ">meanwhile<" in text
            assert ">before<" not in text


def test_a_browser_that_comes_back_has_each_line_once_also_after_a_start_of_the_page(
    world: World, tmp_path: Path
) -> None:
    with daemon(world, tmp_path):
        with serving(tmp_path) as page:
            page.text("/logs/chatbot")
            with page.events("/logs/chatbot") as events:
                assert next(events)[0] == "anew", "what the browser shows is not kept"
                last = until(events, name="id")
            world.print(line("after it had gone", cursor="d1"))
            with page.events("/logs/chatbot", {"Last-Event-ID": last}) as events:
                text = until(events, name="lines")
                assert text.count("<li") == 1
                assert ">after it had gone<" in text
        world.print(line("after the start", cursor="d2"))
        with serving(tmp_path) as page:
            page.text("/logs/chatbot")
            with page.events("/logs/chatbot", {"Last-Event-ID": last}) as events:
                assert next(events)[0] == "anew", "a place of a page that has ended is none of this one"
                assert until(events, "after the start", name="lines").count("<li") == 112


@pytest.mark.parametrize("path", ["/logs/none", "/logs/chatbot/none", "/apps/none", "/deploys/xyz"])
def test_what_is_not_there_is_not_followed(page: Page, world: World, path: str) -> None:
    assert page.get(path, SSE).status_code == 404
    assert page.get(f"{path}.json").status_code == 404
    assert not any(name == "logs" for name, _ in world.asked)


def test_a_thousand_followers_cost_the_daemon_one_and_little_memory(page: Page, world: World) -> None:
    page.text("/logs/chatbot")
    request = (
        f"GET /logs/chatbot HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\nUser-Agent: {'x' * 100}\r\n\r\n"
    )
    port = int(page.url.rpartition(":")[2])
    followers = []
    try:
        for _ in range(1000):
            follower = socket.create_connection(("127.0.0.1", port), timeout=30)
            follower.sendall(request.encode())
            followers.append(follower)
        eventually(lambda: world.following == 1, "one follows for all")
        received = [follower.recv(4096) for follower in followers]
        assert all(it.startswith(b"HTTP/1.1 200") for it in received)
        world.print(line("to all of them", cursor="d1"))
        for follower in (followers[0], followers[-1]):
            text = b""
            while b"to all of them" not in text:
                part = follower.recv(1 << 20)
                assert part
                text += part
        assert ">chatbot<" in page.text("/"), "others are answered meanwhile"
        assert page.memory() < MOST_MEMORY_KB, f"{page.memory()} KB"
        assert world.following == 1
    finally:
        for follower in followers:
            follower.close()


def test_a_browser_that_reads_nothing_is_dropped_and_holds_up_nobody(page: Page, world: World) -> None:
    port = int(page.url.rpartition(":")[2])
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.sendall(b"GET /logs/chatbot HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n")
        before = page.memory()
        stop = threading.Event()

        def talk() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                world.print(*(line("z" * 350, cursor=f"f{number}-{n}") for n in range(100)))
                time.sleep(0.1)

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            with page.events("/logs/chatbot") as events:
                for _ in range(30):
                    next(events)
            assert page.memory() < before + 16 * 1024, f"{before} KB became {page.memory()} KB"
        finally:
            stop.set()
            talker.join()


# ---- the daemon is away ----------------------------------------------------------------------------------------------


def test_while_the_daemon_is_away_the_last_state_is_shown_and_then_the_new_one(world: World, tmp_path: Path) -> None:
    with serving(tmp_path) as page:
        answer = page.get("/")
        assert answer.status_code == 503
        assert "The daemon of web-1 does not answer" in answer.text
        with daemon(world, tmp_path), page.events("/") as events:
            until(events, "chatbot", "Degraded")
        with page.events("/") as events:
            text = until(events, "does not answer since", "stale")
            assert ">chatbot<" in text
            assert "systemctl status gitops-mvd" in text
            again = page.get("/deploys")
            assert again.status_code == 503
            with daemon(
                dataclasses.replace(world, status=replace(world.status, host="web-1", apps=(chatbot(),))), tmp_path
            ):
                text = until(events, "chatbot")
                while "does not answer since" in text:
                    text = until(events, "chatbot")
                assert ">billing<" not in text


def test_after_a_silence_changes_are_followed_again(world: World, tmp_path: Path) -> None:
    with serving(tmp_path) as page:
        with daemon(world, tmp_path), page.events("/") as events:
            until(events, ">billing<")
        assert page.get("/index.json").status_code == 503, "what was known is not told as if it were so now"
        with daemon(world, tmp_path):
            eventually(lambda: page.get("/index.json").status_code == 200, "it answers again")
            with page.events("/") as events:
                until(events, ">billing<")
                for why in ("it changes once", "it changes again"):
                    world.show_app(replace(chatbot(), health="Degraded", why=why))
                    until(events, why)
    assert "cannot watch" not in page.log.read_text()


def test_a_daemon_that_hangs_is_shown_as_silent_with_what_was_known(world: World, tmp_path: Path) -> None:
    hosts = f"{{web-1: 'unix://{tmp_path}/api.sock', web-2: 'unix://{tmp_path}/nobody.sock'}}"
    with daemon(world, tmp_path), serving(tmp_path, f", hosts: {hosts}") as page:
        assert "Degraded" in page.text("/")
        world.hold(*BY_NAME)
        world.note()
        text = page.text("/")
        assert "Degraded" in text, "the last state that is known"
        assert re.search(r'class="stale">.*no answer within 2 s', text)
        with page.events("/") as events:
            text = until(events, "the daemon did not answer within 10 s")
            assert text.count(">silent<") == 2
            assert "Degraded" in text
        began = time.monotonic()
        assert ">chatbot<" in page.text("/hosts/web-1/")
        assert "does not answer since" in page.text("/hosts/web-1/")
        for path in ("/hosts/web-1/index.json", "/hosts/web-1/events", "/hosts/web-1/v1/changes?within=20"):
            answer = page.get(path)
            assert answer.status_code == 503
            assert "did not answer within" in answer.text
        assert time.monotonic() - began < PATIENCE_SECONDS, "nobody waits for it again"
        known = page.get("/index.json").json()["web-1"]
        assert known["status"]["health"] == "Degraded"
        assert known["silent_since"] > 0
        world.hold()
        eventually(lambda: page.get("/hosts/web-1/index.json").status_code == 200, "it answers again")
    assert "never retrieved" not in page.log.read_text()


def test_long_questions_hold_up_no_short_one(page: Page, world: World) -> None:
    world.hold("plan", "doctor")
    asked = [threading.Thread(target=page.get, args=(path,)) for path in ("/plan", "/doctor", "/v1/plan") * 8]
    for thread in asked:
        thread.start()
    eventually(lambda: world.waiting >= 2, "the daemon is asked")
    assert ">chatbot<" in page.text("/")
    assert page.get("/v1/operations").status_code == 200
    assert world.waiting <= 2, "no more at once than the daemon can do"
    world.hold()
    for thread in asked:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def test_so_many_different_pages_are_followed_and_no_more(page: Page, world: World) -> None:
    assert page.text("/")
    port = int(page.url.rpartition(":")[2])
    open_ones = []

    def follow(path: str) -> bytes:
        browser = socket.create_connection(("127.0.0.1", port), timeout=30)
        open_ones.append(browser)
        browser.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        return browser.recv(4096)

    try:
        for number in range(MOST_SCREENS):
            assert follow(f"/deploys/{number:07x}").startswith(b"HTTP/1.1 200"), number
        assert follow("/deploys/fffffff").startswith(b"HTTP/1.1 503")
        for more in ("/deploys/0000001?q=other", "/deploys/0000001?x=1"):
            assert follow(more).startswith(b"HTTP/1.1 200"), "one that is followed already"
        assert page.get("/deploys/fffffff").status_code == 200
    finally:
        for browser in open_ones:
            browser.close()
    eventually(lambda: page.get("/deploys/fffffff", SSE, stream=True).status_code == 200, "there is room again")


# ---- who may ---------------------------------------------------------------------------------------------------------


def test_buttons_reach_the_daemon_with_who_and_why(page: Page, world: World) -> None:
    seal = page.seal()
    answer = page.post("/apps/chatbot/suspend", {"seal": seal, "why": "a <b>test", "lasts": "4 hours", "stop": "yes"})
    assert answer.status_code == 200
    assert "chatbot: suspended" in answer.text
    assert "a &lt;b&gt;test" in answer.text
    name, asked = world.asked[-1]
    assert name == "suspend"
    assert (asked["app"], asked["by"], asked["why"], asked["stop"]) == ("chatbot", "root", "a <b>test", True)
    assert 3.9 * 3600 < asked["until"] - time.time() < 4.1 * 3600
    assert "chatbot: resumed" in page.post("/apps/chatbot/resume", {"seal": seal}).text
    assert "tried again now" in page.post("/apps/billing/retry", {"seal": seal}).text
    assert "fetches and reconciles" in page.post("/sync", {"seal": seal}).text
    assert "suspended" in page.post("/suspend", {"seal": seal, "why": "all of it"}).text
    assert [name for name, _ in world.asked][-4:] == ["resume", "retry", "sync", "suspend"]
    address = page.post("/sync", {"seal": seal}, allow_redirects=False).headers["Location"]
    assert "fetches and reconciles" in page.text(address)
    assert "fetches and reconciles" not in page.text(address), "it is told once"


@pytest.mark.parametrize(
    ("headers", "form"),
    [
        ({}, {}),
        ({}, {"seal": "0" * 64}),
        ({"Sec-Fetch-Site": "cross-site"}, None),
        ({"Sec-Fetch-Site": "same-site"}, None),
        ({"Origin": "https://evil.example"}, None),
        ({"Origin": "null"}, None),
        ({"Content-Type": "text/plain"}, None),
    ],
)
def test_a_form_of_another_site_does_nothing(
    page: Page, world: World, headers: dict[str, str], form: dict[str, str] | None
) -> None:
    given = {"seal": page.seal()} if form is None else form
    world.asked.clear()
    assert page.post("/sync", given, headers).status_code in (403, 415)
    assert not world.asked


@pytest.mark.parametrize(
    "path", ["/plan", "/plan.json", "/doctor", "/logs/chatbot", "/logs/chatbot.json", "/v1/doctor", "/v1/status"]
)
def test_no_other_site_has_a_browser_ask_what_costs_something(page: Page, world: World, path: str) -> None:
    for site in ("cross-site", "same-site"):
        assert page.get(path, {"Sec-Fetch-Site": site}).status_code == 403
        assert page.get("/", {"Sec-Fetch-Site": site, **SSE}).status_code == 403
    assert not world.asked
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-User": "?1"}
    for of in (followed, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert page.get(path, of).status_code == 200
    assert page.get("/deploys/3f9c2a1", {"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_a_name_that_leads_here_by_dns_is_not_served(page: Page) -> None:
    answer = page.get("/", {"Host": "evil.example"})
    assert answer.status_code == 403
    assert "not served as &#39;evil.example&#39;" in answer.text
    assert page.get("/", {"Host": ""}).status_code == 403
    assert page.get("/", {"Host": "localhost:8650"}).status_code == 200


def test_nobody_is_somebody_of_this_machine_through_a_proxy_that_is_not_named(page: Page) -> None:
    for header in ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-User", "Forwarded"):
        answer = page.get("/", {header: "127.0.0.1"})
        assert answer.status_code == 403
        assert "a proxy that the settings do not name" in answer.text


def test_with_a_token_nothing_is_shown_before_the_login(locked: Page) -> None:
    for path in (*PATHS, "/index.json", "/v1/status", "/nothing"):
        answer = locked.get(path, allow_redirects=False)
        assert answer.status_code in (303, 401), path
        assert "chatbot" not in answer.text
    assert locked.get("/", allow_redirects=False).headers["Location"] == "/login?then=/"
    assert locked.get("/v1/status").headers["WWW-Authenticate"] == "Bearer"
    assert locked.get("/", SSE).status_code == 401


def test_the_token_opens_the_page_by_form_and_by_header(locked: Page) -> None:
    with requests.Session() as browser:
        browser.trust_env = False
        answer = browser.post(f"{locked.url}/login?then=/apps/chatbot", data={"token": TOKEN}, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/apps/chatbot")
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie, "a link of the forge comes with it"
        assert "Secure" not in cookie, "this page has no https"
        assert TOKEN not in cookie
        text = browser.get(f"{locked.url}/").text
        assert ">chatbot<" in text
        seal = re.search(r'name="seal" value="([0-9a-f]+)"', text)
        assert seal
        assert locked.post("/sync", {"seal": seal[1]}).status_code == 200  # without the cookie: the login
        assert "fetches and reconciles" in browser.post(f"{locked.url}/sync", data={"seal": seal[1]}).text
        browser.post(f"{locked.url}/logout", data={"seal": seal[1]})
        assert ">chatbot<" not in browser.get(f"{locked.url}/").text
    assert locked.get("/index.json", {"Authorization": f"Bearer {TOKEN}"}).json()["host"] == "web-1"


@pytest.mark.parametrize("then", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_a_login_leads_to_no_other_site(locked: Page, then: str) -> None:
    with requests.Session() as browser:
        browser.trust_env = False
        answer = browser.post(
            f"{locked.url}/login", params={"then": then}, data={"token": TOKEN}, allow_redirects=False
        )
    assert answer.headers["Location"] == "/"


def test_whoever_guesses_the_token_has_to_wait_and_whoever_has_it_does_not(locked: Page) -> None:
    for _ in range(5):
        answer = locked.post("/login", {"token": "wrong"})
        assert answer.status_code == 401
        assert "the token is wrong" in answer.text
    answer = locked.post("/login", {"token": "wrong"})
    assert answer.status_code == 429
    assert "too many wrong tokens" in answer.text
    answer = locked.get("/index.json", {"Authorization": "Bearer wrong"})
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (429, True)
    assert locked.get("/index.json", {"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    for _ in range(6):
        locked.post("/login", {"token": "wrong"})
    assert locked.post("/login", {"token": TOKEN}, allow_redirects=False).headers["Location"] == "/"


def test_a_cookie_that_somebody_made_up_opens_nothing(locked: Page) -> None:
    for value in ("", "x", f"{int(time.time()) + 1000}.{'0' * 64}", "nan.", "inf.é"):
        assert locked.get("/index.json", {"Cookie": f"mvd={value}".encode()}).status_code == 401


def test_a_proxy_is_believed_by_its_address(world: World, tmp_path: Path) -> None:
    with daemon(world, tmp_path):
        proxy = ", proxy: {user_header: X-Forwarded-User, addresses: [127.0.0.1]}"
        with serving(tmp_path, proxy) as page:
            jane = {"X-Forwarded-User": "jane@example.com"}
            assert page.get("/").status_code == 401
            assert "jane@example.com" in page.text("/", headers=jane)
            seal = page.seal(headers=jane)
            assert page.post("/sync", {"seal": seal}, {"X-Forwarded-User": "eve"}).status_code == 403
            page.post("/sync", {"seal": seal}, jane)
            assert world.asked[-1] == ("sync", {"by": "jane@example.com"})
            for names in ({"Host": "evil.example"}, {"Host": ""}):
                assert page.get("/", {**jane, **names}).status_code == 403
        with serving(tmp_path, ", proxy: {user_header: X-Forwarded-User, addresses: [10.0.0.0/8]}") as page:
            assert page.get("/", jane).status_code == 401


def test_a_page_behind_a_path_has_it_in_every_address(world: World, tmp_path: Path) -> None:
    with daemon(world, tmp_path), serving(tmp_path, ", url: 'http://localhost/mvd/'") as page:
        for path in ("/mvd", "/mvd/", "/"):
            text = page.text(path)
            links = re.findall(r'(?:src|href|action)="(/[^"]*)"', text)
            assert links
            assert [it for it in links if not it.startswith("/mvd/")] == []
        assert page.get("/mvd/static/mvd.css").status_code == 200
        assert page.get("/mvd/apps/chatbot", {"Host": "localhost"}).status_code == 200


# ---- the API handed on, and several servers --------------------------------------------------------------------------


def test_the_api_is_handed_on_as_the_daemon_answers_it(page: Page, world: World) -> None:
    assert page.get("/v1/status").json() == json.loads(msgspec.json.encode(world.status))
    assert page.get("/v1/operations/41").json()["id"] == 41
    assert page.get("/v1/operations?commit=3f9c&limit=1").json()[0]["commit"]["author"] == "Priya Natarajan"
    answer = page.get("/v1/logs?name=chatbot/web&lines=3")
    assert [it["service"] for it in map(json.loads, filter(None, answer.text.splitlines()))] == ["web"] * 3
    assert page.get("/v1/operations/999").status_code == 404
    assert page.get("/v1/changes").json() == {"number": world.number}
    page.text("/")
    world.status = replace(world.status, error="a moment later")
    assert page.get("/v1/status").json()["error"] == "a moment later", "nothing is remembered for a program"


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/v1/nothing", 404, "there is no /v1/nothing"),
        ("/v1/sync", 405, "/v1/sync takes POST"),
        ("/v1/operations/x", 400, "id: not what it should be (int): x"),
        ("/v1/status?timeout=1", 400, "/v1/status has no timeout"),
        ("/v1/logs?name=chatbot&until=1", 400, "/v1/logs has no until"),
        ("/v1/logs", 400, "name is missing"),
        ("/v1/changes?within=nan", 400, "within: must be at least 0 and at most 30"),
        ("/v1/changes?within=31", 400, "within: must be at least 0 and at most 30"),
        ("/v1/changes?after=-1", 400, "after: must be at least 0"),
    ],
)
def test_a_question_is_judged_by_the_page_as_by_the_daemon(
    page: Page, world: World, tmp_path: Path, path: str, status: int, error: str
) -> None:
    answer = page.get(path)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    direct = http.client.HTTPConnection("localhost")
    direct.sock = socket.socket(socket.AF_UNIX)
    direct.sock.connect(str(tmp_path / "api.sock"))
    direct.request("GET", path)
    said = direct.getresponse()
    assert (said.status, json.loads(said.read())) == (status, answer.json())
    direct.close()


def test_several_servers_are_shown_side_by_side_and_a_silent_one_as_silent(world: World, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (there / "token").write_text(TOKEN)
    held = HeldView(CommitView("e" * 40, "Greet in Welsh"), "wave 1 (web-1) is not green yet")
    status = replace(world.status, host="web-2", apps=(chatbot(),), health="Healthy")
    status = replace(status, wave=2, drained=DrainView(CommitView("d" * 40, "Drain web-2")), held=held)
    far = dataclasses.replace(server(), status=status)
    with daemon(world, here), daemon(far, there), serving(there, f", token_file: {there}/token") as other:
        hosts = tmp_path / "hosts.yaml"
        hosts.write_text(
            f"web-1: unix://{here}/api.sock\n"
            f"web-2: {{address: '{other.url}', token_file: {there}/token}}\n"
            f"web-3: unix://{tmp_path}/nobody.sock\n"
        )
        with serving(here, "", "--hosts", str(hosts)) as page:
            with page.events("/") as events:
                text = until(events, "Degraded", "silent", "does not run here", "/hosts/web-2/")
            assert ">Healthy<" in text
            assert ">wave 2<" in text
            assert ">Drained<" in text
            assert "eeeeeee Greet in Welsh waits: wave 1 (web-1) is not green yet" in text
            assert ">chatbot<" in page.text("/hosts/web-2/")
            assert page.get("/hosts/web-3/").status_code == 503
            assert page.get("/hosts/web-9/").status_code == 404
            assert "web-2" in page.get("/hosts/web-9/").text
            told = page.get("/index.json").json()
            assert set(told) == {"web-1", "web-2", "web-3"}
            assert told["web-2"]["status"]["wave"] == 2
            assert told["web-2"]["status"]["drained"]["since"]["subject"] == "Drain web-2"
            assert told["web-2"]["status"]["held"]["why"] == "wave 1 (web-1) is not green yet"
            assert (told["web-1"]["status"]["wave"], told["web-1"]["status"]["drained"]) == (0, None)
            everywhere = page.text("/deploys/3f9c2a1")
            assert everywhere.count("Succeeded") == 2
            with page.events("/hosts/web-2/apps/chatbot") as events:
                until(events, "chatbot", "Healthy")
                far.show_app(replace(chatbot(), health="Degraded", why="seen through two pages"))
                until(events, "seen through two pages")
            with page.events("/hosts/web-2/logs/chatbot") as events:
                until(events, "/chatbot/messages", name="lines")
                far.print(line("from afar", cursor="g1"))
                until(events, "from afar", name="lines")
            seal = page.seal("/hosts/web-2/")
            page.post("/hosts/web-2/sync", {"seal": seal})
            assert far.asked[-1] == ("sync", {"by": "root (by web)"})


FAKE_SSH = """\
#!{python}
import os, socket, sys, threading

words = sys.argv[1:]
assert words[-2] == "--" and "BatchMode=yes" in words, words
if os.path.exists("{folder}/broken"):
    sys.exit("{folder}: Permission denied (publickey).")
ways = [word.split(":") for at, word in enumerate(words) if words[at - 1] == "-L"]


def pass_on(start, end):
    while data := start.recv(65536):
        end.sendall(data)
    end.shutdown(socket.SHUT_WR)


def serve(listener, far):
    while True:
        near = listener.accept()[0]
        there = socket.socket(socket.AF_UNIX)
        there.connect("{folder}/" + os.path.basename(far))
        for pair in ((near, there), (there, near)):
            threading.Thread(target=pass_on, args=pair, daemon=True).start()


for near, far in ways:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(near)
    listener.listen(50)
    threading.Thread(target=serve, args=(listener, far), daemon=True).start()
threading.Event().wait()
"""


def test_a_server_is_reached_by_ssh_and_again_when_that_has_ended(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `ssh` is a stand-in, which is asked as the real one is."""
    far, programs = tmp_path / "far", tmp_path / "bin"
    far.mkdir()
    programs.mkdir()
    (programs / "ssh").write_text(FAKE_SSH.format(python=sys.executable, folder=far))
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    (far / "broken").touch()
    with daemon(world, far), serving(tmp_path, ", hosts: {web-7: 'ssh://mvd@web-7.example'}") as page:
        with page.events("/") as events:
            until(events, "silent", "Permission denied (publickey)")
            (far / "broken").unlink()
            until(events, "Degraded", "/hosts/web-7/")
        seal = page.seal("/hosts/web-7/apps/chatbot")
        assert "tried again" in page.post("/hosts/web-7/apps/chatbot/retry", {"seal": seal}).text
        assert world.asked[-1] == ("retry", {"app": "chatbot", "by": "root"})


# ---- settings that do not work ---------------------------------------------------------------------------------------


def failing(folder: Path, web: str) -> str:
    config = folder / "config.yaml"
    config.write_text(settings_text(folder, free_port(), web))
    command = [sys.executable, "-m", "gitops_mvd", "--config", str(config), "web"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_token_that_is_missing_or_short_is_told(tmp_path: Path) -> None:
    assert "cannot read /nowhere/token (web.token_file): No such file" in failing(
        tmp_path, ", token_file: /nowhere/token"
    )
    (tmp_path / "token").write_text("short")
    assert "is too short: it must have 16 characters or more" in failing(tmp_path, f", token_file: {tmp_path}/token")


def test_a_port_that_is_taken_is_told(tmp_path: Path, world: World) -> None:
    with daemon(world, tmp_path), serving(tmp_path) as page:
        port = page.url.rpartition(":")[2]
        config = tmp_path / "second.yaml"
        config.write_text(settings_text(tmp_path, int(port)))
        command = [sys.executable, "-m", "gitops_mvd", "--config", str(config), "web"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in ended.stderr
