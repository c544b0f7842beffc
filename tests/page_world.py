"""A server with something of everything, as the page shows it: for tests of the page, and to look at it."""

from __future__ import annotations

import time

from msgspec.structs import replace

from gitops_mvd.api.views import (
    DONE,
    FAILED,
    RUNNING,
    AppView,
    CommitView,
    DrainView,
    EventView,
    GitView,
    HeldView,
    HostView,
    InstanceView,
    LogLine,
    OperationView,
    PhaseView,
    ResultView,
    RouteView,
    ServiceView,
    StepView,
    ThreadView,
)
from tests.daemon_standin import World, commit

CHATBOT = commit(0x3F9C2A1, "Deploy chatbot 1.4.2", "Priya Natarajan", 7200)
SHOP = commit(0x8D01B7E, "Raise the replicas of the shop to 3", "Jonas Weber", 86_000)
BAD = commit(0xB4D15C0, "Let billing speak TLS 1.3 only", "Ada Okafor", 1500)
NEWEST = commit(0xC0FFEE1, "Move search to OpenSearch 2.19", "Marta Silva", 40)


def instance(app: str, service: str, digest: str, number: int = 0, **more: object) -> InstanceView:
    name = f"mvd-{app}-{service}-{digest}" + (f"-{number}" if number else "")
    given = {"state": "running", "health": "Healthy", "since": time.time() - 7000, **more}
    return InstanceView(name, **given)  # type: ignore[arg-type]


def chatbot() -> AppView:
    now = time.time()
    web = ServiceView(
        "web",
        "myrepo.io/babylon/chatbot:1.4.2",
        "Healthy",
        3,
        3,
        "sha256:9f2c4be1a05d",
        since=now - 7000,
        probe="http /health",
        routes=(
            RouteView("chatbot.web", ("/chatbot", "chat.example.com/"), ("key-auth", "rate-limiting")),
            RouteView("chatbot.web.admin", ("POST /chatbot/admin",), ("ip-restriction",)),
        ),
        instances=tuple(
            instance("chatbot", "web", "3f9c2a1b", n, ports=(f"127.0.0.1:{20000 + n}->7799",)) for n in (1, 2, 3)
        ),
    )
    worker = ServiceView(
        "worker",
        "myrepo.io/babylon/chatbot-worker:1.4.2",
        "Healthy",
        2,
        2,
        since=now - 6900,
        probe="kafka chat-events",
        instances=tuple(instance("chatbot", "worker", "77ab01cd", n) for n in (1, 2)),
    )
    redis = ServiceView(
        "redis",
        "redis:7.4-alpine",
        "Healthy",
        1,
        1,
        since=now - 900_000,
        probe="tcp 6379",
        instances=(instance("chatbot", "redis", "ef0102aa", since=now - 900_000),),
    )
    return AppView(
        "chatbot",
        "Synced",
        "Healthy",
        "Succeeded",
        changed="web: image chatbot:1.4.1 → 1.4.2",
        running=CHATBOT,
        since=now - 7000,
        services=(web, worker, redis),
    )


def billing() -> AppView:
    now = time.time()
    why = "api: http /health answers 503 Service Unavailable"
    api = ServiceView(
        "api",
        "registry.example.com:5000/payments/billing-api:2024.11.3",
        "Degraded",
        1,
        2,
        why=why,
        since=now - 1400,
        probe="http /health",
        routes=(RouteView("billing.api", ("/billing",), ("jwt",)),),
        instances=(
            instance("billing", "api", "90aa17fe", 1, ports=("127.0.0.1:20011->8443",)),
            instance(
                "billing",
                "api",
                "90aa17fe",
                2,
                health="Degraded",
                why="http /health answers 503",
                ports=("127.0.0.1:20012->8443",),
            ),
        ),
    )
    invoices = ServiceView(
        "invoices",
        "registry.example.com:5000/payments/invoices:2024.11.3",
        "Healthy",
        0,
        0,
        schedule="every day at 02:30",
    )
    return AppView(
        "billing",
        "OutOfSync",
        "Degraded",
        "RolledBack",
        why=f"b4d15c0 failed and was rolled back: {why}",
        running=SHOP,
        since=now - 90_000,
        services=(api, invoices),
    )


