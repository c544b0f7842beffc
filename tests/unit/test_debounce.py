"""What lasts, and what only flaps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.status.debounce import STEADY, Trend


def test_a_short_illness_is_nobodys_news() -> None:
    trend = Trend()
    assert trend.judge(False, 100) is None
    assert trend.judge(True, 100 + STEADY / 2) is None
    assert trend.judge(True, 100 + STEADY / 2 + STEADY) is True


def test_an_illness_that_lasts_is() -> None:
    trend = Trend()
    trend.judge(False, 100)
    assert trend.opens_until(110) == STEADY - 10
    assert trend.judge(False, 100 + STEADY) is False
    assert trend.opens_until(100 + STEADY) is None


def test_what_crashes_every_few_seconds_is_sick_however_often_it_comes_back() -> None:
    trend = Trend()
    verdicts = [trend.judge(second % 10 == 0, second) for second in range(0, 125, 5)]
    assert True not in verdicts
    assert verdicts[-2] is False


def test_what_can_not_be_told_is_neither() -> None:
    trend = Trend()
    trend.judge(True, 0)
    assert trend.judge(None, STEADY * 2) is None
    assert trend.judge(True, STEADY * 2 + 1) is None  # it may have been anything in between


@given(st.lists(st.tuples(st.sampled_from([True, False, None]), st.floats(0.1, 60)), max_size=40))
def test_a_verdict_is_never_against_what_was_seen_last(seen: list[tuple[bool | None, float]]) -> None:
    trend, now, well_since = Trend(), 0.0, 0.0
    for is_well, pause in seen:
        now += pause
        well_since = now if not is_well else well_since
        verdict = trend.judge(is_well, now)
        assert verdict in (is_well, None)
        if verdict:
            assert now - well_since >= STEADY or well_since == 0.0
