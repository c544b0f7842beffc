"""How many requests each forge still allows, by the headers of its last answer: one place for the whole process.

https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/
https://learn.microsoft.com/azure/devops/integrate/concepts/rate-limits
Bitbucket Cloud and Gitea tell nothing but that there were too many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

A_TIME = 1_000_000_000  # what is less is no time, but seconds until then
PREFIXES = ("X-RateLimit", "RateLimit")  # GitHub's and Azure's, GitLab's


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`remaining` of so many requests (`limit`, 0 if unknown) until `resets_at`, in Unix time, 0 if unknown."""

    remaining: int
    limit: int = 0
    resets_at: float = 0.0


_last: dict[str, RateLimit] = {}


def note(forge: str, headers: Mapping[str, str]) -> None:
    """Keep what an answer of that forge says, if it says something."""
    for prefix in PREFIXES:
        remaining, limit, resets = (headers.get(f"{prefix}-{name}", "") for name in ("Remaining", "Limit", "Reset"))
        if remaining.isascii() and remaining.isdecimal():
            at = _number(resets)
            _last[forge] = RateLimit(int(remaining), _number(limit), float(at) if at > A_TIME else 0.0)
            return


def rate_limits() -> Mapping[str, RateLimit]:
    """What each forge said last, by its name and place; none of those that say nothing."""
    return dict(_last)


def forget() -> None:
    """Forget all of it."""
    _last.clear()


def _number(text: str) -> int:
    """A header as a number, of which GitLab and others may say more behind a comma: `60, 60;window=60`."""
    first = text.partition(",")[0].strip()
    return int(first) if first.isascii() and first.isdecimal() else 0
