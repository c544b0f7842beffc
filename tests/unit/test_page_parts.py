"""The parts of the page that need no server: who may, what a log line becomes, drawings, addresses, settings."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace
from starlette.datastructures import Headers

from gitops_mvd.api.views import LogLine, OperationView, StepView
from gitops_mvd.config import settings
from gitops_mvd.config.settings.web import HostSettings, WebSettings, read_hosts
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.daemon.wiring import _telling
from gitops_mvd.web import shown, timeline
from gitops_mvd.web.drawing import draw, told
from gitops_mvd.web.fleet import Tunnel
from gitops_mvd.web.guard import FREE_GUESSES, MOST_ADDRESSES, Denied, Guard, Guesses, host_of
from gitops_mvd.web.logs import LONGEST_SHOWN
from gitops_mvd.web.logs import shown as shown_line
from gitops_mvd.web.peer import MOST_LOOKUPS, Address, LocalUser, Peers, owner
from tests.daemon_standin import commit
from tests.page_world import billing, chatbot, going, green, red

TOKEN = "a-token-of-more-than-sixteen-characters"

# ---- the settings ----------------------------------------------------------------------------------------------------


def read(web: str) -> WebSettings:
    return settings.read("config.yaml", f"repository: /srv/config\nweb: {web}\n".encode()).web


@pytest.mark.parametrize(
    ("web", "why"),
    [
        ("{listen: '0.0.0.0:8650'}", "listens to other machines, so it needs a login: set `token_file`, or `proxy`"),
        ("{listen: '[::]:8650'}", "listens to other machines, so it needs a login"),
        ("{url: 'https://mvd.example.com'}", "is reached from other machines, so it needs a login"),
        ("{listen: localhost}", "must be an IP address of this server and a port"),
        ("{proxy: {user_header: X-User}}", "has no `addresses`"),
        ("{proxy: {user_header: 'X User', addresses: [10.0.0.1]}}", "must be the name of a header"),
        ("{proxy: {user_header: X-User, addresses: [proxy.example.com]}}", "must be an IP address or a network"),
        ("{hosts: {a: 'ftp://x'}}", "must be an address that begins with ssh://, https://, http:// or unix:///path"),
        ("{hosts: {a: 'ssh://u:secret@x'}}", "must be `ssh://user@host`, without a password"),
        ("{hosts: {a: 'ssh://-oProxyCommand=x@h'}}", "must be `ssh://user@host`, without a password"),
        ("{hosts: {a: 'ssh://-oProxyCommand=x'}}", "must be `ssh://user@host`"),
        ("{hosts: {a: 'ssh://h/path'}}", "with nothing behind it"),
        ("{hosts: {a/b: 'ssh://h'}}", "is not a name of a server"),
        ("{hosts: {a: {address: 'http://web-3', token_file: /t}}}", "sends the token over plain http"),
        ("{hosts: {a: {address: 'ssh://web-3', token_file: /t}}}", "is for an address with https"),
        ("{lisen: '127.0.0.1:1'}", "did you mean `listen`?"),
    ],
)
def test_a_page_that_cannot_be_served_so_is_refused_with_the_reason(web: str, why: str) -> None:
    with pytest.raises(ManifestError) as raised:
        read(web)
    assert why in str(raised.value)
    assert len(raised.value.problems) == 1


def test_with_a_login_it_may_be_reached_from_anywhere() -> None:
    assert read("{listen: '0.0.0.0:8650', token_file: /t}").has_login
    assert read("{url: 'https://x.example/mvd/', proxy: {user_header: X-U, addresses: [10.0.0.0/8]}}").url == (
        "https://x.example/mvd"
    )
    assert not read("{url: 'http://localhost:9000'}").has_login


def test_hosts_are_read_from_a_file_of_their_own() -> None:
    found = read_hosts(
        "hosts.yaml", b"a: ssh://mvd@a.example:2222\nb: {address: 'https://b.example', token_file: /t}\n"
    )
    assert found == {
        "a": HostSettings("ssh://mvd@a.example:2222"),
        "b": HostSettings("https://b.example", token_file="/t"),
    }
    with pytest.raises(ManifestError, match="names no server"):
        read_hosts("hosts.yaml", b"{}\n")


def test_a_status_links_to_the_page_unless_the_forge_has_a_link_of_its_own() -> None:
    text = "repository: https://github.com/acme/config\nweb: {url: 'https://w.example', token_file: /t}\nforge: {%s}\n"
    ours = settings.read("config.yaml", (text % "").encode())
    theirs = settings.read("config.yaml", (text % "link: 'https://wiki.example'").encode())
    assert _telling(ours) is not None
    assert cast(Any, _telling(ours)).link == "https://w.example/deploys/{commit}"
    assert cast(Any, _telling(theirs)).link == "https://wiki.example"


def test_ssh_asks_nothing_and_takes_no_address_for_an_option(tmp_path: Path) -> None:
    wanted = HostSettings("ssh://mvd@web-2.example:2222", ssh_key="/keys/id", known_hosts="/keys/known")
    command = Tunnel("web-2", wanted, tmp_path).command
    assert command[-2:] == ("--", "mvd@web-2.example")
    assert {"BatchMode=yes", "ExitOnForwardFailure=yes", "StrictHostKeyChecking=yes"} <= set(command)
    assert f"{tmp_path}/web-2.api:/run/gitops-mvd/api.sock" in command
    assert command[command.index("-p") : command.index("-p") + 2] == ("-p", "2222")


# ---- who may ---------------------------------------------------------------------------------------------------------

TABLE = """\
   0: 00000000:21CA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 624 1 00000000b99e3812
   1: 0100007F:21CA 0100007F:AD45 01 00000000:00000000 03:00000FC9 00000000  1500        0 0 3 00000000e6085332
   2: 0100007F:AD45 0100007F:21CA 01 00000000:00000000 03:00000FCF 00000000  1000        0 0 3 00000000e6085332
   3: 0100007F:AD46 0100007F:21CA 06 00000000:00000000 03:00000FCF 00000000  1001        0 0 3 00000000e6085332
