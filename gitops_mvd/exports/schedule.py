"""A time in systemd's language (OnCalendar) → one of cron, and a time zone.  Pure.

systemd knows more than cron: seconds, years, the last days of a month, and a weekday *and* a day of the month, where
cron takes either.  Source: systemd.time(7), "Calendar Events"; Kubernetes reads cron by github.com/robfig/cron.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SHORT = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
}
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DAY = re.compile(r"(?i)(sun|mon|tue|wed|thu|fri|sat)[a-z]*")
_NUMBERS = re.compile(r"(\d+)(?:\.\.(\d+))?(?:/(\d+))?")
_ZONE = re.compile(r"UTC|[A-Z][A-Za-z]+(?:/[A-Za-z0-9_+-]+)+")
_DATE = re.compile(r"(?:([^-]+)-)?([^-]+)-([^-]+)")


class _NotInCronError(ValueError):
    """Cron has no words for it; the text says for what."""


@dataclass(frozen=True, slots=True)
class Cron:
    """`fields` is the schedule, "" if cron has no words for it, and `why` for what; `zone` is "" if it names none."""

    fields: str
    zone: str = ""
    why: str = ""


def cron(written: str) -> Cron:
    """The same time in cron's words."""
    words = written.split()
    zone = ""
    if words and _ZONE.fullmatch(words[-1]):
        zone = "Etc/UTC" if words[-1] == "UTC" else words[-1]
        words = words[:-1]
    if len(words) == 1 and words[0].lower() in _SHORT:
        words = _SHORT[words[0].lower()].split()
    try:
        return Cron(_fields(words), zone)
    except _NotInCronError as error:
        return Cron("", zone, str(error))


def _fields(words: list[str]) -> str:
    weekday, year, month, day, time = "*", "*", "*", "*", "00:00:00"
    rest = list(words)
    if rest and rest[0][0].isalpha():
        weekday = _weekdays(rest.pop(0))
    if rest and ":" not in rest[0]:
        if "~" in rest[0]:
            raise _NotInCronError("days that are counted from the end of a month")
        found = _DATE.fullmatch(rest.pop(0))
        if not found:
            raise _NotInCronError("this date")
        year, month, day = found[1] or "*", _part(found[2], 1, 12), _part(found[3], 1, 31)
    if rest:
        time = rest.pop(0)
    hour, minute, second = [*time.split(":"), "00", "00"][:3]
    if rest or not words or time.count(":") > 2:
        raise _NotInCronError("this time")
    if year != "*":
        raise _NotInCronError("a year")
    if not re.fullmatch(r"0+(?:\.0+)?", second):
        raise _NotInCronError("seconds")
    if weekday != "*" and day != "*":
        raise _NotInCronError("a weekday and a day of the month at once: it takes either")
    return f"{_part(minute, 0, 59)} {_part(hour, 0, 23)} {day} {month} {weekday}"


def _part(text: str, least: int, most: int) -> str:
    """One field: numbers, lists, ranges `a..b`, and steps `a/b`."""
    return ",".join(_one(item, least, most) for item in text.split(","))


def _one(item: str, least: int, most: int) -> str:
    if item == "*":
        return "*"
    if found := re.fullmatch(r"\*/(\d+)", item):
        return _stepped("*", int(found[1]))
    found = _NUMBERS.fullmatch(item)
    if not found:
        raise _NotInCronError(f"{item!r}")
    first, last = int(found[1]), int(found[2] or found[1])
    if not (least <= first <= most and first <= last <= most):
        raise _NotInCronError(f"{item!r}")
    if found[3] is None:
        return f"{first}-{last}" if last > first else str(first)
    until = last if found[2] else most
    return _stepped("*" if (first, until) == (least, most) else f"{first}-{until}", int(found[3]))


def _stepped(span: str, step: int) -> str:
    if not step:
        raise _NotInCronError("a step of 0")
    return span if step == 1 else f"{span}/{step}"


def _weekdays(text: str) -> str:
    """Weekdays by their numbers, 0 for Sunday."""
    numbers: list[int] = []
    for item in text.rstrip(",").split(","):
        first, _, last = item.replace("..", "-").partition("-")
        begin, end = _weekday(first), _weekday(last or first)
        span = (end - begin) % 7
        numbers += [(begin + offset) % 7 for offset in range(span + 1)]
    return ",".join(map(str, sorted(set(numbers)))) if len(set(numbers)) < 7 else "*"


def _weekday(name: str) -> int:
    found = _DAY.fullmatch(name)
    if not found:
        raise _NotInCronError(f"{name!r}")
    return _DAYS.index(found[1].lower())
