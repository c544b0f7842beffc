"""Docker's client against a stand-in engine: a real socket, canned answers, and a count of what was asked."""

from __future__ import annotations

import json
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from queue import Empty, Queue
from typing import Any
from urllib.parse import urlsplit

import pytest

from gitops_mvd.core.errors import MvdError, NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import App, Instance, Service
from gitops_mvd.docker.client import Engine

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
ID = "sha256:" + "3" * 64


class StandIn(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers `answers[path]`, a status and a JSON value; `asked` counts the calls, and `tell` sends an event."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, tuple[int, Any]] = {
            "/version": (200, {"ApiVersion": "1.41"}),
            "/containers/json": (200, []),
            "/images/json": (200, []),
            "/networks": (200, []),
            "/volumes": (200, {"Volumes": []}),
        }
        self.asked: Counter[str] = Counter()
        self.followers: list[Queue[bytes]] = []
        super().__init__(str(path), Handler)

    def tell(self, kind: str, action: str, **attributes: str) -> None:
        event = {"Type": kind, "Action": action, "Actor": {"ID": "0123", "Attributes": attributes}}
        for follower in self.followers:
            follower.put(json.dumps(event).encode() + b"\n")

    def hang_up(self) -> None:
        while self.followers:
            self.followers.pop().put(b"")


class Handler(BaseHTTPRequestHandler):
    server: StandIn
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path.removeprefix("/v1.41")
        self.server.asked[path] += 1
        if path == "/events" and path not in self.server.answers:
            return self._stream_events()
        status, value = self.server.answers.get(path, (404, {"message": "page not found"}))
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def _stream_events(self) -> None:
        events: Queue[bytes] = Queue()
        self.server.followers.append(events)
        self.close_connection = True
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        with suppress(BrokenPipeError):  # the client hung up first
            for event in iter(events.get, b""):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "docker.sock") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hang_up()
        server.shutdown()
        thread.join()