def plain(name: str, image: str, number: int, subject: str, health: str = "Healthy", **more: object) -> AppView:
    now = time.time()
    ready = 1 if health == "Healthy" else 0
    service = ServiceView(
        name,
        image,
        health,
        ready,
        1,
        since=now - 50_000 - number * 777,
        probe="docker",
        routes=(RouteView(name, (f"/{name}",)),),
        instances=(instance(name, name, "aa00bb11", health=health),),
    )
    return AppView(
        name,
        "Synced",
        health,
        "Succeeded",
        running=commit(number, subject, ago=60_000 + number),
        since=now - 50_000 - number * 777,
        services=(service,),
        **more,  # type: ignore[arg-type]
    )


def step(
    app: str, service: str, verb: str, kind: str, name: str, began: float, seconds: float, **more: str
) -> StepView:
    return StepView(app, service, verb, kind, name, began=began, seconds=seconds, **{"state": DONE, **more})


def green(id: int = 41) -> OperationView:
    began = time.time() - 7100
    new, old = "mvd-chatbot-web-3f9c2a1b", "mvd-chatbot-web-77b0cc19"
    steps = [step("chatbot", "web", "create", "image", "chatbot:1.4.2", began + 1.1, 6.3)]
    for n in (1, 2, 3):
        at = began + 7.5 + (n - 1) * 4
        steps += [
            step("chatbot", "web", "create", "container", f"{new}-{n}", at, 0.4),
            step("chatbot", "web", "create", "unit", f"{new}-{n}", at + 0.4, 0.7),
            step(
                "chatbot", "web", "wait", "unit", f"{new}-{n}", at + 1.1, 2.4, what="until http :7799/health succeeds"
            ),
        ]
    steps += [
        step("chatbot", "web", "update", "route", "chatbot.web", began + 19.8, 0.3, what=f"{old} → {new}"),
        step("chatbot", "web", "wait", "route", "chatbot.web", began + 20.1, 1.2, what="until Kong uses it"),
        step("chatbot", "web", "wait", "unit", f"{old}-1", began + 21.3, 4.1, what="until its connections are closed"),
        step("chatbot", "web", "delete", "unit", f"{old}-1", began + 25.4, 0.8),
        step("chatbot", "worker", "create", "container", "mvd-chatbot-worker-77ab01cd-1", began + 7.6, 0.5),
        step("chatbot", "worker", "create", "unit", "mvd-chatbot-worker-77ab01cd-1", began + 8.1, 0.6),
        step(
            "chatbot",
            "worker",
            "wait",
            "unit",
            "mvd-chatbot-worker-77ab01cd-1",
            began + 8.7,
            3.9,
            what="until kafka chat-events succeeds",
        ),
    ]
    return OperationView(
        id,
        CHATBOT,
        ("push",),
        began,
        began + 26.4,
        (
            PhaseView("fetch", began, 0.6),
            PhaseView("read", began + 0.6, 0.2),
            PhaseView("look", began + 0.8, 0.3),
            PhaseView("apply", began + 1.1, 25.3),
        ),
        tuple(steps),
        (ResultView("chatbot", "Synced", "Healthy", "Succeeded", changed="web: image chatbot:1.4.1 → 1.4.2"),),
    )


def red(id: int = 42) -> OperationView:
    began = time.time() - 1480
    name, why = "mvd-billing-api-0de1f2aa-1", "http :8443/health answers 503 Service Unavailable (for 30 s)"
    steps = (
        step("billing", "api", "create", "image", "billing-api:2024.12.0", began + 0.8, 4.2),
        step("billing", "api", "create", "container", name, began + 5.0, 0.4),
        step("billing", "api", "create", "unit", name, began + 5.4, 0.7),
        step(
            "billing",
            "api",
            "wait",
            "unit",
            name,
            began + 6.1,
            30.0,
            what="until http :8443/health succeeds (at most 30 s)",
            state=FAILED,
            why=why,
        ),
        step("billing", "api", "delete", "unit", name, began + 36.3, 1.1),
        step("billing", "api", "delete", "container", name, began + 37.4, 0.2),
    )
    return OperationView(
        id,
        BAD,
        ("push",),
        began,
        began + 37.8,
        (
            PhaseView("fetch", began, 0.4),
            PhaseView("read", began + 0.4, 0.2),
            PhaseView("look", began + 0.6, 0.2),
            PhaseView("apply", began + 0.8, 37.0),
        ),
        steps,
        (
            ResultView(
                "billing", "OutOfSync", "Degraded", "RolledBack", why=f"api: {why}", changed="api: env TLS_MIN changed"
            ),
        ),
    )


