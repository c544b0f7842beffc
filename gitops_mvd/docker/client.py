"""Docker, asked through its API by one client for all rooms; the only module that imports docker."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import docker.auth
import urllib3
from docker.api import APIClient
from docker.errors import APIError, DockerException, NotFound
from docker.types import CancellableStream
from docker.utils import kwargs_from_env

from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.core.model import App, Instance, Json, Service
from gitops_mvd.docker import container as inside
from gitops_mvd.docker.answers import (
    APP,
    chosen,
    inspected,
    listed,
    message,
    names,
    network,
    parts,
    pinnable,
    strings,
    verdict,
)
from gitops_mvd.docker.cache import Memory
from gitops_mvd.docker.container import Ran

log = logging.getLogger(__name__)

ANSWER_WITHIN = 60.0  # seconds: the engine itself gives a registry up to 30 s
PING_WITHIN = 5.0  # seconds
PULL_SILENCE = 120.0  # seconds without a word of progress
PULL_WITHIN = 3600.0  # seconds: a broken off pull loses its layers, so a big image must be let through
RECONNECT_AFTER = (1.0, 30.0)  # seconds: the first wait and the longest

MEMOISED = ("image", "network", "volume")
TELLING = (
    *("create", "start", "die", "oom", "pause", "unpause", "health_status", "rename", "destroy"),
    *("pull", "load", "import", "tag", "untag", "delete"),
)

Notice = Callable[[str, str, str], None]
Listing = Sequence[dict[str, Any]]


class Engine:
    """The Docker engine at `url` (by default the one that DOCKER_HOST names, else this host's own socket).

    It may be asked from any thread.  Every method raises Unavailable where the engine or a registry did not answer, and
    StepFailed where it refused.  `logins` maps a registry to user and password; what it lacks is looked up as the
    docker command does: in $DOCKER_CONFIG or ~/.docker, with its credential helpers.
    """

    def __init__(
        self,
        url: str | None = None,
        timeout: float = ANSWER_WITHIN,
        logins: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        where: Mapping[str, Any] = {"base_url": url} if url else kwargs_from_env()
        self._how = {**where, "timeout": timeout}
        self._url = str(where.get("base_url", "unix:///var/run/docker.sock"))
        self._logins = logins or {}
        self._idle: list[APIClient] = []
        self._look = threading.local()
        self._stream: CancellableStream[Any] | None = None
        self._memory: Memory[Listing] = Memory(MEMOISED)
        self._tagged: tuple[Listing, Mapping[str, dict[str, Any]]] = ((), {})  # a listing of images, by tag

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    # ---- containers --------------------------------------------------------------------------------------------------

    def containers(self) -> Listing:
        """Our containers in any state, as `GET /containers/json` has them: one call, however many they are."""
        if seen := getattr(self._look, "containers", None):
            return cast(Listing, seen)
        with self._asking("list the containers") as api:
            listing = cast(Listing, api.containers(all=True, filters={"label": [APP]}))
        if hasattr(self._look, "containers"):
            self._look.containers = listing
        return listing

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A look at everything begins: inside, this thread lists the containers once, for all who ask.

        Where no event stream tells of changes, the other listings are good from here to the next look.
        """
        self._look.containers = None
        if self._stream is None:
            self._memory.begin()
        try:
            yield
        finally:
            del self._look.containers

    def instances(self) -> dict[str, Instance]:
        """Our containers by name.  The listing knows no start: `started` is the time they were created."""
        named = (container for container in self.containers() if container["Names"])  # one being removed has none left
        return {instance.name: instance for instance in map(listed, named)}

    def instance(self, name: str) -> Instance | None:
        """One container exactly as it is now, None where there is none of that very name."""
        with self._asking(f"inspect container {name}") as api:
            try:
                found = cast(dict[str, Any], api.inspect_container(name))
            except NotFound:
                return None
        return inspected(found) if found["Name"] == f"/{name}" else None

    def exit_code(self, container: str, ago: float) -> int | None:
        """With what a container of that name ended in the last so many seconds, even if it is gone; else None."""
        with self._asking(f"look for the end of container {container}") as api:
            return inside.exit_code(api, _root(api), container, ago)

    def aliases(self, container: str) -> dict[str, list[str]]:
        """The names that a container has on each of its networks beside its own; nothing where there is none."""
        with self._asking(f"inspect container {container}") as api, suppress(NotFound):
            return names(api.inspect_container(container))
        return {}

    def remove(self, container: str) -> None:
        """Stop and remove a container with its anonymous volumes; one that is not there is fine."""
        with self._asking(f"remove container {container}") as api, suppress(NotFound):
            api.remove_container(container, v=True, force=True)

    def execute(self, container: str, command: Sequence[str], within: float) -> Ran:
        """Run a command in a container; one that does not end within so many seconds is killed where that can be."""
        with self._asking(f"run a command in container {container}") as api:
            return inside.execute(api, _root(api), container, command, within)

    def modified(self, container: str, path: str, within: float) -> float | None:
        """When a file in a container was last modified, in Unix time; None where there is no such file."""
        with self._asking(f"look for {path} in container {container}") as api:
            return inside.modified(api, _root(api), container, path, within)

    # ---- images ------------------------------------------------------------------------------------------------------

    def images(self) -> Listing:
        """All images of the engine, as `GET /images/json` has them."""
        return self._listing("image", lambda api: api.images())

    def pin(self, service: Service) -> Service:
        """`service` with its image pinned to `repository@sha256:...`, and `tag` as it was written.

        An image without a digest of its repository, built or loaded by hand, is pinned to its id, `sha256:...`.
        """
        if service.image.startswith("sha256:"):
            return service
        repository, tag, digest = parts(service.image)
        written = f"{repository}:{tag}"
        if digest:
            pinned = f"{repository}@{digest}"
        elif service.pull_policy == "always":
            pinned = self.resolve(written)
        else:
            pinned = self._held(repository, written)
        if not pinned and service.pull_policy == "never":
            raise StepFailed(f"image {written} is not on this host, and `pull_policy: never` forbids to pull it")
        return dataclasses.replace(service, image=pinned or self.resolve(written), tag=service.tag or service.image)

    def resolve(self, reference: str) -> str:
        """The `repository@sha256:...` that the registry has under that reference now."""
        repository = parts(reference)[0]
        with self._asking(f"resolve image {reference}") as api:
            api.reload_config()  # logins change while we run
            answer = api.inspect_distribution(reference, self._login(reference))  # type: ignore[no-untyped-call]  # no stub
        return f"{repository}@{answer['Descriptor']['digest']}"

    def pull(self, pinned: str, platform: str = "") -> None:
        """Have the image `repository@sha256:...` here, from its registry if need be, which may take minutes."""
        if self.has(pinned):
            return
        log.info("pulling image %s", pinned)
        began = time.monotonic()
        with self._asking(f"pull image {pinned}") as api:
            for progress in self._pulling(api, pinned, platform):
                if error := progress.get("error"):
                    raise verdict(500, error, f"pull image {pinned}")
                if time.monotonic() > began + PULL_WITHIN:
                    raise Unavailable(f"could not pull image {pinned} within {PULL_WITHIN:.0f} s")
        self.forget("image")
        if not self.has(pinned):
            raise Unavailable(f"image {pinned} was pulled, and is gone again")
        log.info("pulled image %s in %.1f s", pinned, time.monotonic() - began)

    def _pulling(self, api: APIClient, pinned: str, platform: str) -> Iterator[dict[str, Any]]:
        """The progress of a pull.  The SDK's own pull() would wait for ever for an engine that fell silent."""
        repository, _, digest = parts(pinned)
        api.reload_config()
        login = self._login(pinned)
        registry = docker.auth.resolve_repository_name(repository)[0]
        header = docker.auth.encode_header(login) if login else docker.auth.get_config_header(api, registry)
        with api.post(
            f"{_root(api)}/images/create",
            params={"fromImage": repository, "tag": digest, "platform": platform or None},
            headers={"X-Registry-Auth": header},
            stream=True,
            timeout=PULL_SILENCE,
        ) as response:
            if not response.ok:
                raise verdict(response.status_code, message(response.text), f"pull image {pinned}")
            yield from map(json.loads, filter(None, response.iter_lines()))

    def has(self, pinned: str) -> bool:
        """Is the image `repository@sha256:...` or `sha256:...` here?"""
        return any(pinned == image["Id"] or pinned in (image["RepoDigests"] or ()) for image in self.images())

    def tag(self, pinned: str, name: str) -> None:
        """Give an image that is here one more name, `repository:tag`, which may have been another's."""
        repository, tag, _ = parts(name)
        with self._asking(f"tag image {pinned} as {name}") as api:
            api.tag(pinned, repository, tag)
        self.forget("image")

    def remove_image(self, name: str) -> None:
        """Drop that name, or by its id an image of one name, unless containers or other names still need it."""
        with self._asking(f"remove image {name}") as api:
            try:
                api.remove_image(name)
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise
        self.forget("image")

    def _held(self, repository: str, written: str) -> str:
        """What is here under that tag: its digest in that repository, else its id, else ""."""
        images = self.images()
        if self._tagged[0] is not images:
            self._tagged = images, {tag: image for image in images for tag in image["RepoTags"] or ()}
        image = self._tagged[1].get(written)
        return pinnable(image, repository) if image else ""

    def _login(self, reference: str) -> dict[str, str] | None:
        """What the settings say; None has the SDK look into the docker command's own files."""
        registry = docker.auth.resolve_repository_name(parts(reference)[0])[0]
        if registry not in self._logins:
            return None
        user, password = self._logins[registry]
        return {"username": user, "password": password, "serveraddress": registry}

    # ---- networks and volumes ----------------------------------------------------------------------------------------

    def networks(self) -> Listing:
        """All networks of the engine, as `GET /networks` has them."""
        return self._listing("network", lambda api: api.networks())

    def volumes(self) -> Listing:
        """All volumes of the engine, as `GET /volumes` has them."""
        return self._listing("volume", lambda api: api.volumes()["Volumes"] or [])

    def create_network(self, name: str, options: Json, labels: Mapping[str, str]) -> None:
        """Make a network by the options that Compose has for it.

        Where these name no subnet, the engine chooses one, and the network is made again by that: only where the subnet
        was given, containers may be given an address, and so keep theirs when they join anew.
        """
        how = {**network(options), "labels": {**strings(options.get("labels")), **labels}}
        how["check_duplicate"] = True  # engines before 25 make a second network of that name
        with self._asking(f"create network {name}") as api:
            made = api.create_network(name, **how)
            if subnets := chosen(options, api.inspect_network(made["Id"])):
                api.remove_network(made["Id"])
                try:
                    api.create_network(name, **{**how, "ipam": {"Driver": "default", "Config": subnets}})
                except APIError:  # another network was quicker to take it
                    api.create_network(name, **how)
        self.forget("network")

    def remove_network(self, name: str) -> None:
        with self._asking(f"remove network {name}") as api, suppress(NotFound):
            api.remove_network(name)
        self.forget("network")

    def create_volume(self, name: str, options: Json, labels: Mapping[str, str]) -> None:
        """Make a volume by the options that Compose has for it."""
        with self._asking(f"create volume {name}") as api:
            api.create_volume(
                name,
                driver=options.get("driver"),
                driver_opts=strings(options.get("driver_opts")),
                labels={**strings(options.get("labels")), **labels},
            )
        self.forget("volume")

    def remove_volume(self, name: str) -> None:
        """Remove a volume, and the data in it."""
        with self._asking(f"remove volume {name}") as api, suppress(NotFound):
            api.remove_volume(name)
        self.forget("volume")

    def require_externals(self, app: App) -> None:
        """Raise StepFailed for the first `external: true` network or volume of `app` that nobody has made."""
        for kind, wanted, there in (
            ("network", app.networks, self.networks),
            ("volume", app.volumes, self.volumes),
        ):
            external = {name for name, options in wanted.items() if options.get("external")}
            if missing := sorted(external - {found["Name"] for found in there()} if external else ()):
                hint = f"docker {kind} create {missing[0]}"
                raise StepFailed(f"external {kind} {missing[0]} does not exist", hint)

    # ---- the engine itself -------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Raise Unavailable if the engine does not answer within five seconds."""
        with self._asking("ping Docker") as api:
            api.get(f"{_root(api)}/_ping", timeout=PING_WITHIN).raise_for_status()

    def info(self) -> Json:
        """`GET /info`: `ServerVersion`, `LiveRestoreEnabled`, `Driver` (of storage) and much more."""
        with self._asking("tell of itself") as api:
            return cast(Json, api.info())

    # ---- events, and what may be remembered thanks to them -----------------------------------------------------------

    def watch(self, notice: Notice, stop: threading.Event) -> None:
        """Follow the engine's events until `stop`, reconnecting as often as it takes.  Raises nothing.

        `notice` gets type, action and name of what happened to a container of ours or to any image, network or volume;
        and `("engine", "connected", "")` after every connection, since nobody knows what was missed before it.
        """
        threading.Thread(target=self._hang_up, args=(stop,), name="docker-events-stop", daemon=True).start()
        shortest, longest = RECONNECT_AFTER
        wait = shortest
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._follow(notice, stop)
                reason = "it ended"
            except MvdError as error:
                reason = str(error)
            finally:
                self._memory.end()
            if not stop.is_set():
                wait = shortest if time.monotonic() - began > longest else min(2 * wait, longest)
                log.warning("lost the events of Docker, asking again in %.0f s: %s", wait, reason)
                stop.wait(wait)

    def forget(self, kind: str) -> None:
        """Something of that kind (image, network, volume) changed: the next listing asks again."""
        self._memory.forget(kind)

    def _follow(self, notice: Notice, stop: threading.Event) -> None:
        with self._asking("stream its events") as api:
            filters = {"type": ["container", *MEMOISED], "event": list(TELLING)}
            # `since`, because the engine answers a moment before it listens; what is told twice does no harm
            self._stream = api.events(since=int(time.time()), filters=filters, decode=True)
            try:
                if stop.is_set():
                    return
                self._memory.begin()
                notice("engine", "connected", "")
                for event in self._stream:
                    kind, actor = event["Type"], event["Actor"]
                    self.forget(kind)
                    if kind != "container" or APP in actor["Attributes"]:
                        notice(kind, event["Action"], actor["Attributes"].get("name", actor["ID"]))
            finally:
                self._stream, stream = None, self._stream
                _hang_up(stream)

    def _hang_up(self, stop: threading.Event) -> None:
        stop.wait()
        _hang_up(self._stream)

    def _listing(self, kind: str, ask: Callable[[APIClient], Any]) -> Listing:
        """What `ask` answers, remembered until an event of that kind, and only while there is a stream of them."""

        def listing() -> Listing:
            with self._asking(f"list the {kind}s") as api:
                return cast(Listing, ask(api))

        return self._memory.recall(kind, listing)

    @contextmanager
    def _asking(self, what: str) -> Iterator[APIClient]:
        """A client for the one who asks: its session is not made to be shared.  After a failure it is made anew."""
        with asking_docker(what, self._url):
            try:
                api = self._idle.pop()
            except IndexError:
                api = APIClient(**self._how)
            try:
                yield api
            except BaseException:
                api.close()
                raise
            self._idle.append(api)


@contextmanager
def asking_docker(what: str, url: str) -> Iterator[None]:
    """Turn what Docker at `url`, its SDK or the way to it raise into Unavailable or StepFailed: could not `what`."""
    try:
        yield
    except APIError as error:
        raise verdict(error.status_code or 500, str(error.explanation or error), what) from error
    except (DockerException, urllib3.exceptions.HTTPError, OSError) as error:
        reason = next((reason for cause in _causes(error) if (reason := _reason(cause))), "")
        message = f"Docker does not answer at {url}: {reason}" if reason else f"could not {what}: {error}"
        raise Unavailable(message, "Start it: systemctl start docker") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error of the SDK and all that it was made of, the inmost first: each library wraps that of the one below."""
    within = [*error.args, error.__cause__, getattr(error, "reason", None)]
    for cause in within:
        if isinstance(cause, BaseException):
            yield from _causes(cause)
    yield error


def _reason(error: BaseException) -> str:
    """Why there was no answer, as the system says it; "" if this error does not say."""
    if isinstance(error, TimeoutError | urllib3.exceptions.TimeoutError):
        return "timed out"
    if isinstance(error, OSError) and error.errno:
        return (error.strerror or os.strerror(error.errno)).lower()
    return ""


def _root(api: APIClient) -> str:
    return f"{api.base_url}/v{api.api_version}"


def _hang_up(stream: CancellableStream[Any] | None) -> None:
    if stream is not None:
        with suppress(OSError, AttributeError):  # it had ended by itself: the SDK then finds no socket
            stream.close()
