"""`http`: healthy once a GET of that path is answered with a good `status`, and with that `body` and `header`.

A good status is any below 400, unless `status` lists them.  `body` and the values of `header` are regular expressions.
"""

from __future__ import annotations

import json
import re
import string
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import NotRequired, TypedDict
from urllib.parse import quote

from gitops_mvd.config.readers import filled, integer, mapping_of, one_or_more
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.net.line import dial
from gitops_mvd.probes import PORT, TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, always, regular_expression

BODY_BYTES = 1 << 16  # that are searched
SEARCH_SECONDS = 1.0

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
REGEX_METACHARACTERS = frozenset(r".^$*+?{}[]\|()")

# A process of its own, because a search can take for ever, and nothing else of Python runs meanwhile.
_SEARCH = """
import json, re, sys
print(next((what for what, pattern, text in json.load(sys.stdin) if not re.search(pattern, text)), ""))
"""


class Spec(TypedDict):
    path: str
    port: int
    status: NotRequired[list[int]]
    body: NotRequired[str]
    header: NotRequired[dict[str, str]]
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    path = spec["path"].partition("?")[0]  # what is behind that may be a secret
    port, within = spec["port"], spec.get("timeout", TRY_SECONDS)
    try:
        with dial(at.ip, port, within) as line:
            connection = HTTPConnection(at.ip, port)
            connection.sock = line
            connection.request("GET", quote(spec["path"], string.punctuation), headers={"User-Agent": "gitops-mvd"})
            with connection.getresponse() as answer:
                return _judge(answer, spec, path)
    except TimeoutError:
        return Health.PROGRESSING, f"http {path} does not answer within {within:g} s"
    except ConnectionRefusedError:
        return Health.PROGRESSING, f"http {path} refuses the connection on port {port}"
    except ConnectionError:
        return Health.PROGRESSING, f"http {path} hangs up on port {port} without an answer"
    except HTTPException:
        return Health.PROGRESSING, f"http {path} gets an answer on port {port} that is not HTTP"
    except OSError as error:
        return Health.UNKNOWN, f"http {path} cannot be asked: {error.strerror or error}"


def _judge(answer: HTTPResponse, spec: Spec, path: str) -> Answer:
    if answer.status not in spec["status"] if "status" in spec else answer.status >= 400:
        return Health.PROGRESSING, f"http {answer.status} from {path}"
    texts = []
    for name, pattern in spec.get("header", {}).items():
        values = answer.headers.get_all(name)
        if values is None:
            return Health.PROGRESSING, f"http {path} is answered without a header {name}"
        texts.append((f"header {name}", pattern, ", ".join(values)))
    if "body" in spec:
        texts.append(("body", spec["body"], _start(answer)))
    return _search(texts, path) if texts else (Health.HEALTHY, "")


def _start(answer: HTTPResponse) -> str:
    body = b""
    with suppress(OSError, HTTPException):  # what came in time counts: a stream of events has no end
        while len(body) < BODY_BYTES and (more := answer.read1(BODY_BYTES - len(body))):
            body += more
    return body.decode("utf-8", "replace")


def _search(texts: list[tuple[str, str, str]], path: str) -> tuple[Health, str]:
    """Is each pattern found in its text?  They come as name, pattern and text."""
    # without any, no process is needed, which takes a hundred times as long
    if not any(REGEX_METACHARACTERS & set(pattern) for _, pattern, _ in texts):
        missed = next((what for what, words, text in texts if words not in text), "")
        return _missed(missed, path)
    python = (sys.executable, "-I", "-S", "-c", _SEARCH)
    try:
        done = subprocess.run(
            python, input=json.dumps(texts), capture_output=True, text=True, timeout=SEARCH_SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        return Health.PROGRESSING, f"http {path}: to search for its patterns takes more than {SEARCH_SECONDS:g} s"
    except (OSError, subprocess.CalledProcessError) as error:
        return Health.UNKNOWN, f"http {path}: its patterns cannot be searched for: {type(error).__name__}"
    return _missed(done.stdout.strip(), path)


def _missed(what: str, path: str) -> tuple[Health, str]:
    return (Health.PROGRESSING, f"http {path} is answered with another {what}") if what else (Health.HEALTHY, "")


@accepts({"type": "string", "pattern": "^/[^ ]*$"})
def _path(place: Place) -> str:
    path = filled(place)
    if not path.startswith("/") or not path.isprintable() or " " in path:
        place.fail("must be a path such as /health")
    return path


@accepts({"type": "object", "additionalProperties": regular_expression.schema})
def _headers(place: Place) -> dict[str, str]:
    for name, at in place.entries().items():
        if not HEADER_NAME.fullmatch(name):
            at.report("is no name of a header")
    return mapping_of(regular_expression)(place)


def _summary(spec: Spec) -> str:
    """The patterns may hold secrets, and so may what is behind the `?` of a path."""
    statuses = "/".join(map(str, spec.get("status", ())))
    return f"{spec['path'].partition('?')[0]} {spec['port']} {statuses}".strip()


def _at_port(spec: Spec, port: int) -> Mapping[str, object]:
    """Any answer of HTTP will do, as one to another address may be another one."""
    asked = {name: value for name, value in spec.items() if name not in ("body", "header")}
    return {**asked, "port": port, "status": range(100, 600)}


PROBE = ProbeType(
    key=Key("The path to ask for, such as `/health`; healthy is an answer of 200 to 399.", _path),
    argument="path",
    options={
        "port": PORT,
        "status": Key("The answers that count as healthy: one status or a list.", one_or_more(integer(100, 599))),
        "body": Key("A regular expression that must be found in the first 64 KiB of the answer.", regular_expression),
        "header": Key("Headers of the answer: name and a regular expression to be found in it.", _headers),
        "timeout": TIMEOUT,
    },
    summary=_summary,
    connects=True,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
    at_port=_at_port,
)
