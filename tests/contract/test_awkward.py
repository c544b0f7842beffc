"""Every client, and `observe` of every kind, against a server that behaves as none should (`awkward`).

Each question ends within its deadline, in one of our errors with one clear sentence, or in an answer; never in another
library's exception, and never in more memory than an answer may take.
"""

from __future__ import annotations

import inspect
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gitops_mvd import forges, kinds, probes
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.model import App, CommitStatus, Health, Instance, Operation, PullRequest, Resource, Service
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.daemon.webhook import listens
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.create import Request
from gitops_mvd.forges.api import Account
from gitops_mvd.forges.api.github_app import GitHubApp
from gitops_mvd.git.branch import Source
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.net.line import limit
from gitops_mvd.systemd.client import Systemd
from tests.contract.awkward import WAYS, awkward

WITHIN = 0.4  # seconds that every client is given for an answer
MOST_ANSWERS = 8  # that one question may be made of
SLACK = 10.0  # seconds: two busy cores
FEW_BYTES = 4 << 20
PINNED = "shop/web@sha256:" + "1" * 64
WEB = Instance("mvd-shop-web-1", "shop", "web", "127.0.0.1", "running", "", "2026-11-22T10:00:00Z")
GREEN = CommitStatus("mvd/srv1", Operation.SUCCEEDED, Health.HEALTHY, "3 apps healthy")
FOREIGN = re.compile(
    r"ConnectionPool|Traceback|object at 0x|\[?Errno|<class|\w+Error\b|Exception|Exceeded|Expecting value|\(b?'|</?\w+>"
)

Question = Callable[[], object]
Questions = Mapping[str, Question]


def question(method: Callable[..., Any], *args: Any) -> Question:
    return lambda: method(*args)


# ---- the clients -----------------------------------------------------------------------------------------------------

ENGINE_GIVEN: Mapping[str, Any] = {  # by the name of the parameter
    "ago": 60.0,
    "app": App("shop", (), networks={"net": {"external": True}}, volumes={"data": {"external": True}}),
    "command": ["true"],
    "container": "mvd-shop-web-1",
    "endpoint": {},
    "grace": 0.1,
    "labels": {},
    "name": "mvd-shop-web-1",
    "network": "net",
    "options": {},
    "path": "/beat",
    "pinned": PINNED,
    "platform": "",
    "reference": "shop/web:1",
    "request": Request({}),
    "service": Service("web", "shop/web:1", pull_policy="always"),
    "volumes": True,
    "within": WITHIN,
}
ENGINE_ASKS_NOTHING = {"asking", "cached", "close", "forget", "hang_up", "snapshot"}


def of_engine(engine: Engine) -> Iterator[tuple[str, Question]]:
    """Every public method; one with a parameter that has no value above fails here."""
    for name, method in inspect.getmembers(engine, inspect.ismethod):
        if not name.startswith("_") and name not in ENGINE_ASKS_NOTHING | {"follow"}:
            given = {parameter: ENGINE_GIVEN[parameter] for parameter in inspect.signature(method).parameters}
            yield f"docker {name}", lambda method=method, given=given: method(**given)  # type: ignore[misc]
    yield "docker follow", lambda: engine.follow(lambda *event: None)


def route() -> Resource:
    kong = {"port": 80, "protocol": "http", "routes": [{"paths": ["/web"]}]}
    [found] = Routes(None, "srv1").wanted(App("shop", (Service("web", "shop:1", kong=kong),)))
    return found.with_spec(targets=[{**target, "address": "127.0.0.1:20000"} for target in found.spec["targets"]])


def of_kong(kong: Kong) -> Iterator[tuple[str, Question]]:
    entities = [entity for entity in route().payload]
    yield "kong observe", question(kong.observe, "srv1")
    yield "kong all", question(kong.all)
    yield "kong schema", question(kong.schema, "routes")
    yield "kong apply", question(kong.apply, "srv1", None, entities)
    yield "kong prepare", question(kong.prepare, "srv1", None, entities)
    yield "kong adopt", question(kong.adopt, "srv1", entities)
    yield "kong remove_host", question(kong.remove_host, "srv1")
    yield "kong start_file_fault", kong.start_file_fault
    yield "kong write_start_file", kong.write_start_file
    yield "kong answers", question(kong.answers, route())
    yield "kong everywhere", question(kong.everywhere, route())