def going(id: int = 43) -> OperationView:
    began = time.time() - 9
    name = "mvd-search-node-5511aacc"
    steps = (
        step("search", "node", "create", "image", "opensearch:2.19.0", began + 0.7, 5.2),
        step("search", "node", "create", "container", name, began + 5.9, 0.4),
        step("search", "node", "create", "unit", name, began + 6.3, 0.5),
        step(
            "search",
            "node",
            "wait",
            "unit",
            name,
            began + 6.8,
            0,
            state=RUNNING,
            what="until http :9200/_cluster/health succeeds (at most 120 s)",
        ),
    )
    return OperationView(
        id,
        NEWEST,
        ("push", "poll"),
        began,
        phases=(
            PhaseView("fetch", began, 0.4),
            PhaseView("read", began + 0.4, 0.1),
            PhaseView("look", began + 0.5, 0.2),
        ),
        steps=steps,
    )


def line(
    text: str, app: str = "chatbot", service: str = "web", number: int = 1, cursor: str = "", ago: float = 0.0
) -> LogLine:
    return LogLine(time.time() - ago, app, service, f"mvd-{app}-{service}-3f9c2a1b-{number}", text, cursor)


def printed(number: int) -> LogLine:
    """A line of the log of the chatbot: every fifth is of its worker."""
    verb, what, code = ("GET", "messages", 200) if number % 3 else ("POST", "sessions", 201)
    text = f"{verb} /chatbot/{what} {code} {number * 7 % 90 + 3} ms user={number * 31 % 977}"
    service = "worker" if number % 5 == 0 else "web"
    return line(text, service=service, number=number % 3 + 1, cursor=f"c{number}", ago=120 - number)


