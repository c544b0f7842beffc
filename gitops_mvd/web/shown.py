"""How values look on a page: times, spans, words with their sign.  Used by the templates."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from markupsafe import Markup

from gitops_mvd.api.views import DONE, FAILED, OperationView, StepView
from gitops_mvd.core.model import Health, Operation

_SIZES = ((86400, "d"), (3600, "h"), (60, "min"))
_FAILURES = (Operation.ROLLBACK_FAILED, Operation.FAILED, Operation.ROLLED_BACK)  # the worst first
_DIGEST = re.compile(r"(sha256:[0-9a-f]{12})[0-9a-f]{52}")
SHORTEST_PREFIX = 4  # characters of a commit
SIGNS = {"create": "+", "update": "~", "delete": "−", "wait": "?"}
CAUSES = {
    "push": "a push",
    "pull_request": "a pull request",
    "status": "a status of another server",
    "sync": "a request",
    "poll": "a look at Git",
    "start": "a start of the daemon",
    "reload": "new settings",
    "retry": "another try",
    "reconciled": "a pass before it",
    "recheck": "another check",
    "health": "a change of health",
}
NOTHING = "Stopped"  # an operation that came to no result


def ago(at: float) -> Markup:
    """When that was, as a person says it; a browser keeps it up to date."""
    if not at:
        return Markup("<span>never</span>")
    moment = datetime.fromtimestamp(at, UTC)
    return Markup('<time datetime="{}" title="{}" data-ago>{}</time>').format(
        moment.isoformat(timespec="seconds").replace("+00:00", "Z"), f"{moment:%Y-%m-%d %H:%M:%S} UTC", since(at)
    )


def since(at: float) -> str:
    """`12 s ago`, `3 min ago`, `2 d ago`; `in 5 min` for what is to come."""
    passed = time.time() - at
    if abs(passed) < 1:
        return "now"
    return f"{span(passed)} ago" if passed > 0 else f"in {span(-passed)}"


def span(seconds: float) -> str:
    """`40 ms`, `0.4 s`, `12 s`, `3 min`, `5 h`, `2 d`, cut to its largest unit."""
    for size, unit in _SIZES:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    if 0 < seconds < 0.095:
        return f"{max(1, round(seconds * 1000))} ms"
    return f"{seconds:.1f} s" if 0 < seconds < 9.95 else f"{seconds:.0f} s"


def lasted(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`: how long something took."""
    if seconds < 60:
        return span(seconds)
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if rest else f"{minutes} min"


def clock(at: float) -> str:
    """The time of day on this server, with the day if that is another one."""
    moment, now = datetime.fromtimestamp(at).astimezone(), datetime.now().astimezone()
    return f"{moment:%H:%M:%S}" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M:%S}"


def kind(word: str) -> str:
    """The class of a word, which gives it its colour and its sign: good, busy, bad, warn, rest or unknown."""
    match word:
        case "Healthy" | "Synced" | "Succeeded" | "done" | "ok" | "running" | "up":
            return "good"
        case "Progressing" | "Running" | "created" | "restarting":
            return "busy"
        case "Degraded" | "Failed" | "RolledBack" | "RollbackFailed" | "fail" | "failed" | "dead" | "exited":
            return "bad"
        case "OutOfSync" | "Missing" | "warn" | "WARNING":
            return "warn"
        case "ERROR" | "CRITICAL" | "silent":
            return "bad"
        case "Suspended" | "Drained" | "Superseded" | "paused" | "stopped" | "Stopped" | "INFO" | "DEBUG":
            return "rest"
    return "unknown"


def outcome(operation: OperationView) -> str:
    """How an operation ended, by the worst of its apps."""
    if not operation.ended:
        return str(Operation.RUNNING)
    ends = {result.operation for result in operation.results}
    if bad := next((it for it in _FAILURES if it in ends), None):
        return str(bad)
    if not ends:
        return NOTHING
    return str(Operation.SUCCEEDED) if ends == {Operation.SUCCEEDED} else min(ends)


def seconds(operation: OperationView) -> float:
    """How long an operation took, or has taken so far."""
    return max(0.0, (operation.ended or time.time()) - operation.began)


def step_class(step: StepView) -> str:
    return {DONE: "good", FAILED: "bad", "stopped": "rest"}.get(step.state, "busy")


def cause(word: str) -> str:
    return CAUSES.get(word, word)


def short(commit: str) -> str:
    return commit[:7]


def image_parts(image: str) -> tuple[str, str, str]:
    """The registry and path, the name, and the tag or digest of an image: `myrepo.io/babylon/`, `chatbot`, `:1.4.2`."""
    name, at, digest = image.partition("@")
    path, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    return f"{path}{slash}", last, f"{colon}{tag}" or (f"{at}{digest[:19]}" if at else "")


def without_digest(name: str) -> str:
    """The name of an image with the first digits of its digest."""
    return _DIGEST.sub(r"\1…", name)


def rank(health: str) -> int:
    """How much a health deserves to be seen: 0 for healthy."""
    words = [str(it) for it in Health]
    return words.index(health) if health in words else len(words)
