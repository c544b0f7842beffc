"""What forges say of the requests that they still allow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from requests.structures import CaseInsensitiveDict

from gitops_mvd.forges.api import limits
from gitops_mvd.forges.api.limits import RateLimit, note, rate_limits

HUGE = "9" * 5000  # which Python makes no number of


@pytest.fixture(autouse=True)
def nothing_noted() -> Iterator[None]:
    limits._last.clear()
    yield
    limits._last.clear()


@pytest.mark.parametrize(
    ("headers", "limit"),
    [
        (
            {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": "1796037356"},
            RateLimit(4999, 5000, 1796037356.0),
        ),
        ({"RateLimit-Limit": "600", "RateLimit-Remaining": "0", "RateLimit-Reset": "17"}, RateLimit(0, 600)),
        ({"RateLimit-Limit": "60, 60;window=60", "RateLimit-Remaining": "59"}, RateLimit(59, 60)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Limit": "²"}, RateLimit(3)),
        ({"X-RateLimit-Remaining": " 3 , 3;window=60", "X-RateLimit-Limit": "-1"}, RateLimit(3)),
        ({"X-RateLimit-Remaining": "3", "X-RateLimit-Limit": HUGE, "X-RateLimit-Reset": HUGE}, RateLimit(3)),
    ],
)
def test_the_headers_of_each_forge_are_read(headers: dict[str, str], limit: RateLimit) -> None:
    note("a forge", CaseInsensitiveDict(headers))
    assert rate_limits() == {"a forge": limit}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-RateLimit-Remaining": "many"},
        {"X-RateLimit-Remaining": "-1"},
        {"X-RateLimit-Remaining": "1e3"},
        {"X-RateLimit-Remaining": "٣"},
        {"X-RateLimit-Remaining": HUGE},
        {"X-RateLimit-Limit": "5000"},
    ],
)
def test_who_says_nothing_is_not_known(headers: dict[str, str]) -> None:
    note("a forge", CaseInsensitiveDict(headers))
    assert rate_limits() == {}


def test_the_last_answer_counts() -> None:
    for remaining in ("10", "9"):
        note("a forge", CaseInsensitiveDict({"X-RateLimit-Remaining": remaining}))
    note("a forge", CaseInsensitiveDict({}))
    assert rate_limits()["a forge"].remaining == 9
