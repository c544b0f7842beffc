"""`kafka`: healthy while a consumer group is at most so many messages behind on a topic; for queue workers.

What can be asked is the group, and not one container of it.  Brokers that cannot be asked say nothing about the worker.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from gitops_mvd.config.readers import boolean, filled, integer, one_of, one_or_more
from gitops_mvd.config.tables import Key, Place, Table, accepts, record
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.core.text import plain_line
from gitops_mvd.probes import TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, always

if TYPE_CHECKING:
    from gitops_mvd.probes.programs import kafka_lag

LIBRARY, EXTRA = "kafka", "gitops-mvd[kafka]"
PROGRAM = Path(__file__).parent / "programs" / "kafka_lag.py"
LONGEST_REASON = 140  # characters: what a commit status has room for
BROKERS_SHARE = 0.85  # of a try, after which the program gives up: its reason is better than none
MOST_MESSAGES = 10**15
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_NAME = "[A-Za-z0-9._-]{1,249}"
_SERVER = r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?"
_SERVERS = f"{_SERVER}(?: *, *{_SERVER})*"
_VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"


class Login(TypedDict):
    """`username` and `password` are variables of the container's environment."""

    mechanism: NotRequired[str]
    username: str
    password: str


class Consumer(TypedDict):
    topic: str
    group: str
    lag: int
    bootstrap_servers: list[str]
    tls: NotRequired[bool]
    sasl: NotRequired[Login]


class Spec(TypedDict):
    consumer: Consumer
    timeout: NotRequired[float]


class NoVariable(Exception):
    """The container has no such variable in its environment."""


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    consumer, within = spec["consumer"], spec.get("timeout", TRY_SECONDS)
    ends = time.monotonic() + within
    try:
        answer = _ask(_asked(at, consumer, tools, ends, within), ends, within)
    except NoVariable as error:
        return Health.PROGRESSING, f"kafka: the container has no variable {error} for the login"
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, plain_line(f"kafka: {error.message}", LONGEST_REASON)
    if "error" in answer:
        return Health.UNKNOWN, plain_line(f"kafka: {answer['error']}", LONGEST_REASON)
    why = _why(consumer, answer)
    return (Health.PROGRESSING, plain_line(why, LONGEST_REASON)) if why else (Health.HEALTHY, "")


def _why(consumer: Consumer, answer: kafka_lag.Answer) -> str:
    """Why the group is not healthy; "" if it is."""
    topic, group, most, behind = consumer["topic"], consumer["group"], consumer["lag"], answer["behind"]
    if behind is None:
        return f"topic {topic} does not exist"
    if behind and not answer["has_committed"]:
        return f"group {group} has committed nothing on topic {topic}, which has {_counted(behind)}"
    return f"group {group} is {behind:,} behind on topic {topic} (at most {most:,})" if behind > most else ""


def _counted(messages: int) -> str:
    return "1 message" if messages == 1 else f"{messages:,} messages"


def _asked(at: Instance, consumer: Consumer, tools: ProbeTools, ends: float, within: float) -> kafka_lag.Asked:
    asked: kafka_lag.Asked = {
        "bootstrap_servers": consumer["bootstrap_servers"],
        "topic": consumer["topic"],
        "group": consumer["group"],
        "addresses": dict(tools.engine.addresses(at.name, within)),
        "ends": ends - within * (1 - BROKERS_SHARE),
        "tls": consumer.get("tls", False),
    }
    if login := consumer.get("sasl"):
        environment = tools.engine.environment(at.name, _left(ends))
        if missing := [name for name in (login["username"], login["password"]) if name not in environment]:
            raise NoVariable(missing[0])
        asked["sasl"] = (
            login.get("mechanism", MECHANISMS[-1]),
            environment[login["username"]],
            environment[login["password"]],
        )
    return asked


def _left(ends: float) -> float:
    """The seconds until then, and a moment if it is over."""
    return max(0.01, ends - time.monotonic())


