"""The text of a unit, and the header of such a text.  Pure.

A unit starts, follows and stops the container of its name; it neither makes nor removes it.  Who follows it:

    systemd   the start hands the container's shim to systemd as the main process, and no process of ours is left.
              A new container runs already by then, as the daemon starts it by the engine's API.
              The shim, a child of PID 1, ends with the container; ExecStopPost then asks the engine for the exit code.
              The engine writes the output into the journal.
    client    `docker start --attach` runs as long as the container and ends with its exit code.  For jobs, and for
              containers whose logging driver is another one: what they print reaches the journal by the client.

A killed client, a restarted engine that keeps its containers (`live-restore`), a restart of containerd: the container
goes on, and is followed again.

The first line of the text is the SHA-256 of all the lines below it, the second says whose it is.  So tampering is seen
by reading the file alone, and a newer daemon that would write other lines leaves a unit of the same service as it is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from gitops_mvd.core.compose import LOG_DRIVER, log_config
from gitops_mvd.core.model import Json, Service
from gitops_mvd.systemd.programs import MISSING

TARGET = "multi-user.target"
SLICE = "mvd.slice"
EDITED = "edited"
NOTICE = "# Written by gitops-mvd and kept as it is: change the service in Git instead."
SYSTEMD, CLIENT = "systemd", "client"  # who follows a container
JOURNAL_FIELD = "IO_GITOPS_MVD_"  # begins the fields that the engine makes of the labels of a container
ENDED_FOLDER = "/run/mvd"  # a file for each container that may end and has ended by itself, since the boot
STARTED_FOLDER = "/run/gitops-mvd/started"  # a file for each container that was started ahead of its unit, by its id
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task/moby"  # containerd's folders of what runs, by its id
MISSING_EXIT_CODE = 78  # of `_FIND`: systemd does not try again, as only the daemon can make the container

_SEAL = "# gitops-mvd sha256:"
# Control characters, and those code points that Unicode keeps free for ever: systemd drops a line that has one.
_UNCLEAN = re.compile(
    "[\x01-\x1f\x7f\ufdd0-\ufdef"
    + "".join(chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_CONTAINER = re.compile(r"^[^#].*' \S+ [0-9a-f]+ ([0-9a-f]{64})$", re.MULTILINE)  # the id, after name and digest
_ENGINE = re.compile(r'^Environment="?DOCKER_HOST=([^"\n]+)', re.MULTILINE)
_BARE = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a managed unit; `digest` is "edited" if its text is not what was written.

    `port` is the host port of the routed service, or 0.  `restart` is the Compose policy, `grace` the seconds that its
    container is given to stop.  A `scheduled` one is started by its timer, and by nobody else.  `follows` is who
    follows the container, "" in a unit that an older version wrote: that one makes its container at each start.
    """

    app: str
    service: str
    digest: str
    port: int
    restart: str
    grace: float
    scheduled: bool = False
    follows: str = ""

    @property
    def at_boot(self) -> bool:
        """Does it come back when the server does?  As with Docker, all do but those that say `restart: "no"`."""
        return self.restart != "no"

    def to_json(self) -> Json:
        """As JSON; `scheduled` only if it is true, as older versions of mvd know no such field."""
        return {name: value for name, value in asdict(self).items() if name not in ("scheduled", "follows") or value}


class ParsedHeader(NamedTuple):
    """The header of a sealed text, and whether the text is just as it was written."""

    header: Json
    intact: bool


