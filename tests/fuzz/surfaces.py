"""What is read from outside.  Each surface makes inputs, and reads one as the product does; `SURFACES` has them all."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import logging
import re
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from random import Random

import yaml

from gitops_mvd import forges
from gitops_mvd.config import settings
from gitops_mvd.core.difference import differences
from gitops_mvd.core.model import App, HostFacts
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.small_server import LogThrottle, Server, listen
from gitops_mvd.daemon.webhook import Webhooks
from gitops_mvd.docker.create import Place, request
from gitops_mvd.git.branch import Source
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.migrate.adopt import plan
from gitops_mvd.kong.migrate.dump import dump_all
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.manifest import load, review
from gitops_mvd.manifest.explain import explain
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.systemd.unit import render
from tests.contract.kong_documents import a_kong
from tests.contract.scripted import Answer, scripted
from tests.fuzz import mutants, objects
from tests.fuzz.verdict import Input, Wrong, unclear
from tests.lab import dialects
from tests.lab.repository import Happened, PullRequest, Repository
from tests.oracle.mutants import changed, fixtures, made, of_text
from tests.threads import serving
from tests.unit.memory_tree import MemoryTree
from tests.unit.test_manifest import CASES, repository

HOST = HostFacts("uk-web-1", {"region": "uk", "role": "ai"}, {"A": "1"})
SECRET = "of-sixteen-or-more"
API = (1, 41)
UNIT: dict[str, str] = {"follows": "client", "docker": "/usr/bin/docker", "engine": "unix:///var/run/docker.sock"}


@dataclass(frozen=True)
class Surface:
    """`make` makes an input, and `read` reads it: it raises MvdError or Wrong, or nothing."""

    make: Callable[[Random], Input]
    read: Callable[[Input], object]


def read_apps(files: Mapping[str, bytes]) -> None:
    """A repository: its apps, and what would be asked of Docker, systemd and Kong for them."""
    tree = MemoryTree(files)
    apps, broken = load(tree, HOST)
    for problems in broken.values():
        check("a broken app", *map(str, problems))
    reviewed = review(tree)
    check("a review", *map(str, reviewed.problems), *map(str, reviewed.notes))
    routes = Routes(None, HOST.name, secrets=Secrets(Path("/nonexistent")))
    for app in apps:
        explain(app)
        for told in (*differences(App(app.name), app), *differences(app, App(app.name))):
            check("a difference", told.text)
        for service in app.services:
            request(app.name, service, Place("/etc/gitops-mvd/files", "/srv/mvd", 20000), API)
            render(app.name, service, service.instances(app.name)[0], 20000, **UNIT).encode()
    for app in apps:
        list(routes.wanted(app))


def check(what: str, *sentences: str) -> None:
    for sentence in sentences:
        if why := unclear(sentence):
            raise Wrong(f"{what}: {why}")


# ---- manifests -------------------------------------------------------------------------------------------------------


@functools.cache
def repositories() -> list[Input]:
    cases = [repository(case).files for case in sorted(CASES.glob("*/*.yaml"))]
    apps = [{path: text.encode() for path, text in asked.files.items()} for _, asked in fixtures()]
    return [{path: data for path, data in files.items() if len(data) < 100_000} for files in (*cases, *apps)]


@functools.cache
def texts() -> list[bytes]:
    return [data for files in repositories() for data in files.values() if data]


def manifest(random: Random) -> Input:
    """The files of a repository; one or two of them are changed."""
    if random.random() < 0.3:
        asked = random.choice((made, of_text, lambda random: changed(random, made(random))))(random)
        files = {path: text.encode("utf-8", "replace") for path, text in asked.files.items()}
    else:
        files = dict(random.choice(repositories()))
    for path in random.choices(sorted(files), k=random.choice((1, 1, 2))):
        files[path] = mutants.of_yaml(random, files[path], texts())
    if random.random() < 0.05:
        files[mutants.of_bytes(random, random.choice(sorted(files)).encode()).decode(errors="surrogateescape")] = b"x"
    return files


# ---- settings --------------------------------------------------------------------------------------------------------

SETTINGS = b"""\
repository: https://github.com/acme/config.git
branch: main
host: uk-web-1
interval: 60s
credentials: {username: x, token_file: /etc/gitops-mvd/token, insecure: true}
verify: {mode: tag, allowed_signers: /etc/signers, gpg_keys: [/etc/keys.asc]}
docker: {registries: {myrepo.io: {username: ci, password_file: /etc/gitops-mvd/registry}}}
kong: {admin: "http://127.0.0.1:8001", proxy: "http://127.0.0.1:8000", boot_file: /etc/kong/kong.yaml}
forge: {kind: github, base_url: "https://github.example.org/api/v3", repository: acme/config, environment: production}
webhook: {listen: "0.0.0.0:9000", secret_file: /etc/gitops-mvd/webhook}
policy: {}
state: /var/lib/gitops-mvd
"""


@functools.cache
def examples() -> list[bytes]:
    """The settings above, and all that the manual shows."""
    manual = resources.files("gitops_mvd").joinpath("docs", "settings.md").read_text("utf-8")
    shown = re.findall(r"^```yaml\n(.*?)^```", manual, re.DOTALL | re.MULTILINE)
    begin = SETTINGS.partition(b"\n")[0] + b"\n"
    return [SETTINGS, *((b"" if "repository:" in text else begin) + text.encode() for text in shown)]


def configuration(random: Random) -> Input:
    """A settings file."""
    return {"config.yaml": mutants.of_yaml(random, random.choice(examples()), examples())}


def read_settings(given: Input) -> None:
    read = settings.read("config.yaml", given["config.yaml"])
    settings.named_files(read)
    if read.webhook:
        settings.host_and_port(read.webhook.listen)


# ---- Git -------------------------------------------------------------------------------------------------------------


def tree(random: Random) -> Input:
    """The objects of a commit, as tests.fuzz.objects writes them."""
    return {"objects.json": json.dumps(objects.made(random, random.choice(texts()))).encode()}


def read_tree(given: Input) -> None:
    """A commit is followed and read, or refused; and a good one after it is deployed, whatever was in between."""
    with tempfile.TemporaryDirectory() as folder:
        bare = objects.Bare(Path(folder) / "config.git")
        source = Source(str(bare.place), "main", Path(folder) / "mirror")
        hostile = bare.write(json.loads(given["objects.json"]))
        with ExitStack() as stack:
            stack.callback(_revert, bare, source, hostile)
            followed = source.fetch()
            apps, broken = load(source.tree(followed), HOST)
            check("names", "".join(("-", followed.subject, *broken, *(app.name for app in apps))))
            check("a broken app", *(str(problem) for problems in broken.values() for problem in problems))
            source.committed(followed)


def _revert(bare: objects.Bare, source: Source, hostile: str) -> None:
    good = bare.good(hostile)
    known, tip = source.last(), source.fetch()
    if tip.commit != good:
        raise Wrong("the commit after it is not followed")
    if {app.name for app in load(source.tree(tip), HOST)[0]} != {"good"}:
        raise Wrong("the commit after it is not read")
    for revision in source.since(known, tip) if known else ():
        check("a subject", f"-{revision.subject}")


# ---- webhooks --------------------------------------------------------------------------------------------------------

ANSWERS = {200, 202, 400, 401, 404, 405, 408, 411, 413, 414, 417, 431, 501, 505}
DICE = re.compile(rb"(?<=\")[0-9a-f-]{32,36}(?=\")")  # what the dialects draw by themselves, as a name of a delivery


def webhook(random: Random) -> Input:
    """A request of a forge as its dialect has it: its event, its headers or its bytes are changed."""
    kind = random.choice(sorted(dialects.discover()))
    about = Repository("acme/config", Path("/nonexistent"), "http://forge.lab/acme/config.git")
    pull = PullRequest(7, "Add an app", "topic", "main", "2" * 40)
    pushed = Happened("refs/heads/main", "1" * 40, "2" * 40, "Deploy", "2026-11-01T10:00:00+00:00")
    happened = random.choice((pushed, Happened(pull_request=pull, action="opened")))
    headers, body = dialects.discover()[kind].delivery(about, happened, SECRET)
    headers = {name: value for name, value in headers.items() if not DICE.search(f'"{value}"'.encode())}
    before, how = body, random.random()
    body = DICE.sub(b"0", body)
    if how < 0.6:
        body = mutants.of_json(random, body)
    if random.random() < 0.8:  # signed anew, so that it is let in
        signatures = [hmac.new(SECRET.encode(), text, hashlib.sha256).hexdigest() for text in (before, body)]
        headers = {name: value.replace(*signatures) for name, value in headers.items()}
    lines = [f"{name}: {value}".encode() for name, value in headers.items()]
    lines = [b"POST /webhook HTTP/1.1", b"Host: a", b"Connection: close", *lines, b"Content-Length: %d" % len(body)]
    raw = b"\r\n".join(lines)
    if how > 0.8:
        raw = mutants.of_bytes(random, raw)
    raw += b"\r\n\r\n" + body
    return {"forge": kind.encode(), "request": mutants.of_bytes(random, raw) if 0.6 < how < 0.75 else raw}


def read_webhook(given: Input) -> None:
    kind, raw = given["forge"].decode(), given["request"]
    with listening(kind) as (port, posted):
        answer = _asked(port, raw)
        head = answer.partition(b"\r\n")[0].split(b" ")
        if answer and (len(head) < 2 or not head[0].startswith(b"HTTP/1.") or int(head[1]) not in ANSWERS):
            raise Wrong(f"it is answered with {answer[:80]!r}")
        if set(posted) - {"push", "pull_request"}:
            raise Wrong(f"it wakes the loop by {posted}")
        if b" 405 " not in _asked(port, b"GET /webhook HTTP/1.0\r\n\r\n").partition(b"\r\n")[0]:
            raise Wrong("nobody listens any more")


def _asked(port: int, raw: bytes) -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while more := connection.recv(65536):
                answer += more
        except TimeoutError:
            raise Wrong("it is not answered") from None
        except OSError:  # it was closed while we were still sending
            pass
    return answer


@contextmanager
def listening(kind: str) -> Iterator[tuple[int, list[str]]]:
    """The real listener for a forge, and what it posts; what it logs must be lines without a stack."""
    posted: list[str] = []
    throttle, listener = LogThrottle(), listen("127.0.0.1", 0)
    heard = _Heard()
    logging.getLogger("gitops_mvd").addHandler(heard)
    try:
        receiver = forges.known()[kind]
        application = Webhooks(receiver, SECRET, "main", Awaited(), posted.append, throttle)
        with serving(Server(listener, application, throttle, "webhook refused", within=4)):
            yield listener.getsockname()[1], posted
    finally:
        logging.getLogger("gitops_mvd").removeHandler(heard)
    for record in heard.records:
        if record.exc_info:
            raise Wrong(f"the log has a stack: {record.exc_info[1]!r}")
        check("the log", record.getMessage())


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


# ---- Kong ------------------------------------------------------------------------------------------------------------

OURS = ["managed-by:gitops-mvd", f"host:{HOST.name}", "app:web", "service:web"]


def kong(random: Random) -> Input:
    """What an Admin API answers, by path: one or two answers are changed."""
    has_database = random.random() < 0.4
    document = {kind: [dict(item) for item in items] for kind, items in a_kong().items()}
    for items in document.values():
        for item in items:
            if random.random() < 0.3:
                item["tags"] = OURS
    schema = {"fields": [{"name": {"type": "string"}}, {"config": {"type": "record", "fields": []}}]}
    answers = {
        "/": json.dumps({"version": "3.9.1", "configuration": {"database": "postgres" if has_database else "off"}}),
        "/status": json.dumps({"configuration_hash": "a" * 32, "database": {"reachable": True}}),
        "/config": json.dumps({"config": yaml.safe_dump({"_format_version": "3.0", **document})}),
        "/schemas/": json.dumps(schema),
        **{f"/{kind}": json.dumps({"data": items, "next": None}) for kind, items in document.items()},
    }
    given = {path: text.encode() for path, text in answers.items()}
    asked = [path for path in given if has_database or path in ("/", "/status", "/config", "/schemas/")]
    for path in random.sample(asked, k=random.choice((1, 1, 2))):
        if path == "/config" and random.random() < 0.8:
            text = mutants.of_yaml(random, json.loads(given[path])["config"].encode())
            given[path] = json.dumps({"config": text.decode(errors="replace")}).encode()
        else:
            given[path] = mutants.of_json(random, given[path])
    return given


def read_kong(given: Input) -> None:
    """What is managed is observed, all of it is dumped, and what would be adopted is planned."""

    def answer(method: str, path: str) -> Answer:
        path = path.partition("?")[0]
        body = given.get("/schemas/" if path.startswith("/schemas/") else path.replace("-", "_"))
        return (200, {"Content-Type": "application/json"}, body) if body is not None else (404, {}, {"message": "no"})

    with scripted(answer) as server:
        client = Kong(server.url, timeout=2)
        with ExitStack() as stack:
            stack.callback(lambda: _dumped(client))
            for entity in client.observe(HOST.name):
                check("an entity", str(entity))


def _dumped(client: Kong) -> None:
    there, schemas = client.all(), Schemas(client.schema)
    dumped = dump_all(there, schemas)
    check("a note", *dumped.notes)
    for text in dumped.files.values():
        yaml.safe_load(text)
    plan(HOST.name, there[:3], there, schemas)


SURFACES: Mapping[str, Surface] = {
    "manifests": Surface(manifest, read_apps),
    "settings": Surface(configuration, read_settings),
    "trees": Surface(tree, read_tree),
    "webhooks": Surface(webhook, read_webhook),
    "kong": Surface(kong, read_kong),
}
