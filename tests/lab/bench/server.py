"""A real server of the lab, with the daemon on it: deploys, looks and idling, beside the bare engine of that server."""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.lab import service
from tests.lab.bench.figure import Figure
from tests.lab.dialects.github import webhook_headers
from tests.lab.engine import Say
from tests.lab.lab import Lab
from tests.lab.server import VENV
from tests.lab.stage import SETTINGS, Stage, until

HOST = "bench"
MANY, FEW = 100, 50  # services
SERVICES_OF_AN_APP = 5
RUNS, RUNS_OF_MANY = 5, 3
PUSHES = 20
SETTLE_SECONDS = 1.0  # for a pass that finds nothing to come to its end
WEBHOOK = "/etc/gitops-mvd/webhook"
AFTERWARDS_SECONDS = 20.0  # for what follows a deploy: statuses that are sent, the mirror that is packed
QUIET_SECONDS = 10.0  # for the kernel to take apart the networks of containers that were removed
IDLE_SECONDS = 180  # in which the repository is asked three times
MIB = 1024 * 1024
BARE = "bare engine: create, start, first 200"
SMALL = """\
services:
  web:
    image: {image}
    x-mvd: {{health: {{http: /health, port: 7799}}}}
    x-kong: {{port: 7799, routes: [{{paths: [/web]}}]}}
"""
ONE_OF_MANY = """\
  s{number}:
    image: {image}
    network_mode: bridge
    x-mvd: {{health: {{http: /health, port: 7799}}}}
"""


@dataclass(frozen=True)
class Bench:
    """The server under measurement, and the image of its services in two good versions and one that is sick."""

    stage: Stage
    one: str
    two: str
    sick: str

    def measure(self, *command: str) -> Any:
        """What a command of `inside` tells."""
        return measured(self.stage, *command)

    def settle(self, files: dict[str, str | None], subject: str) -> float:
        """Merge, and the seconds from waking the daemon until all of it is healthy."""
        return float(self.measure("settles", self.stage.merge(files, subject)))


def measured(stage: Stage, *command: str) -> Any:
    """What a command of `inside` tells on the server of a stage."""
    argv = (f"{VENV}/bin/python", "-m", "tests.lab.bench.inside", *command)
    return json.loads(stage.server.exec(*argv, timeout=IDLE_SECONDS + 60).out)


def look_seldom(stage: Stage) -> None:
    """Let the daemon look by itself only once a minute, so that what wakes it is what is measured."""
    stage.server.exec("sed", "-i", "s/^interval: .*/interval: 60s/", SETTINGS)
    stage.server.exec("systemctl", "restart", "gitops-mvd")


def figures(say: Say) -> Iterator[Figure]:
    """Raises LabUnavailable where there can be no lab."""
    with Lab.open(say) as lab:
        bench = _set_up(lab)
        yield from _of_a_merge(bench)
        yield from _of_many(bench, say)
        yield from _of_idling(bench)
        yield from _of_a_webhook(bench)


def _set_up(lab: Lab) -> Bench:
    stage = Stage.set_up(lab, lab.server(HOST), lab.forge.create("acme/config"))
    look_seldom(stage)
    images = [lab.registry.push("web", version, service.web("web", version)) for version in ("1.0", "2.0")]
    images.append(lab.registry.push("web", "3.0", service.sick("web", "3.0")))
    for image in images:
        stage.server.exec("docker", "pull", "--quiet", image)
    return Bench(stage, *images)


def _of_a_merge(bench: Bench) -> Iterator[Figure]:
    """One app with a route, merged from version to version; the images are there."""
    versions = {"1.0": bench.one, "2.0": bench.two}
    bench.stage.ends(bench.stage.merge(_small(bench.one), "Begin"), "success")
    took, alone = [], []
    for _ in range(RUNS):
        for version in ("2.0", "1.0"):
            commit = bench.stage.merge(_small(versions[version]), f"Version {version}")
            took.append(float(bench.measure("answers", "/web/", f"web {version}")))
            bench.stage.ends(commit, "success")
        alone.append(float(bench.measure("bare", "1", bench.one, str(service.PORT))))
    merged = statistics.median(took) * 1000
    yield Figure(
        "woken after a merge → new version healthy and routed",
        merged,
        "ms",
        BARE,
        statistics.median(alone) * 1000,
        "bare + 150 ms",
    )
    bad = bench.stage.merge(_small(bench.sick), "A sick version")
    bench.stage.server.exec("systemctl", "kill", "--signal=USR1", "--kill-who=main", "gitops-mvd")
    until(lambda: len(bench.stage.containers()) == 2 or None, "the sick version beside the good one", 30)
    reverted = bench.stage.revert(bad)
    back = float(bench.measure("settles", reverted)) * 1000
    yield Figure("woken after a git revert, amid the bad deploy → healthy", back, "ms", target="< 300 ms")