def render(
    app: str,
    service: Service,
    name: str,
    port: int,
    *,
    follows: str,
    docker: str,
    engine: str,
    container: str = "",
    revision: str = "",
    like: Iterable[Sequence[str]] = (),
    rejoins: Iterable[Sequence[str]] = (),
) -> str:
    """The unit of one instance, named `name`, whose container is there.

    `port` is the host port of a routed service, or 0; `follows` is SYSTEMD or CLIENT; `container` the id of the
    container, "" if it is looked for at each start; `docker` the absolute path of the client, `engine` the socket that
    it speaks to.  `like` are the commands of the client that would make the container, for whoever reads the unit;
    `rejoins` those that attach it to networks on which it may have kept an address.  `revision` is the commit that the
    instance is of, for the lines that the client prints.  Raises ValueError for what no unit can hold.
    """
    header = Header(
        app, service.name, service.digest, port, service.restart, service.stop_grace, bool(service.schedule), follows
    )
    policy, _, tries = service.restart.partition(":")
    may_end = policy in {"no", "on-failure"}
    marks = may_end and follows == SYSTEMD
    others = " ".join(f"{one}.service" for one in joined(service))
    limit = (
        ["StartLimitIntervalSec=infinity", f"StartLimitBurst={int(tries) + 1}"]
        if tries
        else ["StartLimitIntervalSec=0"]
    )
    follower = _by_systemd(service, name, container) if follows == SYSTEMD else _by_client(app, service, name, revision)
    lines = [
        f"# {json.dumps(header.to_json(), sort_keys=True)}",
        NOTICE,
        *(f"# {' '.join(map(_shell_word, ['docker', *words]))}" for words in like),
        "[Unit]",
        f"Description={app}/{service.name} {service.digest[:8]} (gitops-mvd)",
        "Wants=docker.service",
        f"After=docker.service {others}".strip(),
        *([f"PartOf={others}"] if others else []),
        *limit,
        "",
        "[Service]",
        *(f"ExecStartPre=-:/bin/sh -c '{_REJOIN}' {quoted([name, words[-2], *words])}" for words in rejoins),
        *follower,
        *_environment(docker, engine),
        f"Slice={SLICE}",
        "UMask=0077",
        f"ExecStop=-:/bin/sh -c '{_STOPPED_BY_HAND if tries else ''}{_ENDED_BY_ITSELF if marks else ''}"
        f"{_STOP_SHIM if follows == SYSTEMD else _STOP}' {name}",
        "TimeoutStartSec=300",
        f"TimeoutStopSec={math.ceil(service.stop_grace) + 25}",
        "SuccessExitStatus=143",
        *([f"Restart={policy}"] if may_end else ["Restart=always"]),
        "RestartSec=2",
        *(["", "[Install]", f"WantedBy={TARGET}"] if header.at_boot else []),
        "",
    ]
    return sealed("\n".join(lines))


def follower_of(service: Service) -> str:
    """Who is to follow a container of the service, on an engine that writes into the journal."""
    driver, _ = log_config(service.run)
    return SYSTEMD if driver == LOG_DRIVER and service.restart != "no" else CLIENT


def _by_systemd(service: Service, name: str, container: str) -> list[str]:
    may_end = service.restart.startswith("on-failure")
    forgive = _FORGIVE if ":" in service.restart else ""
    return [
        "Type=notify",
        "NotifyAccess=main",
        f"SyslogIdentifier={name}",
        f"ExecStart=:/bin/sh -c '{_START}' {quoted([name, service.digest, container])}",
        f"ExecStopPost=:/bin/sh -c '\\\n{_UNLESS_STOPPED}{_EXIT_CODE}"
        f" {_ENGINE_STOPS if may_end else ''}{forgive}exit $code' {name}",
        *([f"ExecStartPre=/bin/rm --force {ENDED_FOLDER}/{name}"] if may_end else []),
        *(["RuntimeDirectory=mvd", "RuntimeDirectoryPreserve=yes"] if may_end else []),
        "KillMode=process",
        "SendSIGKILL=no",
        f"RestartPreventExitStatus={MISSING_EXIT_CODE}",
    ]


def _by_client(app: str, service: Service, name: str, revision: str) -> list[str]:
    remains = service.restart.partition(":")[0] in {"no", "on-failure"} and not service.schedule
    driver, _ = log_config(service.run)
    is_written_by_engine = driver == LOG_DRIVER and bool(service.run.get("logging", {}).get("driver"))
    fields = {"APP": app, "SERVICE": service.name, **({"REVISION": revision} if revision else {})}
    return [
        "Type=exec",
        f"SyslogIdentifier={app}/{service.name}",
        f"LogExtraFields={' '.join(f'{JOURNAL_FIELD}{key}={value}' for key, value in fields.items())}",
        f"LogExtraFields=CONTAINER_NAME={name}",
        f"ExecStart=:/bin/sh -c '{_FIND} \\",
        f"    {_WAIT if is_written_by_engine else _ATTACH}' {name} {service.digest}",
        *([f"ExecStopPost=-:/bin/sh -c '{_FORGIVE}' {name}"] if ":" in service.restart else []),
        *(["RemainAfterExit=yes"] if remains else []),  # a timer starts only what is inactive
    ]