def of_forge(kind: str, forge: Any) -> Iterator[tuple[str, Question]]:
    pull_request = PullRequest(7, "1" * 40, "refs/pull/7/head", False)
    yield f"{kind} publish", question(forge.publish, "1" * 40, GREEN)
    yield f"{kind} pull_requests", question(forge.pull_requests, "main")
    yield f"{kind} comment", question(forge.comment, pull_request, "mvd plan\nnothing", "")
    yield f"{kind} comment again", question(forge.comment, pull_request, "mvd plan\nnothing", "7")


def of_systemd(systemd: Systemd) -> Iterator[tuple[str, Question]]:
    yield "systemd units", question(systemd.units, "mvd-*")
    yield "systemd phase", question(systemd.phase, "docker.service")
    yield "systemd is_going_down", systemd.is_going_down
    yield "systemd reload", systemd.reload
    yield "systemd enable", question(systemd.enable, ["mvd-a.service"])
    yield "systemd stop", question(systemd.stop, ["mvd-a.service"], WITHIN)
    yield "systemd reset_failed", question(systemd.reset_failed, ["mvd-a.service"])
    yield "systemd clean", question(systemd.clean, ["mvd-a.service"])


PROBE_SPECS: Mapping[str, Mapping[str, Any]] = {
    "exec": {"command": ["true"]},
    "grpc": {"service": ""},
    "heartbeat": {"path": "/beat", "every": 30.0},
    "kafka": {"consumer": {"topic": "t", "group": "g", "lag": 1, "bootstrap_servers": ["127.0.0.1:9"]}},
    "http": {"path": "/health", "body": "well", "header": {"X-Well": "yes"}},
    "log": {"pattern": "ready"},
}


def of_probes(engine: Engine, systemd: Systemd, port: int) -> Iterator[tuple[str, Question]]:
    for name, probe in probes.discover(probes.ProbeTools(engine, systemd)).items():
        spec = {"port": port, "timeout": WITHIN, "every": 30.0, **PROBE_SPECS.get(name, {})}
        yield f"probe {name}", question(probe, WEB, spec)


# ---- all of them -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def key() -> str:
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.private_bytes(serialization.Encoding.PEM, pem, plain).decode()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What takes minutes by its nature takes as long as all else."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setattr("gitops_mvd.docker.images.PULL_SILENCE_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.docker.images.PULL_WITHIN_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.docker.container.EVENTS_WITHIN_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.docker.containers.STOP_SLACK_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.docker.client.PING_WITHIN_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.kong.admin.LOAD_TIMEOUT_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.kong.route_proof.TIMEOUT_SECONDS", WITHIN)
    monkeypatch.setattr("gitops_mvd.daemon.webhook.ANSWER_SECONDS", WITHIN)


VERSION = {"/version": b'{"ApiVersion": "1.41"}'}
DBLESS = {"/": b'{"configuration": {"database": "off"}}'}
DATABASE = {"/": b'{"configuration": {"database": "postgres"}}'}


