"""`http`: healthy once a GET of that path is answered well: with a good `status`, and with that `body` and `header`.

A good status is any below 400, unless it is said which.  `body` and the values of `header` are regular expressions.
"""

from __future__ import annotations

import json
import string
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import quote

from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.net.dial import dial
from gitops_mvd.probes import Tools

DEADLINE = 2.0
BODY = 1 << 16  # bytes of it that are looked at
SEARCHED_WITHIN = 1.0  # seconds

MEANS_MORE = frozenset(r".^$*+?{}[]\|()")  # the characters that make more of a pattern than the words that it has

# A process of its own, because a search can take for ever, and nothing else of Python runs meanwhile.
_SEARCH = """
import json, re, sys
print(next((what for what, pattern, text in json.load(sys.stdin) if not re.search(pattern, text)), ""))
"""


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    path = spec["path"].partition("?")[0]  # what is behind that may be a secret
    port, within = spec["port"], spec.get("timeout", DEADLINE)
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
        return Health.UNKNOWN, f"http {path} can not be asked: {error.strerror or error}"


def _judge(answer: HTTPResponse, spec: Json, path: str) -> tuple[Health, str]:
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
        while len(body) < BODY and (more := answer.read1(BODY - len(body))):
            body += more
    return body.decode("utf-8", "replace")


def _search(texts: list[tuple[str, str, str]], path: str) -> tuple[Health, str]:
    """Is each pattern found in its text?  They come as name, pattern and text."""
    if not any(MEANS_MORE & set(pattern) for _, pattern, _ in texts):  # a process takes a hundred times as long
        missed = next((what for what, words, text in texts if words not in text), "")
        return _missed(missed, path)
    python = (sys.executable, "-I", "-S", "-c", _SEARCH)
    try:
        done = subprocess.run(
            python, input=json.dumps(texts), capture_output=True, text=True, timeout=SEARCHED_WITHIN, check=True
        )
    except subprocess.TimeoutExpired:
        return Health.PROGRESSING, f"http {path}: to search for its patterns takes more than {SEARCHED_WITHIN:g} s"
    except (OSError, subprocess.CalledProcessError) as error:
        return Health.UNKNOWN, f"http {path}: its patterns can not be searched for: {type(error).__name__}"
    return _missed(done.stdout.strip(), path)


def _missed(what: str, path: str) -> tuple[Health, str]:
    return (Health.PROGRESSING, f"http {path} is answered with another {what}") if what else (Health.HEALTHY, "")