def _environment(docker: str, engine: str) -> list[str]:
    """Where the commands of the unit find Docker's, if systemd does not look there, and that one its engine.

    That is always said, as a context that root has chosen may be another one.
    """
    folder = docker.rpartition("/")[0]
    path = [] if folder in SYSTEMD_PATH else [f"Environment=PATH={folder}:{':'.join(SYSTEMD_PATH)}"]
    return [*path, f"Environment={quoted([f'DOCKER_HOST={engine}'])}"]


SYSTEMD_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

# $0 is the name, $1 the digest: a container that somebody else has made under that name is never started.
_FIND = """\\
    id=$(docker ps --all --quiet --no-trunc --filter "name=^/$0$" --filter "label=io.gitops-mvd.digest=$1") || exit; \\
    [ "$id" ] || { echo "MISSING" >&2; exit 78; };""".replace("MISSING", MISSING.format("$0"))

_ATTACH = 'exec docker start --attach "$id"'
_WAIT = 'docker start "$id" >/dev/null || exit; code=$(docker wait "$id") || code=1; exit "$code"'
# Where containerd has the process of a running container; if its root is another one, the engine is asked.
_PROCESS = f"{BUNDLES}/$id/init.pid"

# What an engine that takes the container for ended knows nothing of: its shim, and what still runs below it, as after a
# containerd that was killed amid a start.  As long as it is there, the engine cannot start the container again.  What
# containerd itself has begun to clean up with, by the same program, comes to its own end.
_END_LEFT = """\\
    left() { [ "$(docker inspect --format "{{.State.Running}}" "$id")" = false ] || return; \\
        for at in /proc/[0-9]*; do read -r is <"$at/comm" && case $is in containerd-shim*) \\
        grep -qs "$id" "$at/cmdline" && ! grep -qsz "^delete$" "$at/cmdline" \\
        && kill -KILL $(cat "$at"/task/*/children) "${at#/proc/}";; esac; \\
        done; } 2>/dev/null; \\
"""


def ends_left(text: str) -> bool:
    """Does a unit end what an earlier start of its container has left?  Those of older versions do not."""
    return _END_LEFT in text


# $0 is the name, $1 the digest, $2 the id, or "".  The engine is asked to start it, if that was not just done.  If it
# refuses that, what is left of an earlier start ends, and systemd tries again.  One that is gone may have left its name
# and digest to another one.  A shim that is followed is a child of PID 1, and says itself whose it is.
_START = f"""{_END_LEFT}\
    parent() {{ while read -r key of; do [ "$key" != PPid: ] || return 0; done; return 1; }} \\
        2>/dev/null <"/proc/$1/status"; \\
    follow() {{ parent "$1" && shim=$of && parent "$shim" && [ "$of" = 1 ] && grep -qs "$id" "/proc/$shim/cmdline" \\
        && exec systemd-notify --ready "MAINPID=$shim"; }}; \\
    running() {{ pid=; read -r pid 2>/dev/null <"{_PROCESS}"; [ "$pid" ] && follow "$pid"; }}; \\
    id=$2; [ "$id" ] && rm "{STARTED_FOLDER}/$id" 2>/dev/null && running; \\
    [ "$id" ] && docker start "$id" >/dev/null || {{ {_FIND} \\
    [ "$id" != "$2" ] && docker start "$id" >/dev/null || {{ left; exit 1; }}; }}; \\
    running; follow "$(docker inspect --format "{{{{.State.Pid}}}}" "$id")"; \\
    systemd-notify --ready; exec docker wait "$id" >/dev/null"""

# $0 is the name, $1 a network, and what follows the command that attaches the container to it anew.
_REJOIN = """\\
    shown="{{.State.Running}}{{range .NetworkSettings.Networks}}{{with .IPAMConfig}} {{.IPv4Address}}{{end}}{{end}}"; \\
    case $(docker inspect --format "$shown" "$0") in "false "?*) ;; *) exit 0;; esac; \\
    docker network disconnect --force "$1" "$0" >/dev/null; shift; exec docker "$@" """

