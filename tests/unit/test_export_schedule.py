"""A time of systemd in cron's words, or why it has none."""

from __future__ import annotations

import pytest

from gitops_mvd.exports.schedule import Cron, cron


@pytest.mark.parametrize(
    ("written", "fields", "zone"),
    [
        ("*-*-* 03:00:00", "0 3 * * *", ""),
        ("03:00", "0 3 * * *", ""),
        ("*:0/15", "*/15 * * * *", ""),
        ("*:5/15", "5-59/15 * * * *", ""),
        ("*-*-* *:00/10:00", "*/10 * * * *", ""),
        ("0/6:30", "30 */6 * * *", ""),
        ("Mon..Fri 09:00", "0 9 * * 1,2,3,4,5", ""),
        ("Mon-Fri 09:00", "0 9 * * 1,2,3,4,5", ""),
        ("Sat,Sunday *-*-* 06:30:00", "30 6 * * 0,6", ""),
        ("Sat..Mon 00:00", "0 0 * * 0,1,6", ""),
        ("Mon..Sun 00:00", "0 0 * * *", ""),
        ("Mon", "0 0 * * 1", ""),
        ("*-*-01 00:00:00", "0 0 1 * *", ""),
        ("*-1,7-1", "0 0 1 1,7 *", ""),
        ("2..8/3:00", "0 2-8/3 * * *", ""),
        ("12-24", "0 0 24 12 *", ""),
        ("hourly", "0 * * * *", ""),
        ("daily", "0 0 * * *", ""),
        ("Weekly", "0 0 * * 1", ""),
        ("monthly", "0 0 1 * *", ""),
        ("quarterly", "0 0 1 1,4,7,10 *", ""),
        ("minutely", "* * * * *", ""),
        ("*-*-* 03:00:00 Europe/London", "0 3 * * *", "Europe/London"),
        ("daily UTC", "0 0 * * *", "Etc/UTC"),
        ("Mon 09:00 America/Argentina/Buenos_Aires", "0 9 * * 1", "America/Argentina/Buenos_Aires"),
    ],
)
def test_a_time_of_systemd_is_one_of_cron(written: str, fields: str, zone: str) -> None:
    assert cron(written) == Cron(fields, zone)


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("*:*:30", "seconds"),
        ("*:*:0/10", "seconds"),
        ("2027-01-01 00:00:00", "a year"),
        ("*-*~1 00:00:00", "days that are counted from the end of a month"),
        ("Mon *-*-1..7 00:00:00", "a weekday and a day of the month at once: it takes either"),
        ("Someday", "'Someday'"),
        ("25:00", "'25'"),
        ("*:0/0", "a step of 0"),
        ("00:00 and more", "this time"),
        ("1:2:3:4", "this time"),
    ],
)
def test_what_cron_has_no_words_for_is_said(written: str, why: str) -> None:
    assert cron(written) == Cron("", "", why)


def test_no_text_breaks_it() -> None:
    for text in ("", " ", ":", "-", "..", "a..b", "*/x", "1/", ",", "Mon..", "UTC", "~", "\0"):
        assert not cron(text).fields or cron(text).fields.count(" ") == 4
