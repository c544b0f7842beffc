"""How many requests each forge still allows, by the headers of its last answer: one place for the whole process.

https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api
https://docs.gitlab.com/administration/settings/user_and_ip_rate_limits/
https://learn.microsoft.com/azure/devops/integrate/concepts/rate-limits
Bitbucket Cloud and Gitea tell nothing but that there were too many.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

A_TIME = 1_000_000_000  # what is less is no time, but seconds until then
_NUMBER = re.compile(r"\s*([0-9]{1,15})\s*(?:,|$)")
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
        remaining, limit, at = (number(headers.get(f"{prefix}-{name}", "")) for name in ("Remaining", "Limit", "Reset"))
        if remaining is not None:
            _last[forge] = RateLimit(remaining, limit or 0, float(at) if at and at > A_TIME else 0.0)
            return


def rate_limits() -> Mapping[str, RateLimit]:
    """What each forge said last, by its name and place; none of those that say nothing."""
    return dict(_last)


def number(text: str) -> int | None:
    """A header as a number, of which GitLab and others may say more behind a comma: `60, 60;window=60`.

    None for what is none, or has more digits than a number of requests or a time can have.
    """
    found = _NUMBER.match(text)
    return int(found[1]) if found else None