# Its state may lag behind the end of its shim, so the end is waited for.
_EXIT_CODE = """    code=$(timeout 10 docker wait "$0" 2>/dev/null || echo 1);"""

# One that is stopped, and not by itself, has ended once `docker stop` has, with whatever that is.
_UNLESS_STOPPED = """    [ -z "$(systemctl show --property=Job --value "$0.service")" ] || exit 0; \\
"""

# After 10 seconds of running, the tries of `on-failure:n` count anew, as Docker has it.  `%%` is a unit's `%`.
_FORGIVE = """\\
    set -- $(timeout 10 docker inspect --format "{{.State.StartedAt}} {{.State.FinishedAt}}" "$0"); \\
    [ $(($(date -d "$2" +%%s) - $(date -d "$1" +%%s))) -lt 10 ] || systemctl reset-failed "$0.service"; """


# ExecStop: without a main process, the container has ended by itself.
_STOPPED_BY_HAND = '[ -z "$MAINPID" ] || systemctl reset-failed "$0.service"; '
_ENDED_BY_ITSELF = f'[ "$MAINPID" ] || touch "{ENDED_FOLDER}/$0"; '

# An engine that has lost its containers knows nothing of those that still run: the children of their shims end here.
_STOP = 'docker stop "$0" >/dev/null'
_STOP_SHIM = f'[ "$MAINPID" ] && {_STOP} && kill -KILL $(cat "/proc/$MAINPID"/task/*/children 2>/dev/null) 2>/dev/null'

# An engine that stops takes its containers along, whatever they end with.
_ENGINE_STOPS = '[ "$(systemctl is-active docker.service)" != deactivating ] || code=1; '


def joined(service: Service) -> list[str]:
    """The managed containers whose namespaces a container of the service shares."""
    shared = [service.run.get("network_mode", ""), service.run.get("ipc", ""), service.run.get("pid", "")]
    named = (one.removeprefix("container:") for one in shared if one.startswith("container:mvd-"))
    return list(dict.fromkeys(named))


def _shell_word(word: str) -> str:
    """A word as a shell reads it, on one line."""
    if not _UNCLEAN.search(word):
        return shlex.quote(word)
    escaped = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _UNCLEAN.sub(_in_bytes, escaped) + "'"


def parse(text: str) -> Header | None:
    """The header of a text; None if it is not that of a managed unit, or cannot be read any more."""
    parsed = unsealed(text)
    if parsed is None:
        return None
    try:
        header = Header(**parsed.header)
    except TypeError:
        return None
    return header if parsed.intact else replace(header, digest=EDITED)


def container_in(text: str) -> str:
    """The id of the container that a unit starts; "" if it looks for it by its name and digest alone."""
    found = _CONTAINER.search(text)
    return found[1] if found else ""


def engine_in(text: str) -> str:
    """The socket that the commands of a unit speak to; "" if an older version wrote it, which left that open."""
    found = _ENGINE.search(text)
    return found[1] if found else ""


def sealed(rest: str) -> str:
    """The lines with their SHA-256 in front."""
    return f"{_SEAL}{hashlib.sha256(rest.encode('utf-8', 'surrogateescape')).hexdigest()}\n{rest}"


def unsealed(text: str) -> ParsedHeader | None:
    """The header in the second line of a sealed text; None if it has no seal or no header."""
    first, _, rest = text.partition("\n")
    if not first.startswith(_SEAL):
        return None
    try:
        header = json.loads(rest.partition("\n")[0].removeprefix("# "))
    except ValueError:
        return None
    return ParsedHeader(header, sealed(rest) == text) if isinstance(header, dict) else None


def quoted(words: Iterable[str]) -> str:
    """A command line of which systemd makes exactly these words, given the prefix `:` that leaves `$` alone."""
    return " ".join(word if _BARE.fullmatch(word) else f'"{_escaped(word)}"' for word in words)


def _escaped(word: str) -> str:
    word.encode()  # UnicodeEncodeError is a ValueError
    if "\0" in word:
        raise ValueError(f"no command line can hold {word!r}")
    word = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n").replace("\t", "\\t")
    return _UNCLEAN.sub(_in_bytes, word)


def _in_bytes(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())