@pytest.fixture
def engine(docker: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    engine = Engine(f"unix://{docker.server_address!s}", timeout=5)
    yield engine
    engine.close()


@pytest.fixture
def notices(engine: Engine) -> Iterator[Queue[tuple[str, str, str]]]:
    """What `follow` notices, begun anew as often as it ends."""
    queue: Queue[tuple[str, str, str]] = Queue()
    stop = threading.Event()

    def follow() -> None:
        while not stop.is_set():
            with suppress(Unavailable):
                engine.follow(lambda *notice: queue.put(notice))

    thread = threading.Thread(target=follow)
    thread.start()
    yield queue
    stop.set()
    for _ in range(50):
        engine.hang_up()  # again, as it may have begun anew a moment before
        thread.join(0.1)
    assert not thread.is_alive()


INSPECTED = {
    "Id": "0123",
    "State": {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "ExitCode": 0, "Pid": 0},
    "HostConfig": {},
    "NetworkSettings": {"Networks": {}},
    "Config": {"Labels": None},
}


def named(name: str) -> dict[str, Any]:
    """A network, as the engine lists it."""
    return {"Id": name, "Name": name, "Labels": {}, "IPAM": {"Config": None}}


CONNECTED = ("engine", "connected", "")


NAME = "mvd-shop-web-0123abcd"


def container(name: str, status: str, **more: Any) -> dict[str, Any]:
    labels = {"io.gitops-mvd.app": "shop", "io.gitops-mvd.service": "web", "io.gitops-mvd.digest": "0123abcd" * 8}
    usual = {"Id": name, "Names": [f"/{name}"], "State": "running", "Status": status, "Created": 7, "Labels": labels}
    return {**usual, "HostConfig": {"NetworkMode": "bridge"}, "NetworkSettings": {"Networks": {}}, **more}


def image(*tags: str, digests: tuple[str, ...] = (), id: str = ID) -> dict[str, Any]:
    return {"Id": id, "RepoTags": list(tags), "RepoDigests": list(digests)}


def test_all_instances_are_one_call(docker: StandIn, engine: Engine) -> None:
    docker.answers["/containers/json"] = (200, [container(f"{NAME}-{n}", "Up 2 minutes") for n in range(50)])
    assert len(engine.instances()) == 50
    assert docker.asked == {"/version": 1, "/containers/json": 1}


def test_labels_of_ours_alone_make_no_instance(docker: StandIn, engine: Engine) -> None:
    docker.answers["/containers/json"] = (
        200,
        [container("by-hand", "Exited (1) 5 seconds ago"), container(NAME, "Up")],
    )
    assert engine.instances().keys() == {NAME}


@pytest.mark.parametrize(
    ("status", "health", "exit_code"),
    [
        ("Up 2 minutes", "", 0),
        ("Up 2 minutes (healthy)", "healthy", 0),
        ("Up 2 minutes (unhealthy)", "unhealthy", 0),
        ("Up Less than a second (health: starting)", "starting", 0),
        ("Exited (137) 4 minutes ago", "", 137),
        ("Restarting (1) 3 seconds ago", "", 1),
        ("Created", "", 0),
    ],
)
def test_health_and_exit_code_are_read_from_the_listing(
    docker: StandIn, engine: Engine, status: str, health: str, exit_code: int
) -> None:
    docker.answers["/containers/json"] = (200, [container(NAME, status)])
    expected = Instance(NAME, "shop", "web", "", "running", health, "7", exit_code, id=NAME)
    assert engine.instances() == {NAME: expected}


def test_an_instance_is_reached_at_its_bridge_or_at_the_host(docker: StandIn, engine: Engine) -> None:
    endpoint = {"IPAMConfig": None, "EndpointID": "0123"}
    two = {"Networks": {"front": {**endpoint, "IPAddress": "172.20.0.2"}, "back": {**endpoint, "IPAddress": ""}}}
    on_host = container(f"{NAME}-2", "Up", HostConfig={"NetworkMode": "host"})
    docker.answers["/containers/json"] = (200, [container(NAME, "Up", NetworkSettings=two), on_host])
    assert {name: there.ip for name, there in engine.instances().items()} == {
        NAME: "172.20.0.2",
        f"{NAME}-2": "127.0.0.1",
    }


def test_a_name_that_docker_took_for_an_id_is_no_instance(docker: StandIn, engine: Engine) -> None:
    docker.answers["/containers/b1/json"] = (200, INSPECTED | {"Name": "/somebody-else"})
    assert engine.instance("b1") is None


def test_an_instance_that_was_never_started_has_no_start(docker: StandIn, engine: Engine) -> None:
    docker.answers["/containers/mvd-a/json"] = (200, INSPECTED | {"Name": "/mvd-a"})
    assert engine.instance("mvd-a") == Instance("mvd-a", state="created", id="0123")


def test_without_an_event_stream_every_listing_is_asked_for(docker: StandIn, engine: Engine) -> None:
    engine.images()
    engine.images()
    assert docker.asked["/images/json"] == 2


def test_listings_are_remembered_until_an_event_of_their_kind(
    docker: StandIn, engine: Engine, notices: Queue[tuple[str, str, str]]
) -> None:
    assert notices.get(timeout=5) == CONNECTED
    for _ in range(3):
        engine.images(), engine.networks(), engine.volumes()
    assert (docker.asked["/images/json"], docker.asked["/networks"], docker.asked["/volumes"]) == (1, 1, 1)
    docker.answers["/networks"] = (200, [named("new")])
    docker.tell("network", "create", name="new")
    assert notices.get(timeout=5) == ("network", "create", "new")
    engine.images(), engine.volumes()
    assert engine.networks() == [named("new")]
    assert (docker.asked["/images/json"], docker.asked["/networks"], docker.asked["/volumes"]) == (1, 2, 1)


def test_what_an_engine_is_is_asked_once_until_it_is_started_again(
    docker: StandIn, engine: Engine, notices: Queue[tuple[str, str, str]]
) -> None:
    docker.answers["/info"] = (200, {"Plugins": {"Log": ["journald"]}})
    for connection in (1, 2):
        assert notices.get(timeout=5) == CONNECTED
        assert all(engine.writes_journal() for _ in range(3))
        assert engine.container_root() == (0, 0)
        assert docker.asked["/info"] == connection
        docker.hang_up()


def test_a_listing_from_a_lost_stream_is_not_remembered(
    docker: StandIn, engine: Engine, notices: Queue[tuple[str, str, str]]
) -> None:
    for connection in (1, 2, 3):
        assert notices.get(timeout=5) == CONNECTED
        engine.images()
        engine.images()
        assert docker.asked["/images/json"] == connection
        docker.hang_up()


def test_a_listing_that_a_change_overtook_is_not_remembered(
    docker: StandIn, engine: Engine, notices: Queue[tuple[str, str, str]]
) -> None:
    assert notices.get(timeout=5) == CONNECTED
    engine.cached("volume", lambda api: engine.forget("volume"))
    assert engine.volumes() == []
    assert docker.asked["/volumes"] == 1


def test_only_containers_of_ours_are_noticed(docker: StandIn, notices: Queue[tuple[str, str, str]]) -> None:
    assert notices.get(timeout=5) == CONNECTED
    docker.tell("container", "die", name="somebody-else")
    docker.tell("container", "die", name="mvd-a", **{"io.gitops-mvd.app": "shop"})
    assert notices.get(timeout=5) == ("container", "die", "mvd-a")
    with pytest.raises(Empty):
        notices.get_nowait()


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [
        (404, "manifest unknown: manifest unknown", StepFailed),
        (500, "manifest for shop/web:1 not found: manifest unknown", StepFailed),
        (500, "denied: requested access to the resource is denied\nunauthorized: authentication required", StepFailed),
        (404, "no matching manifest for linux/arm64/v8 in the manifest list entries", StepFailed),
        (400, "invalid reference format", StepFailed),
        (401, "unauthorized: authentication required", Unavailable),
        (500, 'Head "http://r/v2/shop/web/manifests/1": no basic auth credentials', Unavailable),
        (500, 'Get "https://r/v2/": dial tcp: lookup r: no such host', NotNow),
        (500, 'Get "https://r/v2/": net/http: request canceled (Client.Timeout exceeded)', NotNow),
        (429, "toomanyrequests: You have reached your pull rate limit", NotNow),
        (500, "write /var/lib/docker/tmp/x: no space left on device", NotNow),
    ],
)
def test_what_a_registry_says_is_told_from_not_being_told_anything(
    docker: StandIn, engine: Engine, status: int, message: str, error: type[MvdError]
) -> None:
    docker.answers["/distribution/shop/web:1/json"] = (status, {"message": message})
    with pytest.raises(error, match="could not resolve image shop/web:1: ") as caught:
        engine.resolve("shop/web:1")
    assert type(caught.value) is error


