"""No value breaks out of its place: through a real systemd and a real Docker, and read back inside the container."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.model import App, Change, File, Service
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds import Tools
from gitops_mvd.kinds.config import Configs
from gitops_mvd.kinds.container import Containers
from gitops_mvd.kinds.network import Networks
from gitops_mvd.kinds.unit import Units
from gitops_mvd.systemd.client import Systemd

pytestmark = pytest.mark.server

# What means something to systemd, to a shell, to an env file, to encoding/csv, to Go's templates or to a terminal.
SPECIAL = "%$\"'\\`;:,=#&|<>(){}[]*?!~^@+- \t\n\r\b\f\v\x01\x1b\x7f\x85\xa0\u2028\u2029\ufeff\ufdd0\uffffé日🚀"
TALES = [
    *("", " ", "-", "--", "-e", "--rm", "--name=x", "--privileged", "#", ";", "\\", "\\\\", "\\n", '"', "'", "''"),
    *("%", "%%", "%n", "%h", "%i", "%%%", "$", "$$", "$HOME", "${HOME}", "$(id)", "`id`", "; id", "&& id", "|| id"),
    *("a\nExecStart=/bin/false", "\n[Service]\nUser=nobody\n", "a\\\nb", "\\x41", "\\101", "\\u0041", "a\rb", "\r\n"),
    *(
        "a,b",
        'a,"b"',
        '"a',
        "a=b",
        "=",
        "=a",
        "  a  ",
        "\ta\t",
        "{{.}}",
        "{{",
        "~",
        "*",
        "../..",
        "/",
        "null",
        "\x1b[2J",
    ),
]

characters = st.one_of(
    st.sampled_from(SPECIAL), st.characters(exclude_categories=["Cs"], exclude_characters="\0"), st.sampled_from("abc")
)
strings = st.lists(characters, max_size=30).map("".join)  # st.text() would weigh all of Unicode alike
texts = st.one_of(st.sampled_from(TALES), strings)
names = strings.map(lambda text: text.replace("/", "")).filter(lambda name: name.strip(". "))

REPORT = """
printf '%s\\0' "$@" > /out/arguments
cat /proc/1/environ > /out/environment
cat /single > /out/single
cat "$1" > /out/named
echo > /out/done
exec sleep 1000
"""


@dataclass(frozen=True)
class Server:
    """Where a service of hostile values runs."""

    tools: Tools
    image: str

    def run(self, service: Service) -> None:
        self._apply(service, makes=True)

    def remove(self, service: Service) -> None:
        self._apply(service, makes=False)

    def _apply(self, service: Service, *, makes: bool) -> None:
        app = App("hostile", (service,))
        networks = Networks(self.tools.engine)
        kinds = [Configs(self.tools.files, self.tools.secrets), networks, Containers(self.tools), Units(self.tools)]
        for kind in kinds if makes else reversed(kinds):
            kind.apply([Change(None, r) if makes else Change(r, None) for r in kind.wanted(app)])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    engine = Engine()
    tools = Tools("hostile", engine, Systemd(), None, Interruptible(), files=Path("/etc/gitops-mvd/hostile"))
    image = engine.pin(Service("web", os.environ["MVD_IMAGE"])).image
    engine.pull(image)
    yield Server(tools, image)
    engine.close()


def said(folder: Path, within: float = 20) -> dict[str, bytes]:
    """What the container wrote of itself."""
    deadline = time.monotonic() + within
    while not (folder / "done").exists():
        assert time.monotonic() < deadline, "the container did not say what it was given"
        time.sleep(0.02)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=10, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    words=st.lists(texts, min_size=20, max_size=60),
    environment=st.lists(texts, max_size=60),
    labels=st.lists(texts, max_size=30),
    content=texts,
    folder=names,
    name=names,
)
@example(words=TALES, environment=TALES, labels=TALES, content="".join(TALES), folder='a, "b\n%n', name="$c\\")
def test_every_value_arrives_as_it_was_written(
    server: Server,
    tmp_path: Path,
    words: list[str],
    environment: list[str],
    labels: list[str],
    content: str,
    folder: str,
    name: str,
) -> None:
    out = tmp_path / folder
    out.mkdir(exist_ok=True)
    for left in out.iterdir():
        left.unlink()
    path = f"/mnt/{folder}/{name}"
    service = Service(
        "web",
        server.image,
        run={
            "entrypoint": ["sh", "-c", REPORT, "sh", path],
            "command": words,
            "labels": {f"test.{n}": value for n, value in enumerate(labels)},
            "volumes": [{"type": "bind", "source": str(out), "target": "/out", "read_only": False}],
            "stop_grace_period": 1.0,
        },
        environment={f"V{n}": value for n, value in enumerate(environment)},
        files=(File("/single", {"": content}), File(f"/mnt/{folder}", {name: content})),
    )
    server.run(service)
    try:
        found = said(out)
        [there] = [container for container in server.tools.engine.containers() if "hostile" in container["Names"][0]]
    finally:
        server.remove(service)
    assert found["arguments"].decode().split("\0")[1:-1] == words
    variables = dict(line.split("=", 1) for line in found["environment"].decode().split("\0")[:-1])
    assert {
        key: value for key, value in variables.items() if key.startswith("V") and key[1:].isdigit()
    } == service.environment
    assert found["single"].decode() == found["named"].decode() == content
    assert {key: value for key, value in there["Labels"].items() if key.startswith("test.")} == service.run["labels"]


def test_nothing_of_it_is_left(server: Server) -> None:
    units = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "mvd-hostile-*"], capture_output=True, text=True
    )
    assert units.stdout == ""
    assert list(server.tools.files.iterdir()) == []