"""
TABLE6 = """\
   0: 00000000000000000000000001000000:AD45 00000000000000000000000001000000:21CA 01 0:0 0:0 0  1002 0 0 3
   1: 0000000000000000FFFF00000100007F:AD47 0000000000000000FFFF00000100007F:21CA 01 0:0 0:0 0  1003 0 0 3
"""


@pytest.mark.parametrize(
    ("table", "client", "user"),
    [
        (TABLE, ("127.0.0.1", 0xAD45), 1000),
        (TABLE, ("127.0.0.1", 0xAD46), None),  # it is being closed
        (TABLE, ("127.0.0.2", 0xAD45), None),
        (TABLE6, ("::1", 0xAD45), 1002),
        (TABLE6, ("127.0.0.1", 0xAD47), 1003),
        ("nonsense\n", ("127.0.0.1", 0xAD45), None),
    ],
)
def test_the_kernel_says_whose_a_connection_is(table: str, client: tuple[str, int], user: int | None) -> None:
    server = ("::1" if ":" in client[0] else "127.0.0.1", 8650)
    assert owner(table.splitlines(), client, server) == user


def visit(guard: Guard, address: str = "127.0.0.1", **headers: str) -> Any:
    """Who comes from that address; a header that is given twice has its values on two lines."""
    return asyncio.run(visited(guard, address, 0, **headers))


async def visited(guard: Guard, address: str, port: int, **headers: str) -> Any:
    scope: dict[str, Any] = {"client": (address, port), "server": ("10.0.0.9", 8650)}
    given = {"host": "localhost:8650", **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [(name.encode(), it.encode()) for name, values in given.items() for it in values.split("\n")]
    await guard.meet(scope)
    return guard.visitor(scope, Headers(raw=lines))


def test_a_session_ends_with_its_time_and_with_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = WebSettings(token_file="/t")
    guard = Guard(locked, TOKEN)
    session = guard.new_session()
    assert visit(guard, cookie=f"mvd={session}").name == "web"
    assert visit(Guard(locked, TOKEN), cookie=f"mvd={session}").name == "web", "it outlives a restart"
    with pytest.raises(Denied):
        visit(Guard(locked, f"{TOKEN}-another"), cookie=f"mvd={session}")
    end, _, signature = session.partition(".")
    with pytest.raises(Denied):
        visit(guard, cookie=f"mvd={int(end) + 1}.{signature}")
    monkeypatch.setattr("gitops_mvd.web.guard.SESSION_SECONDS", -1)
    with pytest.raises(Denied):
        visit(guard, cookie=f"mvd={guard.new_session()}")


def test_a_proxy_is_believed_from_its_networks_only() -> None:
    proxy = read("{proxy: {user_header: X-User, addresses: [10.1.0.0/16, '::1']}}")
    guard = Guard(proxy, "")
    assert visit(guard, "10.1.2.3", x_user="jane").name == "jane"
    assert visit(guard, "::ffff:10.1.2.3", x_user="jane").name == "jane"
    assert visit(guard, "::1", x_user="jane\x1b[31m").name == "jane\\x1b[31m"
    for address, user in (("10.2.0.1", "jane"), ("127.0.0.1", "jane"), ("nonsense", "jane"), ("10.1.2.3", "")):
        with pytest.raises(Denied):
            visit(guard, address, x_user=user)
    with pytest.raises(Denied, match="more than one x-user"):
        visit(guard, "10.1.2.3", x_user="eve\njane")


@pytest.mark.parametrize(
    ("web", "host", "forwarded", "is_served"),
    [
        ("listen: '0.0.0.0:8650'", "10.0.0.9:8650", "", True),  # where the connection has come to
        ("listen: '10.0.0.7:8650'", "10.0.0.7:8650", "", True),
        ("listen: '0.0.0.0:8650'", "localhost", "", True),
        ("listen: '0.0.0.0:8650'", "[::1]:8650", "", True),
        ("url: 'https://mvd.example.com/x'", "MVD.example.com", "", True),
        ("url: 'https://mvd.example.com'", "127.0.0.1:8650", "mvd.example.com", True),
        ("url: 'https://mvd.example.com'", "127.0.0.1:8650", "evil.example, mvd.example.com", False),
        ("url: 'https://mvd.example.com'", "evil.example", "", False),
        ("url: 'https://mvd.example.com'", "evil.example", "mvd.example.com", False),
        ("url: 'https://mvd.example.com'", "", "", False),
        ("listen: '0.0.0.0:8650'", "", "", False),
        ("listen: '0.0.0.0:8650'", "0.0.0.0:8650", "", False),
        ("listen: '0.0.0.0:8650'", "10.0.0.8:8650", "", False),
        ("listen: '0.0.0.0:8650'", "[::1", "", False),
    ],
)
def test_through_a_proxy_only_the_names_of_the_page_are_served(
    web: str, host: str, forwarded: str, is_served: bool
) -> None:
    guard = Guard(read(f"{{{web}, proxy: {{user_header: X-User, addresses: [10.1.0.0/16]}}}}"), "")
    more = {"x_forwarded_host": forwarded} if forwarded else {}
    if is_served:
        assert visit(guard, "10.1.2.3", x_user="jane", host=host, **more).name == "jane"
    else:
        with pytest.raises(Denied, match="this page is not served as"):
            visit(guard, "10.1.2.3", x_user="jane", host=host, **more)


def test_the_token_opens_the_page_though_somebody_guesses_at_its_address() -> None:
    guard = Guard(WebSettings(token_file="/t"), TOKEN)
    for number in range(FREE_GUESSES + 3):
        with pytest.raises(Denied) as raised:
            guard.check("wrong", "10.0.0.1")
        assert raised.value.status == (401 if number < FREE_GUESSES else 429)
        guard.check(TOKEN, "10.0.0.2")
    assert visit(guard, "10.0.0.1", authorization=f"Bearer {TOKEN}").name == "web"


def test_whoever_cannot_be_found_out_in_time_may_look_and_holds_up_nobody() -> None:
    answers = threading.Event()

    def look(client: Address, server: Address) -> LocalUser:
        if client[1] < 1000:
            answers.wait()
        return LocalUser(f"user{client[1]}", frozenset(), is_root=True)

    async def come() -> None:
        guard = Guard(WebSettings(), "", Peers(look))
        ports = (*range(1, MOST_LOOKUPS), 1000)
        *hung, jane = await asyncio.gather(*(visited(guard, "127.0.0.1", port) for port in ports))
        assert (jane.name, jane.may_act) == ("user1000", True)
        assert {(it.name, it.may_act) for it in hung} == {("", False)}
        assert "could not be found out in time" in hung[0].why_not
        answers.set()
        for port in range(1000, 1000 + MOST_LOOKUPS * 3):
            assert (await visited(guard, "127.0.0.1", port)).name == f"user{port}", "each turn comes back"

    asyncio.run(come())


def test_a_login_is_sent_over_https_alone_where_the_page_has_it() -> None:
    cookie = Guard(read("{url: 'https://mvd.example.com/x', token_file: /t}"), TOKEN).cookie("v", "/x")
    assert set(cookie.split("; ")) == {"mvd=v", "Path=/x", "Max-Age=43200", "HttpOnly", "SameSite=Lax", "Secure"}


def test_guesses_wait_longer_each_time_and_are_remembered_within_limits() -> None:
    guesses = Guesses()
    for _ in range(FREE_GUESSES):
        assert guesses.pause("a") == 0
        guesses.wrong("a")
    pauses = []
    for _ in range(9):
        pauses.append(round(guesses.pause("a"), 2))
        guesses.wrong("a")
    assert pauses == sorted(pauses)
    assert 0.5 < pauses[0] <= 1
    assert 59 < pauses[-1] <= 60
    for number in range(MOST_ADDRESSES):
        guesses.wrong(f"b{number}")
    assert guesses.pause("a") == 0, "the oldest is forgotten"


def test_without_a_login_nobody_of_another_machine_is_served() -> None:
    guard = Guard(WebSettings(url="http://localhost:8650"), "")
    assert not visit(guard, host="localhost:8650").may_act, "the kernel does not know this connection"
    for of in (guard, Guard(WebSettings(), "")):
        for host in ("evil.example", "", "127.0.0.1.evil.example", "[::1"):
            with pytest.raises(Denied):
                visit(of, host=host)
        for header in ("forwarded", "x_forwarded_for", "x_forwarded_user"):
            with pytest.raises(Denied, match="a proxy that the settings do not name"):
                visit(of, **{header: "127.0.0.1"})


@pytest.mark.parametrize(
    ("header", "name"), [("A.example:80", "a.example"), ("[::1]:80", "::1"), ("[::1", ""), ("a:x", "a")]
)
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    assert host_of(header) == name


# ---- how it looks ----------------------------------------------------------------------------------------------------


def test_a_line_of_a_log_is_text_whatever_is_in_it() -> None:
    line = LogLine(0.0, "a", "b", "mvd-a-b-3f9c2a1b-2", "\x1b[1;31m<b>&\x1b[0m \\x1b[32m\x1b]0;title\x07 end\x00")
    text = shown_line(line)
    assert "<span>&lt;b&gt;&amp;  end\\x00</span>" in text
    assert ">b-3f9c-2</b>" in text


def test_a_long_line_is_folded() -> None:
    text = shown_line(LogLine(0.0, "a", "b", "c", "x" * (LONGEST_SHOWN + 1234)))
    assert "<i>… 1,234 more characters</i>" in text
    assert "<details>" not in shown_line(LogLine(0.0, "a", "b", "c", "x" * LONGEST_SHOWN))


@pytest.mark.parametrize("operation", [green(), red(), going(), replace(green(), steps=(), phases=())])
def test_bars_lie_within_the_line_and_in_order(operation: OperationView) -> None:
    now = time.time()
    for group in timeline.groups(operation, now):
        for bar in group.bars:
            assert bar.left >= 0
            assert bar.width > 0
            assert bar.left + bar.width <= timeline.WHOLE + timeline.LEAST
    assert sum(len(group.bars) for group in timeline.groups(operation, now)) == len(operation.steps)
    assert len(timeline.marks(operation, now)) <= 6


def test_a_step_without_an_end_does_not_grow_once_its_operation_is_over() -> None:
    step = StepView("a", "b", "wait", "unit", "u", began=100.0)
    operation = OperationView(1, commit(1, "x"), (), 100.0, 110.0, steps=(step,))
    [group] = timeline.groups(operation, 1000.0)
    assert group.bars[0].seconds == 0


def test_a_drawing_says_what_its_text_says() -> None:
    for app in (chatbot(), billing()):
        drawing = draw(app)
        for service in app.services:
            assert service.name in drawing
            for instance in service.instances:
                assert instance.name.removeprefix(f"mvd-{app.name}-") in drawing
                assert instance.name in told(app)
    assert draw(replace(chatbot(), services=())) == ""
    many = replace(chatbot().services[0], instances=chatbot().services[0].instances * 30)
    assert draw(replace(chatbot(), services=(many,))) == "", "what is too much is a list only"


def test_what_is_drawn_is_only_text() -> None:
    evil = '"><script>'
    service = replace(chatbot().services[0], name=evil)
    assert "<script>" not in draw(replace(chatbot(), name=evil, services=(service,)))


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("nginx", ("", "nginx", "")),
        ("host:5000/a/b:1.2", ("host:5000/a/", "b", ":1.2")),
        ("a/b@sha256:0123456789abcdef0123", ("a/", "b", "@sha256:0123456789ab")),
    ],
)
def test_the_parts_of_an_image(image: str, parts: tuple[str, str, str]) -> None:
    assert shown.image_parts(image) == parts


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0004, "1 ms"),
        (0.03, "30 ms"),
        (0.44, "0.4 s"),
        (59, "59 s"),
        (80, "1 min 20 s"),
        (120, "2 min"),
        (3720, "1 h 2 min"),
    ],
)
def test_how_long_something_took(seconds: float, text: str) -> None:
    assert shown.lasted(seconds) == text


def test_an_operation_is_told_by_the_worst_of_its_apps() -> None:
    assert shown.outcome(green()) == "Succeeded"
    assert shown.outcome(red()) == "RolledBack"
    assert shown.outcome(going()) == "Running"
    both = replace(green(), results=green().results + red().results)
    assert shown.outcome(both) == "RolledBack"
    assert shown.outcome(replace(green(), results=())) == "Stopped"


def test_every_word_of_the_model_has_a_sign_that_is_drawn() -> None:
    from gitops_mvd.core.model import Health, Operation, Sync

    signs = (Path(shown.__file__).parent / "templates" / "signs.svg").read_text()
    drawn = set(re.findall(r'id="sign-(\w+)"', signs))
    words = [*Health, *Sync, *Operation]
    assert {shown.kind(word) for word in words} <= drawn
    assert [word for word in words if shown.kind(word) == "unknown"] == [Health.UNKNOWN, Sync.UNKNOWN]


def test_every_reason_of_a_pass_is_said_in_words() -> None:
    from gitops_mvd.daemon import loop, triggers
    from gitops_mvd.host import monitor

    reasons = {loop.START, loop.POLL, loop.RETRY, loop.RECONCILED, loop.RECHECK, monitor.HEALTH}
    reasons |= {triggers.RELOAD, triggers.SYNC, triggers.PUSH, triggers.PULL_REQUEST, triggers.STATUS}
    assert reasons == shown.CAUSES.keys()
    assert shown.cause("docker") == "docker"
