"""An image registry for the lab: Debian's `docker-registry`, in a container of the server image.

The servers know it by its name on the lab's network, without TLS.  Images are written straight into it over its HTTP
API, so it takes no engine to make one.
"""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from tests.lab import service
from tests.lab.engine import Engine, LabUnavailable
from tests.lab.service import Service

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
SECONDS = 10.0

SETTINGS = {
    "version": "0.1",
    "log": {"level": "warn"},
    "storage": {"filesystem": {"rootdirectory": "/var/lib/docker-registry"}, "delete": {"enabled": True}},
    "http": {"addr": ":5000"},
}
LOGIN_SETTINGS = {"auth": {"htpasswd": {"realm": "lab", "path": "/etc/docker/registry/htpasswd"}}}
SERVE = """
printenv SETTINGS > /etc/docker/registry/config.yml
if [ -n "$LOGIN" ]; then printenv PASSWORD | htpasswd -ciB /etc/docker/registry/htpasswd "$LOGIN"; fi
exec docker-registry serve /etc/docker/registry/config.yml
"""


class Registry:
    """A registry.  `address` is its host and port as the servers know it, `url` is for those on this machine.

    With a `login` (user, password) it answers nobody else.
    """

    def __init__(self, engine: Engine, lab: str, address: str, login: tuple[str, str] | None = None) -> None:
        self.address = address
        self.login = login
        self.container = f"{lab}-{address.partition(':')[0]}"
        self._engine = engine
        self._network = lab
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between us and our own machine
        self._session.auth = login

    def create(self, image: str, *options: str) -> None:
        """Start it and wait until it answers.  `options` go to `docker run`."""
        host = self.address.partition(":")[0]
        names = ("--name", self.container, "--hostname", host, "--network", self._network, "--network-alias", host)
        settings = {**SETTINGS, **(LOGIN_SETTINGS if self.login else {})}
        user, password = self.login or ("", "")
        env = (f"--env=SETTINGS={json.dumps(settings)}", f"--env=LOGIN={user}", f"--env=PASSWORD={password}")
        rest = ("--publish", "127.0.0.1::5000", *env, *options, image, "sh", "-euc", SERVE)
        self._engine.docker("run", "--detach", *names, *rest)
        self._wait_until_it_answers()

    @functools.cached_property
    def url(self) -> str:
        """Such as `http://127.0.0.1:32768`; Docker here may push to that address without TLS."""
        return f"http://{self._engine.docker('port', self.container, '5000/tcp').out.split()[0]}"

    def push(self, repository: str, tag: str, image: Service) -> str:
        """Write an image, and return its name as a server pulls it: `registry.lab:5000/REPOSITORY:TAG`."""
        layers = [self._bare_layer if image.is_bare else self._root_layer, service.own_layer(image)]
        packed = [service.compressed(layer) for layer in layers]
        environment = {"PATH": "/bin", **image.environment}
        config = {
            "architecture": self._engine.architecture(),
            "os": "linux",
            "config": {
                "Cmd": list(image.command),
                "Env": [f"{key}={value}" for key, value in environment.items()],
                "Volumes": {path: {} for path in image.volumes},
            },
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer) for layer in layers]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._upload(repository, CONFIG, json.dumps(config).encode()),
            "layers": [self._upload(repository, LAYER, layer) for layer in packed],
        }
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", json.dumps(manifest).encode(), MANIFEST)
        return f"{self.address}/{repository}:{tag}"

    def digest(self, repository: str, tag: str) -> str:
        """What the tag stands for now, `sha256:...`."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{tag}", accept=MANIFEST)
        return answer.headers["Docker-Content-Digest"]

    def stop(self) -> None:
        """Stop the registry; its images are there again after `start`."""
        self._engine.docker("stop", "--time", "1", self.container)

    def start(self) -> None:
        """Start it again, and wait until it answers."""
        self._engine.docker("start", self.container)
        vars(self).pop("url", None)  # Docker has published it on another port
        self._wait_until_it_answers()

    def close(self) -> None:
        """Close the connection; the lab removes the container."""
        self._session.close()

    @functools.cached_property
    def _busybox(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "busybox"
            self._engine.docker("cp", "--follow-link", f"{self.container}:/bin/busybox", str(path))
            return path.read_bytes()

    @functools.cached_property
    def _root_layer(self) -> bytes:
        return service.root_layer(self._busybox)

    @functools.cached_property
    def _bare_layer(self) -> bytes:
        return service.bare_layer(self._busybox)

    def _upload(self, repository: str, media_type: str, blob: bytes) -> dict[str, Any]:
        digest = _digest(blob)
        known = self._session.head(f"{self.url}/v2/{repository}/blobs/{digest}", timeout=SECONDS)
        if known.status_code != 200:
            place = self._ask("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
            upload = self._session.put(place, params={"digest": digest}, data=blob, timeout=SECONDS)
            upload.raise_for_status()
        return {"mediaType": media_type, "size": len(blob), "digest": digest}

    def _ask(
        self, method: str, path: str, body: bytes = b"", media_type: str = "", accept: str = "*/*"
    ) -> requests.Response:
        headers = {"Accept": accept, **({"Content-Type": media_type} if media_type else {})}
        answer = self._session.request(method, f"{self.url}{path}", data=body, headers=headers, timeout=SECONDS)
        answer.raise_for_status()
        return answer

    def _wait_until_it_answers(self, within: float = 20) -> None:
        deadline = time.monotonic() + within
        while True:
            try:
                self._ask("GET", "/v2/")
                return
            except requests.RequestException as error:
                if time.monotonic() > deadline:
                    raise LabUnavailable(f"the registry {self.address} does not answer: {error}") from error
            time.sleep(0.1)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
