"""`exec`: healthy once a command that is run in the container ends with exit code 0."""

from __future__ import annotations

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools

DEADLINE = 2.0
LINE = 200  # characters


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    within = spec.get("timeout", DEADLINE)
    try:
        ran = tools.engine.execute(at.name, spec["command"], within)
    except StepFailed as error:
        return Health.PROGRESSING, error.message
    except Unavailable as error:
        return Health.UNKNOWN, error.message
    if ran.exit_code == 0:
        return Health.HEALTHY, ""
    if ran.exit_code is None:
        end = "was killed" if ran.killed else "goes on, for it can not be killed"
        return Health.PROGRESSING, f"exec does not end within {within:g} s, and {end}"
    return Health.PROGRESSING, f"exec ends with code {ran.exit_code}" + _last_line(ran.printed)


def _last_line(printed: str) -> str:
    lines = [line for line in map(str.strip, printed.splitlines()) if line]
    shown = "".join(character if character.isprintable() else " " for character in lines[-1][:LINE]) if lines else ""
    return f": {shown}" if shown else ""
