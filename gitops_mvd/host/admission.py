"""What an app needs before it may be tried here: the policy's leave, its images, its networks and its secrets."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Set
from contextlib import suppress

from gitops_mvd.core.compose import Network, Volume
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.exposed import INSTEAD, KEYS, exposed
from gitops_mvd.core.joins import resolve
from gitops_mvd.core.model import App, Problem, Service
from gitops_mvd.core.policy import Policy, Server, enforce
from gitops_mvd.core.ports import History
from gitops_mvd.core.redact import parts_of
from gitops_mvd.core.secret_words import is_telling
from gitops_mvd.core.secrets import filled
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.create import too_new
from gitops_mvd.docker.networks import Existing
from gitops_mvd.manifest.dotenv import check_variable
from gitops_mvd.manifest.references import secret_names
from gitops_mvd.probes import lacking
from gitops_mvd.secrets.store import Secrets, as_text

MOST_SECRET_BYTES = 511_999  # of one that a Swarm brings to its nodes

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What an app was pinned by: the engine's images and API, what was made for others, the digests of its secrets."""

    images: object = None
    api: tuple[int, int] = (0, 0)
    existing: Mapping[Existing, str] = dataclasses.field(default_factory=dict)
    secrets: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)


class Admission:
    """Pins the images of apps; what was the same at the last pass is the same object, so that nothing is made again."""

    def __init__(
        self, engine: Engine, policy: Policy | None, server: Server, secrets: Secrets | None, history: History
    ) -> None:
        self._engine = engine
        self._policy = policy
        self._server = server
        self._secrets = secrets
        self._history = history
        self._pinned: dict[str, tuple[App, Seen, App]] = {}
        self._secret_names: dict[str, tuple[App, Set[str]]] = {}
        self._admitted: dict[str, App] = {}
        self._adopted: Mapping[Existing, str] = {}

    def begin(self) -> None:
        """A new pass: nothing was asked for yet.  Raises Unavailable."""
        self._admitted = {}
        self._adopted = self._history.adopted()

    def pin(self, app: App) -> App:
        """`app` with every image pinned to a digest.  Raises StepFailed if it may not be tried, or Unavailable."""
        enforce(self._policy, app, self._server)
        self._engine.require_externals(app)
        self._require_secrets(app)
        images, existing = self._engine.images(), self._existing(app)
        api = self._engine.api_version()
        secrets = {service.name: self._digests(app, service) for service in app.services if service.secrets}
        known, by, pinned = self._pinned.get(app.name, (None, Seen(), None))
        seen = Seen(images, api, existing, secrets)
        is_seen = app is known and by.images is images and by == seen
        if not (pinned and is_seen and all(s.pull_policy != "always" for s in app.services)):
            for service in app.services:
                self._refuse_too_new(service, api)
                _refuse_unasked(service)
                self._check(service, secrets.get(service.name, {}))
                self._refuse_exposed(service, secrets.get(service.name, {}))
                self._refuse_unkept(service, secrets.get(service.name, {}))
            services = (dataclasses.replace(s, secrets=secrets.get(s.name, {}), sealed={}) for s in app.services)
            anew = resolve(dataclasses.replace(app, services=tuple(map(self._engine.pin, services))))
            anew = _using(anew, existing.keys())
            notes = tuple(_notes(app, existing, self._history.last_good(app.name)))
            for note in notes:
                log.info("noted app=%s %s", app.name, note.message)
            anew = dataclasses.replace(anew, notes=(*app.notes, *notes, *self._notes(anew)))
            is_same = pinned and (pinned, pinned.notes, pinned.suspend) == (anew, anew.notes, anew.suspend)
            pinned = pinned if pinned and is_same else anew
            self._pinned[app.name] = app, seen, pinned
        self._admitted[app.name] = pinned
        return pinned

    def is_asked_for(self, app: App) -> bool:
        """Is this the version that the commit wants, and not an older one?"""
        return app == self.asked_for(app.name)

    def asked_for(self, app: str) -> App | None:
        """The version of an app that the commit wants; None if it cannot be tried here."""
        return self._admitted.get(app)

    def _notes(self, app: App) -> Iterator[Problem]:
        """What a new version of a service begins without: data at a path that only its image declares as a volume."""
        for service in app.services:
            if service.update.order == "stop-first" or service.schedule or service.is_job:
                continue  # a successor gets it, or there is none
            mounted = {mount["target"] for mount in service.run.get("volumes", ())}
            mounted |= {file.target for file in service.files}
            for path in self._engine.volumes_of(service.image):
                if path not in mounted:
                    yield Problem(
                        f"apps/{app.name}",
                        1,
                        f"services.{service.name}.image",
                        f"{service.name} keeps data in {path}, which no volume is mounted at: a new version begins "
                        "without it; mount a volume there, or update it with `order: stop-first`",
                    )

    def _existing(self, app: App) -> Mapping[Existing, str]:
        """What is used as it is, with who made it: what was made by others, and what was adopted for the app.

        A network of another app goes with that, and is not used.  A volume is: claims see to it that the one app stops
        before the other starts.
        """
        found = {}
        for key, makers in self._engine.existing(app).items():
            if self._adopted.get(key) == app.name:
                found[key] = app.name
            elif app.name not in makers and ("" in makers or key[0] == "volume"):
                found[key] = max(makers)
        return found

    def _require_secrets(self, app: App) -> None:
        """Raise StepFailed for the first secret file of `app` that this host does not have."""
        known, names = self._secret_names.get(app.name, (None, frozenset[str]()))
        if app is not known:
            names = secret_names([*(service.kong for service in app.services), app.kong_entities])
            self._secret_names[app.name] = app, names
        if self._secrets:
            self._secrets.require(names)

    def _digests(self, app: App, service: Service) -> dict[str, str]:
        """The secrets of a service with the digests of today.  Raises StepFailed or Unavailable.

        If one cannot be asked for now, it counts as what the service had when it last worked.
        """
        if not self._secrets:
            raise StepFailed(f"{service.name} needs the secret {min(service.secrets)}, and this host has none")
        found = {}
        for name in service.secrets:
            try:
                found[name] = self._secrets.digest(name, service.sealed)
            except Unavailable:
                good = self._history.last_good(app.name)
                before = {it.name: it.secrets for it in good.services} if good else {}
                if not before.get(service.name, {}).get(name):
                    raise
                found[name] = before[service.name][name]
        return found

    def _refuse_too_new(self, service: Service, api: tuple[int, int]) -> None:
        """Raise StepFailed for what the engine does not know yet, and would ignore."""
        if why := too_new(service.run, api):
            raise StepFailed(
                f"{service.name}: {why}, and this is Docker {self._engine.info()['ServerVersion']}",
                "upgrade it, or leave that out",
            )

    def _refuse_exposed(self, service: Service, digests: Mapping[str, str]) -> None:
        """Raise StepFailed for a secret that is also where everybody on the host can read it."""
        values: dict[str, list[str]] = {}
        for name, digest in digests.items() if not service.run.keys().isdisjoint(KEYS) else ():
            assert self._secrets
            with suppress(Unavailable):  # its content is not here now, and was checked when it was
                content = self._secrets.content(name, digest).decode("utf-8", "replace")
                values[name] = [part for part in parts_of([content]) if is_telling(part)]
        for key, name in exposed(service, values):
            raise StepFailed(f"{service.name}: its {key} has the value of the secret {name} in it, {INSTEAD}")

    def _refuse_unkept(self, service: Service, digests: Mapping[str, str]) -> None:
        """Raise StepFailed for a file that is a secret of a size that no Swarm keeps."""
        mounted = {name for file in service.files for name in file.secrets.values()} if service.swarm else ()
        for name in sorted(mounted):
            assert self._secrets
            with suppress(Unavailable):  # its content is not here now, and was kept when it was
                size = len(self._secrets.content(name, digests[name]))
                if not 1 <= size <= MOST_SECRET_BYTES:
                    why = f"has {size:,} bytes, and a Swarm keeps secrets of 1 to {MOST_SECRET_BYTES:,}"
                    raise StepFailed(f"{service.name}: the secret {name} {why}")

    def _check(self, service: Service, digests: Mapping[str, str]) -> None:
        """Raise StepFailed for a secret that no variable of the environment can have."""

        def read(name: str) -> str:
            assert self._secrets
            return as_text(name, self._secrets.content(name, digests[name]))

        for name, value in service.environment.items():
            try:
                if (text := filled(value, read)) != value:
                    check_variable(name, text)
            except Unavailable:  # its content is not here now, and was checked when it was
                continue
            except ValueError as error:
                raise StepFailed(f"{service.name}: with its secret the variable {name} {error}") from error


