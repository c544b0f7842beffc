"""What an app needs before it may be tried here: the policy's leave, its images, its networks and its secrets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Set

from gitops_mvd.core.compose import Network, Volume
from gitops_mvd.core.joins import resolve
from gitops_mvd.core.model import App, Problem
from gitops_mvd.core.policy import Policy, enforce
from gitops_mvd.docker.client import Engine
from gitops_mvd.manifest.references import file_names
from gitops_mvd.state.secret_files import SecretFiles


class Admission:
    """Pins the images of apps; what was the same at the last pass is the same object, so that nothing is made again."""

    def __init__(self, engine: Engine, policy: Policy | None, secrets: SecretFiles | None) -> None:
        self._engine = engine
        self._policy = policy
        self._secrets = secrets
        self._pinned: dict[str, tuple[App, tuple[object, Set[str]], App]] = {}
        self._secret_names: dict[str, tuple[App, Set[str]]] = {}
        self._admitted: dict[str, App] = {}

    def begin(self) -> None:
        """A new pass: nothing was asked for yet."""
        self._admitted = {}

    def pin(self, app: App) -> App:
        """`app` with every image pinned to a digest.  Raises StepFailed if it may not be tried, or Unavailable."""
        enforce(self._policy, app)
        self._engine.require_externals(app)
        self._require_secrets(app)
        images, unlabelled = self._engine.images(), self._engine.unlabelled(app)
        known, by, pinned = self._pinned.get(app.name, (None, (None, None), None))
        is_seen = app is known and images is by[0] and unlabelled == by[1]
        if not (pinned and is_seen and all(s.pull_policy != "always" for s in app.services)):
            anew = resolve(dataclasses.replace(app, services=tuple(map(self._engine.pin, app.services))))
            anew = _using(anew, unlabelled)
            anew = dataclasses.replace(anew, notes=(*app.notes, *_notes(app, unlabelled), *self._notes(anew)))
            pinned = pinned if pinned and (pinned, pinned.notes) == (anew, anew.notes) else anew
            self._pinned[app.name] = app, (images, unlabelled), pinned
        self._admitted[app.name] = pinned
        return pinned

    def is_asked_for(self, app: App) -> bool:
        """Is this the version that the commit wants, and not an older one?"""
        return app == self._admitted.get(app.name)

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

    def _require_secrets(self, app: App) -> None:
        """Raise StepFailed for the first secret file of `app` that this host does not have."""
        known, names = self._secret_names.get(app.name, (None, frozenset[str]()))
        if app is not known:
            names = file_names([*(service.kong for service in app.services), app.kong_entities])
            self._secret_names[app.name] = app, names
        if self._secrets:
            self._secrets.require(names)


def _using(app: App, unlabelled: Set[str]) -> App:
    """The app with networks and volumes as external ones that somebody else has made under their names.

    A label cannot decide whose a volume is: it cannot be put on one that a backup was restored to.
    """
    if not unlabelled:
        return app
    networks: dict[str, Network] = {name: {"external": True} for name in app.networks if name in unlabelled}
    volumes: dict[str, Volume] = {name: {"external": True} for name in app.volumes if name in unlabelled}
    return dataclasses.replace(app, networks={**app.networks, **networks}, volumes={**app.volumes, **volumes})


def _notes(app: App, unlabelled: Set[str]) -> Iterator[Problem]:
    for kind, names in (("networks", app.networks), ("volumes", app.volumes)):
        for name in names:
            if name in unlabelled:
                made = f"{name} is on this host already, and not made by gitops-mvd: it is used as it is"
                yield Problem(f"apps/{app.name}", 1, kind, made)