def test_an_engine_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"Docker does not answer at tcp://127\.0\.0\.1:1: connection refused"):
        Engine("tcp://127.0.0.1:1").containers()


def test_a_signed_address_does_not_get_into_a_message(docker: StandIn, engine: Engine) -> None:
    message = 'Get "https://blobs.example/layer?se=2026&sig=hush": EOF'
    docker.answers["/distribution/shop/web:1/json"] = (500, {"message": message})
    with pytest.raises(NotNow) as caught:
        engine.resolve("shop/web:1")
    assert "https://blobs.example/layer" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_the_same_outage_is_told_in_the_same_words_each_time(docker: StandIn, engine: Engine) -> None:
    told = set()
    for port in (40001, 40002):
        message = f'Get "https://r/v2/": read tcp 10.0.0.2:{port}->10.0.0.9:443: i/o timeout'
        docker.answers["/distribution/shop/web:1/json"] = (500, {"message": message})
        with pytest.raises(NotNow) as caught:
            engine.resolve("shop/web:1")
        told.add(str(caught.value))
    assert told == {
        'could not resolve image shop/web:1: Get "https://r/v2/": read tcp 10.0.0.2->10.0.0.9:443: i/o timeout'
    }


def test_too_many_networks_come_with_the_cure(docker: StandIn, engine: Engine) -> None:
    message = "could not find an available, non-overlapping IPv4 address pool among the defaults to assign"
    docker.answers["/networks/create"] = (500, {"message": message})
    with pytest.raises(StepFailed, match="default-address-pools"):
        engine.create_network("mvd-shop-front", {}, {})


