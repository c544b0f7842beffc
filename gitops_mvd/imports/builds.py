"""Services whose image is built: each needs the name of an image, which only a person knows.  Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from gitops_mvd.config.yamltree import Node
from gitops_mvd.core.secret_words import literals
from gitops_mvd.imports.document import Pair, Spot
from gitops_mvd.imports.draft import ComposeFile, Draft, Place, Question
from gitops_mvd.imports.load import Loader
from gitops_mvd.imports.secrets import without_login

WHY = "build time is separate from deploy time: an image is built in CI, and named here"
PLACEHOLDER = "example.invalid/not-yet-known:0"
_IMAGE = re.compile(r"[a-z0-9][A-Za-z0-9._:/-]*(?:@sha256:[0-9a-f]{64})?")


class Builds:
    """Puts images in the place of builds; asks for those that are not known."""

    def __init__(self, draft: Draft, loader: Loader) -> None:
        self.draft = draft
        self.loader = loader
        self._replaced: set[int] = set()

    def images(self, services: Mapping[str, Node]) -> None:
        """Name an image in every service that has none; `services` is as Compose merges it."""
        built = {name for name in services if self._builds(name) is not None}
        for name, image in self.draft.request.images.items():
            at = Place(self.draft.shown(self.draft.files[0].path), 1)
            if name not in services:
                self.draft.problem(
                    at, f"there is no service {name}, which --image names: {', '.join(sorted(services))}"
                )
            elif not _IMAGE.fullmatch(image):
                self.draft.problem(at, f"--image {name}: {image!r} is not the name of an image")
        for name, node in services.items():
            if not isinstance(node.value, dict):
                continue
            image = self.draft.request.images.get(name, "")
            named = node.value.get("image")
            if image and _IMAGE.fullmatch(image):
                self._name(name, image)
            elif named is None and "build" in node.value:
                self._ask(name)
                self._name(name, PLACEHOLDER)
            elif named is not None and name in built:
                self._push(name, str(named.value))
        for file in self.draft.files:
            for name, service in file.services.items():
                for spot in service.merged():
                    self._remove(file, name, spot)

    def _builds(self, name: str) -> tuple[ComposeFile, Pair] | None:
        """Where a service says how it is built."""
        for file in self.draft.files:
            service = file.services.get(name)
            for spot in service.merged() if service else ():
                if pair := spot.pair("build"):
                    return file, pair
        return None

    def _ask(self, name: str) -> None:
        found = self._builds(name)
        file, spot = self._service(name)
        at = self.draft.place(file, spot, f"services.{name}")
        hint = ""
        if found:
            at = self.draft.place(found[0], found[1].key, f"services.{name}.build")
            hint = f"so far it is built {self._from(*found)}"
        self.draft.questions.append(Question("image", name, (at,), hint))

    def _service(self, name: str) -> tuple[ComposeFile, Spot]:
        return next((file, file.services[name]) for file in self.draft.files if name in file.services)

    def _name(self, name: str, image: str) -> None:
        """Write the image into the service, in the place of `build` where that is possible."""
        file, service = self._service(name)
        document, spot = file.document, service.real
        at = self.draft.place(file, spot, f"services.{name}")
        own = spot.pair("image")
        if own:
            document.write(own.value, image)
            self.draft.change(self.draft.place(file, own.key, at.key), f"image: {image}", "as --image says")
            return
        pair = spot.pair("build") or next(reversed(spot.pairs or []), None)
        if pair is None or (service.target and sum(it.real is spot for it in file.services.values()) > 1):
            self.draft.problem(
                at, "shares all of its keys with another service: write it out, with an `image` of its own"
            )
            return
        if pair.key.value == "build" and not document.is_shared(pair.value):
            document.replace_pair(pair, "image", image)
            self._replaced.add(id(pair.value))
        else:
            document.add_pair(spot, pair, "image", image)
        if image != PLACEHOLDER:
            found = self._builds(name)
            line = self.draft.place(found[0], found[1].key, f"services.{name}") if found else at
            command = f"; so far it was built {self._from(*found)}" if found else ""
            self.draft.change(line, f"image: {image}", f"{WHY}{command}")
            if found:
                self._command(line, name, image, found[0], found[1].value)

    def _remove(self, file: ComposeFile, name: str, spot: Spot) -> None:
        pair = spot.pair("build")
        if pair and id(pair.value) in self._replaced:
            return
        if pair and len(spot.pairs or ()) > 1 and not file.document.is_shared(pair.value):
            file.document.remove_pair(spot, pair)
            at = self.draft.place(file, pair.key, f"services.{name}.build")
            self.draft.change(at, "removed", "its sources stay where they are: no server builds an image")

    def _push(self, name: str, image: str) -> None:
        found = self._builds(name)
        if found:
            at = self.draft.place(found[0], found[1].key, f"services.{name}.build")
            self._command(at, name, image, found[0], found[1].value)

    def _command(self, at: Place, name: str, image: str, file: ComposeFile, build: Spot) -> None:
        words = ["docker", "build", "--tag", image]
        context = self._context(file, build)
        real = build.real
        for key, option in (("dockerfile", "--file"), ("target", "--target")):
            spot = real.get(key) if real.pairs is not None else None
            if spot is not None and spot.real.scalar and spot.real.value:
                value = spot.real.value
                words += [option, f"{context}/{value}" if key == "dockerfile" and not value.startswith("/") else value]
        command = f"{shlex.join([*words, context])} && docker push {shlex.quote(image)}"
        self.draft.note(at, f"{name} runs {image}, which has to be in a registry", command)

    def _context(self, file: ComposeFile, build: Spot) -> str:
        """The folder or address that an image is built from, without the login that an address may have."""
        spot = build.real.get("context") if build.real.pairs is not None else build.real
        if spot is None or not spot.real.scalar:
            return self.draft.root
        written = spot.real.value
        for start, end in literals(written):
            self.draft.withheld.add(written[start:end], "build")
        return without_login(written) if "://" in written else self.loader.path(file, written) or written

    def _from(self, file: ComposeFile, pair: Pair) -> str:
        shown = self.draft.shown(self._context(file, pair.value))
        return f"from {shown if shown != '.' else 'the folder of the project'}"