def _ask(asked: kafka_lag.Asked, ends: float, within: float) -> kafka_lag.Answer:
    """Run PROGRAM, which is isolated from this folder: for it, `kafka` is the library."""
    words = (sys.executable, "-I", str(PROGRAM))
    try:
        ended = subprocess.run(
            words, input=json.dumps(asked), capture_output=True, text=True, timeout=_left(ends), check=True
        )
        answer: kafka_lag.Answer = json.loads(ended.stdout)
    except subprocess.TimeoutExpired:
        return {"error": f"{', '.join(asked['bootstrap_servers'])} does not answer within {within:g} s"}
    except subprocess.CalledProcessError as error:  # of its last line, only the class can hold no secret
        what = error.stderr.strip().rpartition("\n")[2].partition(":")[0]
        return {"error": lacking() or f"its program fails: {what or f'status {error.returncode}'}"}
    except (OSError, ValueError) as error:
        return {"error": lacking() or f"its program fails: {type(error).__name__}"}
    return answer


def lacking() -> str:
    """What is not installed beside gitops-mvd, and how it is; "" if all is there."""
    if find_spec(LIBRARY):
        return ""
    return f"the probe kafka needs a package that is not installed: {sys.prefix}/bin/pip install '{EXTRA}'"


@accepts({"type": "string", "pattern": f"^{_NAME}$"})
def _topic(place: Place) -> str:
    name = filled(place)
    return name if re.fullmatch(_NAME, name) else place.fail("is no name of a topic")


@accepts({"type": "string", "pattern": f"^{_SERVERS}$"})
def _server(place: Place) -> str:
    servers = filled(place)
    return (
        servers if re.fullmatch(_SERVERS, servers) else place.fail("must be brokers such as kafka-1:9092,kafka-2:9092")
    )


_several = one_or_more(_server)


@accepts(_several.schema)
def _servers(place: Place) -> list[str]:
    """Each with its port, and in a text of their own: Kafka's own form has them all in one, with commas."""
    listed: Sequence[str] = _several(place)
    return [server.strip() for each in listed for server in each.split(",")] or place.fail("names no broker")


@accepts({"type": "string", "pattern": f"^{_VARIABLE}$"})
def _variable(place: Place) -> str:
    name = filled(place)
    return name if re.fullmatch(_VARIABLE, name) else place.fail("must be the name of a variable, not its value")


SASL: Table = {
    "mechanism": Key("How to log in.", one_of(*MECHANISMS), f"`{MECHANISMS[-1]}`"),
    "username": Key("The variable in the container's environment that has the name: `KAFKA_USERNAME`.", _variable),
    "password": Key("The variable that has the password.", _variable),
}
CONSUMER: Table = {
    "topic": Key("The topic that the service reads.", _topic),
    "group": Key("The consumer group that it reads as, Kafka's `group.id`.", filled),
    "lag": Key(
        "How many messages the group may be behind, over all partitions; a partition of which it has committed nothing "
        "counts from its first message.",
        integer(0, MOST_MESSAGES),
    ),
    "bootstrap_servers": Key(
        "Brokers to ask, as the service itself finds them: `kafka-1:9092,kafka-2:9092`, or a list.", _servers
    ),
    "tls": Key("`true` asks over TLS; the host must trust the brokers' certificates.", boolean, "`false`"),
    "sasl": Key("A login; see below.", record(Login, SASL, ["username", "password"])),
}

PROBE = ProbeType(
    key=Key(
        "A consumer group that must keep up with a topic: `topic`, `group`, `lag`, `bootstrap_servers`; see below.",
        record(Consumer, CONSUMER, ["topic", "group", "lag", "bootstrap_servers"]),
    ),
    argument="consumer",
    options={"timeout": TIMEOUT},
    summary=lambda spec: f"{spec['consumer']['group']} on {spec['consumer']['topic']}",
    connects=False,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
    lacking=lacking,
)
