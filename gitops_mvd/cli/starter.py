"""The config repository that `mvd init` writes: its files, by their paths, and what to do with them.  Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from gitops_mvd import forges
from gitops_mvd.cli.output import in_a_line

NONE, PRESENT, AS_APP = "none", "present", "app"
KONG = (NONE, PRESENT, AS_APP)
NO_FORGE = "none"
FORGES = (*forges.kinds(), NO_FORGE)
PUBLISHED = 8080  # the port of the server by which the first app is reached without Kong
SCHEMAS = ("compose", "fleet", "kong")
RENOVATE = {"$schema": "https://docs.renovatebot.com/renovate-schema.json", "extends": ["config:recommended"]}
FLEET = """\
# yaml-language-server: $schema=.schemas/fleet.json
# Every server, under the name that `host` in its /etc/gitops-mvd/config.yaml says.
hosts:
"""
APP = """\
# yaml-language-server: $schema=../../.schemas/compose.json
services:
  web:
    image: {image}
{way}    x-mvd:
      health: {health} # healthy once this answers
"""
BY_PORT = '    ports: ["{published}:{port}"]\n'
BY_KONG = """\
    x-kong:
      port: {port}
      routes: [{{paths: [/{app}]}}] # in Kong's own words
"""
KONG_APP = """\
# yaml-language-server: $schema=../../.schemas/compose.json
# The gateway is an app like any other. Its routes come from the x-kong of the other apps and from kong/*.yaml.
services:
  kong:
    image: kong:3.9
    network_mode: host                   # the services that it leads to listen on 127.0.0.1
    user: root                           # only to own the volume below; the workers run as `kong`
    environment:
      KONG_DATABASE: "off"
      KONG_PROXY_LISTEN: 0.0.0.0:8000, 0.0.0.0:8443 ssl
      KONG_ADMIN_LISTEN: 127.0.0.1:8001
      KONG_STATUS_LISTEN: 127.0.0.1:8100
    volumes: [routes:/usr/local/kong/dbless.lmdb]      # after a reboot it serves at once, whoever else is up
    ulimits: {nofile: 65536}
    stop_signal: SIGQUIT                 # let the requests in flight end
    stop_grace_period: 30s
    deploy:
      update_config: {order: stop-first}        # a port has one owner
      resources: {limits: {memory: 1G}}
    x-mvd:
      health: {http: /status, port: 8100}

volumes:
  routes:
"""
REQUIREMENTS = """\
# What checks this repository, in its CI and on your machine: pip install -r requirements.txt
gitops-mvd @ {package}
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a new config repository is for; `package` is where pip gets gitops-mvd, "" if nobody needs to know."""

    forge: str
    package: str
    hosts: tuple[str, ...]
    app: str
    image: str
    port: int
    health: str
    kong: str


def files(answers: Answers) -> Mapping[str, str]:
    """Each file of the repository."""
    way = "" if answers.kong != NONE else BY_PORT.format(published=PUBLISHED, port=answers.port)
    health = in_a_line({"http": answers.health, "port": answers.port})
    app = APP.format(image=in_a_line(answers.image), way=way, health=health)
    if answers.kong != NONE:
        app += BY_KONG.format(port=answers.port, app=answers.app)
    made = {
        "fleet.yaml": FLEET + "".join(f"  {in_a_line(host)}: {{}}\n" for host in answers.hosts),
        f"apps/{answers.app}/compose.yaml": app,
        "renovate.json": json.dumps(RENOVATE, indent=2) + "\n",
    }
    if answers.kong == AS_APP:
        made["apps/kong/compose.yaml"] = KONG_APP
    for name in SCHEMAS:
        made[f".schemas/{name}.json"] = (resources.files("gitops_mvd.schemas") / f"{name}.json").read_text("utf-8")
    if pipeline := pipeline_of(answers.forge):
        made[pipeline.path] = pipeline.text
    if answers.package:
        made["requirements.txt"] = REQUIREMENTS.format(package=answers.package)
    return made


def pipeline_of(forge: str) -> forges.Pipeline | None:
    """The CI of a forge, None if it has none of its own."""
    return forges.known()[forge].pipelines.get(forge) if forge != NO_FORGE else None


def next_steps(answers: Answers, folder: str, repository: str) -> Iterator[str]:
    """What to type now; `repository` is the address that the folder is pushed to, "" if that is unknown."""
    host = answers.hosts[0]
    words = ["mvd", "install", "--repository", repository or "URL", "--host", host]
    if answers.forge != NO_FORGE:
        words += ["--token-file", "/etc/gitops-mvd/token"]
        if repository.startswith("http://"):
            words += ["--insecure"]
        if forges.likely(repository) != answers.forge:
            words += ["--forge", answers.forge]
    if answers.kong != NONE:
        words += ["--kong"]
    at = f":8000/{answers.app}" if answers.kong != NONE else f":{PUBLISHED}{answers.health}"
    push = f"git -C {shlex.quote(folder)} push" if repository else "push it to your forge"
    yield f"Commit it and {push}."
    yield f"On {host}: apt-get install --yes docker.io git, and gitops-mvd as its README says."
    if answers.forge != NO_FORGE:
        yield "  a token that may read the repository and write commit statuses, in a file that root alone may read:"
        yield "  install -D -m 600 /dev/stdin /etc/gitops-mvd/token"
    yield f"  {shlex.join(words)}"
    yield f"Then: mvd status, and curl http://{host}{at}"
    if answers.forge == NO_FORGE:
        yield "No CI was written: with --forge, each pull request is checked by `mvd validate`."
    elif not pipeline_of(answers.forge):
        yield f"{answers.forge} has no CI of its own: let yours run `mvd validate` for each pull request."