def _refuse_unasked(service: Service) -> None:
    """Raise StepFailed for a probe that cannot be asked on this host: no version would ever be healthy."""
    if why := lacking(service.check):
        raise StepFailed(f"{service.name}: {why}")


def _using(app: App, existing: Set[Existing]) -> App:
    """The app with those networks and volumes as external ones.

    A label cannot decide whose a volume is: it cannot be put on one that a backup was restored to, nor changed when an
    app is renamed.  Who may use one is said by Git, where two apps that claim one volume are a mistake, and by policy.
    """
    networks: dict[str, Network] = {name: {"external": True} for kind, name in existing if kind == "network"}
    volumes: dict[str, Volume] = {name: {"external": True} for kind, name in existing if kind == "volume"}
    if not existing:
        return app
    return dataclasses.replace(app, networks={**app.networks, **networks}, volumes={**app.volumes, **volumes})


def _notes(app: App, existing: Mapping[Existing, str], good: App | None) -> Iterator[Problem]:
    """What is used as it is, until a version that does so has worked or somebody has adopted it."""
    known: dict[str, Mapping[str, Network] | Mapping[str, Volume]] = {
        "network": good.networks if good else {},
        "volume": good.volumes if good else {},
    }
    for (kind, name), maker in existing.items():
        if maker != app.name and not known[kind].get(name, {}).get("external"):
            made = f"made for the app {maker}" if maker else "not made by gitops-mvd"
            told = f"{name} is on this host already, and {made}: it is used as it is (mvd adopt {kind} {name})"
            yield Problem(f"apps/{app.name}", 1, f"{kind}s", told)
