from __future__ import annotations

from itertools import pairwise

from gitops_mvd.core.backoff import Backoff

BACKOFF = Backoff(2.0, 300.0)


def test_a_pause_grows_up_to_the_longest() -> None:
    pauses = [min(BACKOFF.pause(failures) for _ in range(100)) for failures in range(12)]
    assert 1.6 <= pauses[0] < 2.4
    assert all(later > 1.2 * earlier for earlier, later in pairwise(pauses[:7]))
    assert all(240.0 <= BACKOFF.pause(failures) <= 360.0 for failures in (8, 1_025, 10**6))


def test_hosts_do_not_ask_all_at_once() -> None:
    assert len({BACKOFF.pause(3) for _ in range(50)}) > 40
