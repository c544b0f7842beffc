"""How many examples the property tests try: `quick`, the same few every time, unless a profile is named.

`make test` and CI name `thorough`, which has more, and also the same every time, so that nothing fails by chance.
`make search` names `search`, which looks for new ones.  A test that needs more or fewer examples than most says how
many times `settings.default.max_examples`, so that it keeps its share in all three.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from gitops_mvd.core import redact

# No deadline in any: how long one example takes is the machine's doing.
settings.register_profile(
    "quick", max_examples=20, stateful_step_count=20, deadline=None, derandomize=True, database=None
)
settings.register_profile("thorough", parent=settings.get_profile("quick"), max_examples=100, stateful_step_count=40)
settings.register_profile("search", max_examples=1000, stateful_step_count=40, deadline=None, print_blob=True)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def nothing_is_secret() -> Iterator[None]:
    """What one test makes known as a secret is none in the next one."""
    yield
    redact.known.forget()