def _small(image: str) -> dict[str, str | None]:
    return {"apps/web/compose.yaml": SMALL.format(image=image)}


def _of_many(bench: Bench, say: Say) -> Iterator[Figure]:
    """Many services at once, and looking at them."""
    took, alones = [], []
    for run in range(RUNS_OF_MANY):
        if run:
            bench.settle(dict.fromkeys(_many(bench.one, MANY)), "No services")
            time.sleep(QUIET_SECONDS)
        alones.append(float(bench.measure("bare", str(MANY), bench.one, str(service.PORT))))
        time.sleep(QUIET_SECONDS)
        took.append(bench.settle(_many(bench.one, MANY), f"{MANY} services"))
    alone = statistics.median(alones)
    yield Figure(
        f"{MANY} services from nothing to healthy",
        statistics.median(took),
        "s",
        f"bare engine: {MANY} to 200, 8 at a time",
        alone,
        "1.25 ×",
    )
    if (composed := bench.measure("composed", str(MANY), bench.one, str(service.PORT))) is None:
        say("docker compose is not on this server (Debian's own packages lack it): it is not measured beside")
    else:
        yield Figure(f"{MANY} services from nothing, docker compose up", composed, "s", "the bare engine", alone)
    looked = bench.measure("looks", "10")
    yield Figure(f"no-op pass over {MANY} real services: CPU", looked["cpu"] * 1000, "ms")
    yield Figure(f"no-op pass over {MANY} real services: by the clock", looked["wall"] * 1000, "ms")


def _many(image: str, services: int) -> dict[str, str | None]:
    numbers = range(SERVICES_OF_AN_APP)
    text = "services:\n" + "".join(ONE_OF_MANY.format(number=number, image=image) for number in numbers)
    return {f"apps/app-{app:02}/compose.yaml": text for app in range(services // SERVICES_OF_AN_APP)}


def _of_idling(bench: Bench) -> Iterator[Figure]:
    """Nothing happens, but for looks at the repository; the first one after a change has still something to write."""
    gone = _many(bench.one, MANY).keys() - _many(bench.one, FEW).keys()
    bench.settle({"apps/web/compose.yaml": None, **dict.fromkeys(gone)}, f"{FEW} services stay")
    time.sleep(AFTERWARDS_SECONDS)
    bench.measure("looks", "1")
    idle = bench.measure("idles", str(IDLE_SECONDS))
    yield Figure(f"idle daemon, {FEW} services: share of a core", idle["share"] * 100, "%", target="< 0.1 %")
    yield Figure(f"idle daemon, {FEW} services: resident memory", idle["resident"] / MIB, "MiB", target="< 60 MB")
    yield Figure(f"idle daemon, {FEW} services: written in an hour", idle["written"] / 1000, "kB", target="< 100 kB")
    memory = bench.measure("memory")
    yield Figure(
        "memory of a service beside its container (PSS)",
        memory["beside"] / MIB,
        "MiB",
        "an attached docker client",
        memory["client"] / MIB,
        "< 0.5 MiB",
    )
    yield Figure("memory of a container, with its shim (PSS)", memory["container"] / MIB, "MiB")


def _of_a_webhook(bench: Bench) -> Iterator[Figure]:
    """From the first byte of a push's webhook until the pass has reached the Git server with its first question."""
    stage, secret, numbers = bench.stage, secrets.token_hex(16), itertools.count()
    ip = stage.server.ip
    stage.server.put(WEBHOOK, secret, 0o600)
    more = f'webhook: {{listen: "0.0.0.0:9180", secret_file: {WEBHOOK}}}\n'
    stage.server.put(SETTINGS, stage.server.exec("cat", SETTINGS).out + more)  # which the daemon takes up by itself

    def send(event: str) -> int:
        body = json.dumps({"ref": "refs/heads/main", "number": next(numbers)}).encode()
        connection = http.client.HTTPConnection(ip, 9180, timeout=10)
        try:
            connection.request("POST", "/webhook", body, webhook_headers(event, body, secret))
            return connection.getresponse().status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    until(lambda: send("ping") == 200 or None, "an answer to a ping", 30)
    took, alone = [], []
    for _ in range(PUSHES):
        time.sleep(SETTLE_SECONDS)
        began = time.monotonic()
        send("ping")
        alone.append(time.monotonic() - began)
        began = time.monotonic()
        send("push")
        took.append(until(lambda: _asked_since(stage, began), "a look at Git", 30) - began)  # noqa: B023
    yield Figure(
        "push's webhook sent → the pass asks Git for the branch's tip",
        statistics.median(took) * 1000,
        "ms",
        "one HTTP round trip to the same listener",
        statistics.median(alone) * 1000,
        "< 100 ms",
    )


def _asked_since(stage: Stage, began: float) -> float | None:
    """When Git was asked for the first time since then."""
    return next((asked for asked in list(stage.repository.asked) if asked >= began), None)