def test_a_moving_tag_is_asked_for_only_where_it_must_be(docker: StandIn, engine: Engine) -> None:
    docker.answers["/images/json"] = (200, [image("shop/web:1", digests=(f"other/web@{OTHER}", f"shop/web@{DIGEST}"))])
    docker.answers["/distribution/shop/web:1/json"] = (200, {"Descriptor": {"digest": OTHER}})

    def pinned(policy: str) -> str:
        return engine.pin(Service("web", "shop/web:1", pull_policy=policy)).image

    assert pinned("missing") == pinned("if_not_present") == pinned("never") == f"shop/web@{DIGEST}"
    assert docker.asked["/distribution/shop/web:1/json"] == 0
    assert pinned("always") == f"shop/web@{OTHER}"
    docker.answers["/images/json"] = (200, [])
    assert pinned("missing") == f"shop/web@{OTHER}"
    with pytest.raises(StepFailed, match="pull_policy: never"):
        pinned("never")


def test_an_image_that_no_registry_knows_is_pinned_to_its_id(docker: StandIn, engine: Engine) -> None:
    docker.answers["/images/json"] = (200, [image("shop/web:latest")])
    pinned = engine.pin(Service("web", "shop/web"))
    assert (pinned.image, pinned.tag) == (ID, "shop/web")
    assert engine.pin(pinned) == pinned


@pytest.mark.parametrize(
    ("written", "pinned"),
    [
        (f"docker.io/library/nginx:1@{DIGEST}", f"nginx@{DIGEST}"),
        (f"docker.io/shop/web@{DIGEST}", f"shop/web@{DIGEST}"),
        (f"registry:5000/library/web:1@{DIGEST}", f"registry:5000/library/web@{DIGEST}"),
    ],
)
def test_a_digest_is_kept_and_named_as_docker_names_it(engine: Engine, written: str, pinned: str) -> None:
    once = engine.pin(Service("web", written))
    assert (once.image, once.tag) == (pinned, written)
    assert engine.pin(once) == once


def test_an_external_network_that_nobody_made_is_named(docker: StandIn, engine: Engine) -> None:
    docker.answers["/networks"] = (200, [named("there")])
    engine.require_externals(App("shop", networks={"there": {"external": True}, "ours": {}}))
    with pytest.raises(StepFailed, match="external network gone does not exist"):
        engine.require_externals(App("shop", networks={"there": {"external": True}, "gone": {"external": True}}))
    with pytest.raises(StepFailed, match="docker volume create data"):
        engine.require_externals(App("shop", volumes={"data": {"external": True}}))


@pytest.mark.parametrize("path", ["/events", "/version"])
def test_what_the_engine_refuses_is_told_in_its_own_words(docker: StandIn, engine: Engine, path: str) -> None:
    """As an authorization plugin does, or a proxy before its socket."""
    docker.answers[path] = (403, {"message": "forbidden by the plugin"})
    with pytest.raises((Unavailable, StepFailed), match="forbidden by the plugin") as told:
        engine.follow(lambda *notice: None)
    assert "systemctl start" not in str(told.value)