def server() -> World:
    """web-1, in the middle of a deploy."""
    now = time.time()
    search = AppView(
        "search",
        "OutOfSync",
        "Progressing",
        "Running",
        why="node: waiting until http :9200/_cluster/health succeeds",
        running=commit(0x55AA, "Add search", "Marta Silva", 400_000),
        since=now - 400_000,
        services=(
            ServiceView(
                "node",
                "opensearchproject/opensearch:2.19.0",
                "Progressing",
                0,
                1,
                since=now - 2,
                probe="http /_cluster/health",
                routes=(RouteView("search", ("/search",), ("key-auth",)),),
                instances=(
                    instance("search", "node", "01fe3322", since=now - 400_000),
                    instance("search", "node", "5511aacc", health="Progressing", since=now - 2),
                ),
            ),
        ),
    )
    apps = (
        billing(),
        chatbot(),
        search,
        plain("docs", "nginx:1.27-alpine", 0x1001, "Publish the handbook"),
        plain("grafana", "grafana/grafana:11.3.1", 0x1002, "Update Grafana"),
        replace(
            plain("legacy-import", "myrepo.io/etl/import:0.9", 0x1003, "Pin the importer", "Suspended"),
            suspended=None,
            why="suspended by jane: the source is being migrated",
        ),
        plain("mail", "boky/postfix:4.3.0", 0x1004, "Relay mail over port 587"),
        plain("prometheus", "prom/prometheus:v3.0.1", 0x1005, "Keep metrics for 30 days"),
        plain("sessions", "valkey/valkey:8.0", 0x1006, "Replace Redis by Valkey"),
        plain("status-page", "louislam/uptime-kuma:1.23.16", 0x1007, "Show the status page"),
    )
    status = HostView("web-1", "0.1.0", now - 3, "OutOfSync", "Degraded", commit=NEWEST, deploying=43, apps=apps)
    operations = [going(), red(), green()]
    for number in range(8):
        base = green(40 - number)
        shift = 20_000.0 * (number + 1)
        operations.append(
            replace(
                base,
                began=base.began - shift,
                ended=base.ended - shift,
                commit=commit(0x2000 + number, f"Update the base image ({number + 1})", "renovate", shift),
                causes=("poll",),
                results=(
                    ResultView("docs", "Synced", "Healthy", "Succeeded", changed="docs: image nginx:1.26 → 1.27"),
                ),
            )
        )
    events = [
        EventView(n + 1, now - 300 + n * 9, level, text)
        for n, (level, text) in enumerate(
            [
                ("info", "daemon started version=0.1.0 host=web-1"),
                ("info", "webhook push from=127.0.0.1"),
                ("info", "fetched commit=c0ffee1 subject=Move search to OpenSearch 2.19"),
                ("info", "create image opensearch:2.19.0 app=search"),
                ("warning", "forge answers slowly: 4.1 s for a status of c0ffee1"),
                ("info", "create unit mvd-search-node-5511aacc app=search"),
                ("error", "billing/api: http /health answers 503 Service Unavailable"),
                ("info", "waiting until http :9200/_cluster/health succeeds app=search"),
            ]
        )
    ]
    lines = [printed(number) for number in range(110)]
    plan = {
        "revision": NEWEST.commit,
        "changes": {
            "search": {
                "changed": [
                    {"service": "node", "sign": "~", "what": "image opensearch 2.17.1 → 2.19.0"},
                    {"service": "node", "sign": "+", "what": "env DISABLE_SECURITY_PLUGIN added"},
                    {"service": "node", "sign": "-", "what": "port 9300 removed"},
                ],
                "cost": {"text": "up to 40 s down (volume search-data)", "seconds_down_at_most": 40.0},
                "remarks": [],
                "lines": [],
            },
            "docs": {
                "changed": [{"service": "docs", "sign": "~", "what": "image nginx:1.27 → 1.28"}],
                "cost": {"text": "no downtime", "seconds_down_at_most": 0.0},
                "remarks": [],
                "lines": [],
            },
        },
        "apps": {
            app.name: [{"do": "create", "kind": "unit", "name": f"mvd-{app.name}-0011", "what": ""}] for app in apps
        },
        "held": {"billing": "held at 8d01b7e, as b4d15c0 failed: api: http /health answers 503"},
        "notes": {"search": ["`deploy.restart_policy` is on-failure: systemd starts it again in any case"]},
    }
    doctor = [
        {"what": "settings", "verdict": "ok", "told": "/etc/gitops-mvd/config.yaml", "hint": ""},
        {"what": "docker", "verdict": "ok", "told": "27.3.1, overlay2", "hint": ""},
        {
            "what": "live-restore",
            "verdict": "warn",
            "told": "off: every container stops while Docker restarts",
            "hint": 'Set "live-restore": true in /etc/docker/daemon.json',
        },
        {
            "what": "kong",
            "verdict": "fail",
            "told": "Kong does not answer at http://127.0.0.1:8001: connection refused",
            "hint": "systemctl status kong",
        },
        {"what": "disk", "verdict": "ok", "told": "41.2 GiB free at /var/lib/gitops-mvd", "hint": ""},
    ]
    return World(status, operations, events, lines, plan, doctor)


def troubled() -> World:
    """The same with trouble of the server itself."""
    world, now = server(), time.time()
    git = GitView(now - 900, "could not resolve host forge.example.com")
    threads = (
        ThreadView("docker events", False, now - 40, "Docker does not answer at unix:///var/run/docker.sock", 3),
    )
    settings = "config.yaml:3: branhc: unknown key"
    world.status = replace(world.status, git=git, threads=threads, error="Docker does not answer", settings=settings)
    held = HeldView(CommitView("e" * 40, "Greet in Welsh"), "wave 1 (canary) is not green yet")
    drained = DrainView(CommitView("d" * 40, "Drain web-1"))
    world.status = replace(world.status, held=held, wave=2, drained=drained)
    return world
