"""What lasts, and what only flaps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.status.debounce import DEBOUNCE_SECONDS, Debounce


def test_a_short_failure_is_not_shown() -> None:
    debounce = Debounce()
    assert debounce.update(False, 100) is None
    assert debounce.update(True, 100 + DEBOUNCE_SECONDS / 2) is None
    assert debounce.update(True, 100 + DEBOUNCE_SECONDS / 2 + DEBOUNCE_SECONDS) is True


def test_a_failure_that_lasts_is_shown() -> None:
    debounce = Debounce()
    debounce.update(False, 100)
    assert debounce.pending_for(110) == DEBOUNCE_SECONDS - 10
    assert debounce.update(False, 100 + DEBOUNCE_SECONDS) is False
    assert debounce.pending_for(100 + DEBOUNCE_SECONDS) is None


def test_what_crashes_every_few_seconds_is_unhealthy_however_often_it_recovers() -> None:
    debounce = Debounce()
    verdicts = [debounce.update(second % 10 == 0, second) for second in range(0, 125, 5)]
    assert True not in verdicts
    assert verdicts[-2] is False


def test_unknown_health_is_neither() -> None:
    debounce = Debounce()
    debounce.update(True, 0)
    assert debounce.update(None, DEBOUNCE_SECONDS * 2) is None
    assert debounce.update(True, DEBOUNCE_SECONDS * 2 + 1) is None  # it may have been anything in between


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0.1, 60)), max_size=40))
def test_a_verdict_is_never_against_what_was_seen_last(seen: list[tuple[bool | None, float]]) -> None:
    debounce, now, healthy_since = Debounce(), 0.0, 0.0
    for is_healthy, pause in seen:
        now += pause
        healthy_since = now if not is_healthy else healthy_since
        verdict = debounce.update(is_healthy, now)
        assert verdict in (is_healthy, None)
        if verdict:
            assert now - healthy_since >= DEBOUNCE_SECONDS or healthy_since == 0.0
