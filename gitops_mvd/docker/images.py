"""The images of an engine: listed, pinned to a digest, pulled, tagged and removed."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import TypedDict

import docker.auth
from docker.api import APIClient
from docker.errors import APIError, NotFound

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import Service
from gitops_mvd.docker.answers import MAKE_ROOM, lines, message, parts, pinnable, verdict
from gitops_mvd.docker.connection import Connection, chunks, root
from gitops_mvd.docker.shape import checked, each_checked
from gitops_mvd.docker.types import EngineInfo, InspectedImage, ListedImage
from gitops_mvd.net.line import limit

log = logging.getLogger(__name__)

PULL_SILENCE_SECONDS = 120.0  # without a word of progress
PULL_NEEDS_BYTES = 256 << 20  # of free disk; what the layers take is not told before they are here
CONTAINERD_ROOT = "/var/lib/containerd"  # where an engine that leaves its images to containerd has them
PULL_WITHIN_SECONDS = 3600.0  # a broken off pull loses its layers, so a big image must be let through


def shortage(folder: str, disk: tuple[int, int, int]) -> str:
    """Why a disk, its size and used and free bytes, has no room for an image; "" if it may have, or tells nothing."""
    total, _, free = disk
    if not total or free >= PULL_NEEDS_BYTES:
        return ""
    return f"{folder} has {free >> 20} MB left, and a pull needs {PULL_NEEDS_BYTES >> 20} MB"


class Progress(TypedDict, total=False):
    error: str


class Descriptor(TypedDict):
    digest: str


class Distribution(TypedDict):
    Descriptor: Descriptor


class ImageApi(Connection):
    """`GET /images/json`, `/images/create` and `/distribution`."""

    _volumes: Mapping[str, Sequence[str]] = MappingProxyType({})  # by pinned image
    _by_tag: tuple[Sequence[ListedImage], Mapping[str, ListedImage]] = ((), {})  # a listing, and its images by tag

    def images(self) -> Sequence[ListedImage]:
        """All images of the engine, as `GET /images/json` has them."""
        return self.cached("image", lambda api: each_checked(api.images(), ListedImage))

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
        with self.asking(f"resolve image {reference}") as api:
            api.reload_config()  # logins change while we run
            answer = api.inspect_distribution(reference, self._login(reference))  # type: ignore[no-untyped-call]  # no stub
            digest = checked(answer, Distribution)["Descriptor"]["digest"]
        return f"{repository}@{digest}"

    def pull(self, pinned: str, platform: str = "") -> None:
        """Have the image `repository@sha256:...` here, from its registry if need be, which may take minutes."""
        if self.has(pinned):
            return
        self._require_room(pinned)
        log.info("pulling image %s", pinned)
        began = time.monotonic()
        try:
            with self.asking(f"pull image {pinned}") as api, limit(PULL_WITHIN_SECONDS, math.inf):
                for progress in self._pulling(api, pinned, platform):
                    if error := progress.get("error"):
                        raise verdict(500, error, f"pull image {pinned}")
        except Unavailable as error:
            if time.monotonic() - began < PULL_WITHIN_SECONDS:
                raise
            raise Unavailable(f"could not pull image {pinned} within {PULL_WITHIN_SECONDS:g} s") from error
        self.forget("image")
        if not self.has(pinned):
            raise Unavailable(f"image {pinned} was pulled, and is gone again")
        log.info("pulled image %s in %.1f s", pinned, time.monotonic() - began)

    def _require_room(self, pinned: str) -> None:
        """Raise NotNow if the engine's disk, where it is one of this machine, has hardly any room."""
        info = self.info() if self.is_local else EngineInfo()
        by_containerd = any("io.containerd.snapshotter" in " ".join(row) for row in info.get("DriverStatus") or ())
        for folder in filter(None, (info.get("DockerRootDir"), CONTAINERD_ROOT if by_containerd else "")):
            with suppress(OSError):
                if why := shortage(folder, shutil.disk_usage(folder)):
                    raise NotNow(f"could not pull image {pinned}: {why}", MAKE_ROOM)

    def _pulling(self, api: APIClient, pinned: str, platform: str) -> Iterator[Progress]:
        """The progress of a pull.  The SDK's own pull() would wait for ever for an engine that fell silent."""
        repository, _, digest = parts(pinned)
        api.reload_config()
        login = self._login(pinned)
        registry = docker.auth.resolve_repository_name(repository)[0]
        header = docker.auth.encode_header(login) if login else docker.auth.get_config_header(api, registry)
        with api.post(
            f"{root(api)}/images/create",
            params={"fromImage": repository, "tag": digest, "platform": platform or None},
            headers={"X-Registry-Auth": header},
            stream=True,
            timeout=PULL_SILENCE_SECONDS,
        ) as response:
            if not response.ok:
                raise verdict(response.status_code, message(response.text), f"pull image {pinned}")
            for line in lines(chunks(response)):
                yield checked(json.loads(line), Progress)

    def has(self, pinned: str) -> bool:
        """Is the image `repository@sha256:...` or `sha256:...` here?"""
        return any(pinned == image["Id"] or pinned in (image["RepoDigests"] or ()) for image in self.images())

    def volumes_of(self, pinned: str) -> Sequence[str]:
        """The paths that an image declares as volumes, which never change; empty if it is not here yet."""
        if pinned not in self._volumes:
            if not self.has(pinned):
                return ()
            with self.asking(f"inspect image {pinned}") as api:
                try:
                    found = checked(api.inspect_image(pinned), InspectedImage)  # type: ignore[no-untyped-call]  # no stub
                except NotFound:  # removed a moment ago
                    return ()
            volumes = tuple(sorted((found.get("Config") or {}).get("Volumes") or ()))
            self._volumes = {**self._volumes, pinned: volumes}
        return self._volumes[pinned]

    def tag(self, pinned: str, name: str) -> None:
        """Give an image that is here one more name, `repository:tag`, which may have been another's."""
        repository, tag, _ = parts(name)
        with self.asking(f"tag image {pinned} as {name}") as api:
            api.tag(pinned, repository, tag)
        self.forget("image")

    def remove_image(self, name: str) -> None:
        """Drop that name, or by its id an image of one name, unless containers or other names still need it."""
        with self.asking(f"remove image {name}") as api:
            try:
                api.remove_image(name)
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise
        self.forget("image")

    def _held(self, repository: str, written: str) -> str:
        """What is here under that tag: its digest in that repository, else its id, else ""."""
        images = self.images()
        if self._by_tag[0] is not images:
            self._by_tag = images, {tag: image for image in images for tag in image["RepoTags"] or ()}
        image = self._by_tag[1].get(written)
        return pinnable(image, repository) if image else ""

    def _login(self, reference: str) -> dict[str, str] | None:
        """The login of the settings; with None the SDK reads the docker command's own files."""
        registry = docker.auth.resolve_repository_name(parts(reference)[0])[0]
        if registry not in self.logins:
            return None
        user, password = self.logins[registry]
        return {"username": user, "password": password, "serveraddress": registry}
