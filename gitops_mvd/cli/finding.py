"""What a check of `mvd doctor` found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `verdict` is `ok`, `warn` or `fail`, `hint` says what to do."""

    what: str
    verdict: str
    message: str
    hint: str = ""

    def as_json(self) -> dict[str, str]:
        return {"what": self.what, "verdict": self.verdict, "told": self.message, "hint": self.hint}
