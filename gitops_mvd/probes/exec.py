"""`exec`: healthy once a command that is run in the container ends with exit code 0."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from gitops_mvd.config.readers import command
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.core.text import plain_line
from gitops_mvd.probes import TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, always

LONGEST_LINE = 200  # characters


class Spec(TypedDict):
    command: list[str]
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    within = spec.get("timeout", TRY_SECONDS)
    try:
        ran = tools.engine.execute(at.name, spec["command"], within)
    except StepFailed as error:
        return Health.PROGRESSING, error.message
    except Unavailable as error:
        return Health.UNKNOWN, error.message
    if ran.exit_code == 0:
        return Health.HEALTHY, ""
    if ran.exit_code is None:
        end = "was killed" if ran.killed else "goes on, for it cannot be killed"
        return Health.PROGRESSING, f"exec does not end within {within:g} s, and {end}"
    return Health.PROGRESSING, f"exec ends with code {ran.exit_code}" + _last_line(ran.printed)


def _last_line(printed: str) -> str:
    lines = [line for line in map(str.strip, printed.splitlines()) if line]
    return f": {plain_line(lines[-1], LONGEST_LINE)}" if lines else ""


@accepts(command.schema)
def _words(place: Place) -> list[str]:
    found = command(place)
    if not found or not found[0]:
        place.fail("must name a command")
    if found[0] in ("CMD", "CMD-SHELL", "NONE"):
        place.fail(f"is the command itself, without {found[0]} in front: for a shell write [sh, -c, ...]")
    return found


PROBE = ProbeType(
    key=Key("A command to run in the container, as in `command`; healthy is exit code 0.", _words),
    argument="command",
    options={"timeout": TIMEOUT},
    summary=lambda spec: spec["command"][0] if spec["command"] else "",  # the other words may be secrets
    connects=False,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
)
