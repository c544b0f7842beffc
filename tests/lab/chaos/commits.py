"""What is committed, at random, and what has to come of it.  Pure: the same dice, the same commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import yaml

STEADY = "steady"  # the app that no commit and hardly a fault touches
MOST_APPS = 4  # beside the steady one
PORTS = (7799, 8080)
PUBLISHED = (18080, 18081, 18082)  # ports of the server, which only one app can have
SERVICES = ("web", "api", "front")
WITHIN = "25s"  # for what gets healthy; on a busy machine, too
UNHEALTHY_WITHIN = "3s"
# How an app is broken: by an image that nobody has, by a key that is unknown, or by how its container runs.
BREAKS = ("missing", "misspelled", "sick", "crashing")

Push = Callable[[str, int, str], str]  # a version, a port and how it runs ("" for well) -> the name of its image


@dataclass(frozen=True)
class App:
    """An app of one service, with a route, a mounted file of Git, and a volume that must never lose its content.

    Its image, path and volume have its name at first, and stay as they are if the app gets another one.
    """

    name: str
    service: str = "web"
    version: str = "1"
    mark: int = 0
    port: int = PORTS[0]
    replicas: int = 1
    broken: str = ""  # one of BREAKS
    published: int = 0  # one of PUBLISHED
    image: str = ""
    path: str = ""
    volume: str = ""

    def __post_init__(self) -> None:
        for name, value in (("image", self.name), ("path", f"/{self.name}"), ("volume", f"{self.name}_data")):
            object.__setattr__(self, name, getattr(self, name) or value)

    @property
    def answer(self) -> str:
        """What it answers through the gateway."""
        return f"{self.image} {self.version}"

    def files(self, push: Push) -> Mapping[str, str]:
        """Its files in the repository."""
        at = f"apps/{self.name}"
        return {f"{at}/compose.yaml": self._manifest(push), f"{at}/mark": f"{self.mark}\n"}

    def _manifest(self, push: Push) -> str:
        kind = self.broken if self.broken in ("sick", "crashing") else ""
        image = push(self.version, self.port, kind)
        within = UNHEALTHY_WITHIN if kind else WITHIN
        service: dict[str, Any] = {
            "image": f"{image}-that-nobody-has" if self.broken == "missing" else image,
            "environment": {"MARK": str(self.mark)},
            "volumes": ["data:/data", "./mark:/mark:ro"],
            "stop_grace_period": "1s",
            "deploy": {"replicas": self.replicas},
            "x-mvd": {"health": {"http": "/health", "port": self.port, "within": within}},
            "x-kong": {"port": self.port, "routes": [{"paths": [self.path]}]},
        }
        if self.published:
            service["ports"] = [f"{self.published}:{self.port}"]
        if self.broken == "misspelled":
            service["prots"] = ["80:80"]
        volumes = {"data": {"name": self.volume}}
        return yaml.safe_dump({"services": {self.service: service}, "volumes": volumes}, sort_keys=False)


@dataclass(frozen=True)
class State:
    """What Git has, and of each app what last worked: that is what has to run."""

    apps: Mapping[str, App] = field(default_factory=lambda: {STEADY: App(STEADY)})
    good: Mapping[str, App] = field(default_factory=dict)

    @property
    def running(self) -> Mapping[str, App]:
        """The apps that have to run, each as it has to run."""
        return {
            name: running for name, app in self.apps.items() if (running := self.good.get(name) if app.broken else app)
        }

    @property
    def is_green(self) -> bool:
        return not any(app.broken for app in self.apps.values())

    def settled(self) -> State:
        """Once it was reached: what runs is what worked last."""
        return State(self.apps, self.running)


@dataclass(frozen=True)
class Commit:
    """What it changes, in words; `apps` is what Git has then.  A `revert` undoes the commit before it."""

    subject: str
    apps: Mapping[str, App]
    touched: frozenset[str] = frozenset()
    revert: bool = False


def commit(random: Random, state: State, before: Mapping[str, App] | None, hands_off: frozenset[str]) -> Commit:
    """A commit onto that state that touches none of the apps `hands_off`; `before` is what Git had one commit ago."""
    ways = [way for way in WAYS if random.random() < 0.7] or WAYS
    random.shuffle(ways)
    if before is not None and random.random() < 0.15:
        touched = frozenset(name for name in {*before, *state.apps} if before.get(name) != state.apps.get(name))
        has_good = all(not before[name].broken or name in state.good for name in touched & before.keys())
        if touched and has_good and not touched & hands_off:
            return Commit("Revert the commit before", before, touched, revert=True)
    for way in ways:
        if made := way(random, state, hands_off):
            subject, changed = made
            apps = {name: app for name, app in {**state.apps, **changed}.items() if app}
            return Commit(subject, apps, frozenset(changed))
    return Commit("Change nothing that runs", state.apps)


Made = tuple[str, Mapping[str, App | None]] | None


def _add(random: Random, state: State, hands_off: frozenset[str]) -> Made:
    if len(state.apps) > MOST_APPS:
        return None
    name = f"app{random.randrange(10_000)}"
    replicas = random.choice((1, 1, 2))
    app = App(name, random.choice(SERVICES), "1", 0, random.choice(PORTS), replicas)
    free = [0, *(port for port in PUBLISHED if all(port != it.published for it in _all(state)))]
    return f"Add {name}", {name: replace(app, published=random.choice(free) if replicas == 1 else 0)}


def _remove(random: Random, state: State, hands_off: frozenset[str]) -> Made:
    names = sorted(state.apps.keys() - {STEADY} - hands_off)
    if len(names) < 2 or random.random() < 0.5:
        return None
    name = random.choice(names)
    return f"Remove {name}", {name: None}


def _all(state: State) -> list[App]:
    """What Git has, and what runs instead of it."""
    return [*state.apps.values(), *state.good.values()]


def _well(state: State, hands_off: frozenset[str]) -> list[App]:
    """The apps of which something may pass on: none while one is broken, which keeps what it has."""
    return [app for _, app in sorted(state.apps.items()) if state.is_green and app.name not in {STEADY, *hands_off}]


def _rename(random: Random, state: State, hands_off: frozenset[str]) -> Made:
    if not (apps := _well(state, hands_off)):
        return None
    app, name = random.choice(apps), f"app{random.randrange(10_000)}"
    if name in state.apps or name in state.good:
        return None
    renamed = replace(app, name=name, mark=app.mark + random.randrange(2))
    return f"Rename {app.name} to {name}", {app.name: None, name: renamed}


def _pass_on(random: Random, state: State, hands_off: frozenset[str]) -> Made:
    """Ports, paths and volumes go round among two or three apps, each in another direction."""
    apps = _well(state, hands_off)
    random.shuffle(apps)
    if len(apps := apps[: random.choice((2, 2, 3))]) < 2:
        return None
    what = [it for it in ("published", "path", "volume") if random.random() < 0.6]
    if any(app.replicas > 1 for app in apps):
        what = [it for it in what if it != "published"]
    changed: dict[str, App | None] = {app.name: app for app in apps}
    for each in what:
        random.shuffle(apps)
        for giver, taker in zip(apps, [*apps[1:], apps[0]], strict=True):
            now = changed[taker.name]
            assert now
            changed[taker.name] = replace(now, **{each: getattr(giver, each)})
    changed = {name: app for name, app in changed.items() if app != state.apps[name]}
    subject = f"Pass {', '.join(what)} on among {', '.join(sorted(changed))}"
    return (subject, changed) if changed else None


def _change(what: str, changed: Callable[[Random, App], App]) -> Callable[[Random, State, frozenset[str]], Made]:
    """A change of an app that is not broken."""

    def way(random: Random, state: State, hands_off: frozenset[str]) -> Made:
        names = sorted(name for name, app in state.apps.items() if name not in {STEADY, *hands_off} and not app.broken)
        if not names:
            return None
        app = changed(random, state.apps[random.choice(names)])
        return (f"{what} of {app.name}", {app.name: app}) if app != state.apps[app.name] else None

    return way


def _break(random: Random, state: State, hands_off: frozenset[str]) -> Made:
    names = sorted(name for name in state.good.keys() & state.apps.keys() if name not in {STEADY, *hands_off})
    names = [name for name in names if not state.apps[name].broken]
    if not names or not state.is_green:
        return None
    app, broken = state.apps[random.choice(names)], random.choice(BREAKS)
    return f"Break {app.name}: {broken}", {app.name: replace(app, broken=broken, mark=app.mark + 1)}


def _fix(random: Random, state: State, hands_off: frozenset[str]) -> Made:
    names = sorted(name for name, app in state.apps.items() if app.broken and name not in hands_off)
    if not names:
        return None
    app = state.apps[random.choice(names)]
    return f"Fix {app.name}", {app.name: replace(app, broken="", mark=app.mark + 1)}


WAYS = [
    _add,
    _remove,
    _change("Change the environment", lambda random, app: replace(app, mark=app.mark + 1)),
    _change("Change the image", lambda random, app: replace(app, version=str(1 + int(app.version) % 3))),
    _change(
        "Change the replicas",
        lambda random, app: app if app.published else replace(app, replicas=1 + app.replicas % 3),
    ),
    _change("Rename the service", lambda random, app: replace(app, service=_other(random, SERVICES, app.service))),
    _change("Change the port", lambda random, app: replace(app, port=_other(random, PORTS, app.port))),
    _break,
    _fix,
    _rename,
    _rename,
    _pass_on,
    _pass_on,
]


def _other(random: Random, values: tuple[Any, ...], value: Any) -> Any:
    return random.choice([one for one in values if one != value])
