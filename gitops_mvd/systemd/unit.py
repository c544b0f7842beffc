"""The text of a unit, and the header of such a text.  Pure.

The shape is create-or-adopt: `docker create` may fail if the container still exists, and `docker start --attach`
then follows that one, so a killed client or a restarted engine costs no request.  ExecStopPost, which runs after such a
death too, removes a stopped container and never a running one: it has no `--force`.  ExecStop, which does not, has it:
a unit that is stopped while its client is about to start the container would otherwise wait for it in vain.

The first line of the text is the SHA-256 of all the lines below it, the second says whose it is.  So tampering is seen
by reading the file alone, and a newer daemon that would write other lines leaves a unit of the same service as it is.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from gitops_mvd.core.model import Json, Service

TARGET = "multi-user.target"
SLICE = "mvd.slice"
EDITED = "edited"
NOTICE = "# Written by gitops-mvd and kept as it is: change the service in Git instead."

_SEAL = "# gitops-mvd sha256:"
# Control characters, and those code points that Unicode keeps free for ever: systemd drops a line that has one.
_UNCLEAN = re.compile(
    "[\x01-\x1f\x7f\ufdd0-\ufdef"
    + "".join(chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF))
    + "]"
)
_BARE = re.compile(r"[A-Za-z0-9_@+=:,./-]+")


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a managed unit; `digest` is "edited" if its text is not what was written.

    `port` is the host port of the routed service, or 0.  `restart` is the Compose policy, `grace` the seconds that its
    container is given to stop.  A `scheduled` one is started by its timer, and by nobody else.
    """

    app: str
    service: str
    digest: str
    port: int
    restart: str
    grace: float
    scheduled: bool = False

    @property
    def at_boot(self) -> bool:
        """Does it come back when the server does?  As with Docker, all do but those that say `restart: "no"`."""
        return self.restart != "no"

    def to_json(self) -> Json:
        """As JSON; `scheduled` only if it is true, as older versions of mvd know no such field."""
        return {name: value for name, value in asdict(self).items() if name != "scheduled" or value}


class ParsedHeader(NamedTuple):
    """The header of a sealed text, and whether the text is just as it was written."""

    header: Json
    intact: bool


def render(
    app: str,
    service: Service,
    name: str,
    creates: Iterable[Sequence[str]],
    port: int,
    *,
    docker: str = "/usr/bin/docker",
) -> str:
    """The unit of one instance, named `name`, whose container the commands `creates` of the docker client make.

    `port` is the host port of a routed service, or 0; `docker` the absolute path of the client.  Raises ValueError for
    a text that no unit can hold.
    """
    scheduled = bool(service.schedule)
    restart = "no" if scheduled else service.run.get("restart", "always")
    grace = service.stop_grace
    header = Header(app, service.name, service.digest, port, restart, grace, scheduled)

    def client(*words: str) -> str:
        return quoted([docker, *words])

    remove = client("rm", "--volumes", name)
    policy, _, tries = restart.partition(":")
    limit = (
        ["StartLimitIntervalSec=infinity", f"StartLimitBurst={int(tries) + 1}"]
        if tries
        else ["StartLimitIntervalSec=0"]
    )
    job = policy in {"no", "on-failure"}  # it may end; what is left of it tells how, until it is started anew
    lines = [
        f"# {json.dumps(header.to_json(), sort_keys=True)}",
        NOTICE,
        "[Unit]",
        f"Description={app}/{service.name} {service.digest[:8]} (gitops-mvd)",
        "Wants=docker.service",
        "After=docker.service",
        *limit,
        "",
        "[Service]",
        "Type=exec",
        f"Slice={SLICE}",
        f"SyslogIdentifier={app}/{service.name}",
        "UMask=0077",
        *([f"ExecStartPre=-:{remove}"] if job else []),
        *(f"ExecStartPre=-:{client(*words)}" for words in creates),
        f"ExecStart=:{client('start', '--attach', name)}",
        f"ExecStop=-:{client('stop', name)}",
        *([] if job else [f"ExecStop=-:{client('rm', '--force', '--volumes', name)}", f"ExecStopPost=-:{remove}"]),
        "TimeoutStartSec=300",
        f"TimeoutStopSec={math.ceil(grace) + 25}",
        "SuccessExitStatus=143",
        *([f"Restart={policy}"] if job else ["Restart=always"]),
        *(["RemainAfterExit=yes"] if job and not scheduled else []),  # a timer starts only what is inactive
        "RestartSec=2",
        *(["", "[Install]", f"WantedBy={TARGET}"] if header.at_boot else []),
        "",
    ]
    return sealed("\n".join(lines))


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
    return _UNCLEAN.sub(lambda found: "".join(f"\\x{byte:02x}" for byte in found[0].encode()), word)
