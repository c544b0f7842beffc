"""The guide is followed letter by letter on one server, page after page; in the end, all is well there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml

from gitops_mvd.cli import manual
from tests.integration.newcomer import FORGE, Newcomer, newcomers_server
from tests.lab.lab import Lab
from tests.lab.service import Service, crashing, sick, web
from tests.pages import COMPUTER, GUIDE, README, SERVER, Block, blocks

WELCOME = "Welcome to nginx!"
UNTIL_TOLD = "trap 'exit 0' TERM; sleep 86400 & wait $!"
HUB = {
    "nginx:1.28-alpine": web("nginx", "1.28", port=80, pages={"/": f"{WELCOME}\n"}),
    "busybox:1.37": Service(("sh",)),
    "redis:7.4-alpine": web("redis", "7.4", port=6379),
    "kong:3.9": web("kong", "3.9", port=8100, pages={"/status": "{}\n"}),  # beside the gateway of the lab
    "postgres:17.6": Service(
        ("sh", "-c", f"echo 17 > /var/lib/postgresql/data/PG_VERSION; {UNTIL_TOLD}"),
        {
            "/bin/pg_isready": "#!/bin/sh\nexit 0\n",
            "/bin/pg_dump": "#!/bin/sh\necho -- PostgreSQL database dump\n",
            "/var/lib/postgresql/data/.keep": "",
        },
    ),
}
# Those without commands are about servers of which there is none here: `tests/unit/test_guide.py` reads their files.
STEPS = {page.name: blocks(GUIDE.parent / page.path) for page in manual.pages().values() if "guide/" in page.path}
FOLLOWED = [name for name, steps in STEPS.items() if any(block.is_commands for block in steps)]
PRINTED = {  # what a page says that one sees
    "first-app": ["up to 70 s down (fixed port 8080)"],
    "compose": ["notes.ADMIN_PASSWORD", "200 OK"],
    "kong": [WELCOME, "start-first", "401\n"],
    "upgrading": ["No changes"],
}
LAST = "upgrading"  # it ends with a server without a daemon

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def newcomer(lab: Lab) -> Iterator[Newcomer]:
    """Where the README ends: the daemon is installed, and has deployed `hello`."""
    with newcomers_server(lab, "web-1", HUB) as newcomer:
        newcomer.forge.create("acme/config")
        newcomer.server.install(lab.wheel)
        newcomer.server.start_gateway()
        newcomer.server.put("/etc/gitops-mvd/token", f"{newcomer.forge.token}\n", 0o600)
        newcomer.server.exec("git", "clone", "--quiet", f"https://{FORGE}/acme/gitops-mvd", "/root/gitops-mvd")
        for block in blocks(README):
            if "pip install" not in block.text:
                newcomer.follow(block)
            if "curl" in block.text:
                break
        yield newcomer


BROKEN = {
    "crashes": ("exited with code …", {"image": "registry.lab:5000/crashing:1"}),
    "sick": ("http 500 from …", {"x-mvd": {"health": {"http": "/", "port": 7799, "within": "2s"}}}),
    "deaf": (
        "http … refuses the connection on port …",
        {"x-mvd": {"health": {"http": "/", "port": 1, "within": "2s"}}},
    ),
    "absent": ("there is no such image", {"image": "registry.lab:5000/nothing:1"}),
    "misspelt": ("compose.yaml:…", {"imag": "busybox"}),
    "secretive": ("the secret … is missing on this host", {"environment": {"KEY": "{file://nobody}"}}),
    "clashing": ("waiting: … the port … of this host is used by …", {"ports": ["22222:80"]}),
}


def test_what_a_server_says_of_a_broken_app_stands_on_the_page_about_red(lab: Lab, newcomer: Newcomer) -> None:
    lab.registry.push("crashing", "1", crashing("crashing", "1"))
    image = lab.registry.push("sick", "1", sick("sick", "1"))
    apps = {name: {"services": {"web": {"image": image, **service}}} for name, (_, service) in BROKEN.items()}
    newcomer.server.exec("systemd-run", "--unit=squatter", "python3", "-m", "http.server", "22222")
    for name, compose in apps.items():
        newcomer.follow(Block(f"apps/{name}/compose.yaml", yaml.safe_dump(compose)))
    newcomer.follow(Block(SERVER, "mvd sync || true"))
    said = whys(newcomer)
    page = (GUIDE / "red.md").read_text()
    for name, (words, _) in BROKEN.items():
        assert f"`{words}`" in page
        assert re.search(".*".join(map(re.escape, words.split("…"))), said[name]), (name, words, said[name])
    newcomer.server.exec("systemctl", "stop", "squatter")
    newcomer.follow(Block(COMPUTER, "git revert --no-edit HEAD; git push origin HEAD:main"))
    newcomer.follow(Block(SERVER, "mvd sync"))


def whys(newcomer: Newcomer) -> dict[str, str]:
    """What `mvd status` shows of each app in its column WHY."""
    shown = newcomer.server.exec("mvd", "status", check=False).out
    return {line.split()[0]: line for line in shown.splitlines() if line.split()}


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(newcomer: Newcomer, page: str) -> None:
    printed = ""
    for block in STEPS[page]:
        newcomer.follow(block)
        printed += newcomer.said if block.is_commands else ""
    assert [words for words in PRINTED.get(page, ()) if words not in printed] == []
    if page == LAST:
        assert newcomer.server.exec("systemctl", "is-active", "gitops-mvd", check=False).out.strip() == "inactive"
        containers = newcomer.server.exec("docker", "ps", "--all", "--format", "{{.Names}}").out.split()
        assert [name for name in containers if name.startswith("mvd-")] == []
        assert "shop_data" in newcomer.server.exec("docker", "volume", "ls", "--quiet").out.split()
    else:
        newcomer.server.exec("mvd", "sync", timeout=120)