@pytest.fixture
def world(
    request: pytest.FixtureRequest, short: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> Iterator[Questions]:
    """Every question there is, to servers that all behave in one way."""
    way = WAYS[request.param]
    with ExitStack() as servers:

        def server(name: str = "", first: Mapping[str, bytes] | None = None) -> str:
            return servers.enter_context(awkward(way, tmp_path / name if name else None, **(first or {})))

        url = server()
        port = int(url.rpartition(":")[2])
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={server('bus').removeprefix('unix://')}")
        engines = {
            "unix": Engine(server("new.sock"), timeout=WITHIN),
            "met": Engine(server("met.sock", VERSION), timeout=WITHIN),
            "tcp": Engine(server(first=VERSION).replace("http", "tcp"), timeout=WITHIN),
        }
        kongs = {
            "new": Kong(url, url, timeout=WITHIN),
            "off": Kong(server(first=DBLESS), url, timeout=WITHIN),
            "postgres": Kong(server(first=DATABASE), url, timeout=WITHIN),
            "unix": Kong(server("kong.sock", DBLESS), timeout=WITHIN, boot_file=tmp_path / "boot.json"),
        }
        systemd = Systemd(WITHIN)
        asked: dict[str, Question] = {}
        for name, engine in engines.items():
            asked |= {f"{what} ({name})": ask for what, ask in of_engine(engine)}
        for name, kong in kongs.items():
            asked |= {f"{what} ({name})": ask for what, ask in of_kong(kong)}
        for name in forges.known():
            account = Account("lab/acme/config", lambda: "t0ken", f"{url}/{name}", within=WITHIN)
            asked |= dict(of_forge(name, forges.connect(name, account)))
        asked |= dict(of_systemd(systemd))
        asked |= dict(of_probes(engines["met"], systemd, port))
        tools = kinds.Tools(
            host="srv1",
            engine=engines["met"],
            systemd=systemd,
            kong=kongs["off"],
            clock=Interruptible(),
            files=tmp_path / "files",
            folders=tmp_path / "folders",
            units=tmp_path,
        )
        for name, kind in kinds.discover(tools).items():
            asked[f"observe {name}"] = lambda kind=kind: list(kind.observe())  # type: ignore[misc]
        asked["github app"] = GitHubApp("1", key, "acme/config", url, within=WITHIN)
        asked["git fetch"] = Source(f"{url}/config.git", "main", tmp_path / "mirror", timeout=WITHIN).fetch
        asked["is it our webhook"] = question(listens, "127.0.0.1", port)
        yield asked
        for each in engines.values():
            each.close()


def answer_to(ask: Question, name: str, way: str) -> str:
    """What is wrong with how a question ended, "" if nothing is."""
    most = FEW_BYTES if "no end" in way or "for ever" in way else math.inf
    began = time.monotonic()
    try:
        with limit(2 if "follow" in name else 60, most):  # events may drip as long as they like
            ask()
        message = ""
    except MvdError as error:
        message = str(error)
        if not message or "\n" in message or len(message) > 500 or FOREIGN.search(message):
            return f"{name}: no clear sentence: {message[:700]!r}"
    except OSError as error:
        if name != "is it our webhook":
            return f"{name}: {type(error).__name__}: {error}"
    except BaseException as error:
        return f"{name}: {type(error).__name__}: {error}"
    took = time.monotonic() - began
    if took > MOST_ANSWERS * WITHIN + SLACK:
        return f"{name}: took {took:.1f} s: {message}"
    return ""


@pytest.mark.parametrize("world", WAYS, indirect=True)
def test_every_question_ends_in_time_and_in_a_sentence(world: Questions, request: pytest.FixtureRequest) -> None:
    way = request.node.callspec.params["world"]
    with ThreadPoolExecutor(len(world)) as pool:
        asked = {name: pool.submit(answer_to, ask, name, way) for name, ask in world.items()}
        wrong = [fault for one in asked.values() if (fault := one.result(timeout=60))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("way", [way for way in WAYS if "no end of" in way and "pages" not in way])
@pytest.mark.parametrize("client", ["docker", "kong", "gitea", "http"])
def test_what_has_no_end_is_given_up_by_its_size(client: str, way: str, short: None) -> None:
    """With all the time in the world, it is the bytes that end it."""
    with awkward(WAYS[way], **VERSION, **DBLESS) as url:
        ask: dict[str, Question] = {
            "docker": question(Engine(url.replace("http", "tcp"), timeout=50).containers),
            "kong": question(Kong(url, timeout=50).all),
            "gitea": question(
                forges.connect("gitea", Account("a/b", lambda: "", url, within=50)).pull_requests, "main"
            ),
            "http": question(
                probes.discover(probes.ProbeTools(None, None))["http"],  # type: ignore[arg-type]
                WEB,
                {"path": "/", "body": "well", "port": int(url.rpartition(":")[2]), "timeout": 50.0},
            ),
        }
        began = time.monotonic()
        if client == "http":
            assert ask[client]() != (Health.HEALTHY, "")
        else:
            with pytest.raises(Unavailable):
                ask[client]()
        assert time.monotonic() - began < 30


def test_events_end_when_nobody_follows_them_any_more(short: None) -> None:
    def begins(talk: Any) -> None:
        talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        talk.over.wait(30)

    connected = threading.Event()
    with awkward(begins, **VERSION) as url:
        engine = Engine(url.replace("http", "tcp"), timeout=WITHIN)

        def follow() -> None:
            with suppress(Unavailable):
                engine.follow(lambda *event: connected.set())

        thread = threading.Thread(target=follow)
        thread.start()
        assert connected.wait(5)
        time.sleep(2 * WITHIN)
        assert thread.is_alive()  # events may be as far apart as they like
        engine.hang_up()
        thread.join(5)
        assert not thread.is_alive()
