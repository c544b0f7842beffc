"""`notify`: who is notified of what.  Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from gitops_mvd.config.readers import absolute, each, filled, one_of, tuple_of
from gitops_mvd.config.settings.section import section
from gitops_mvd.config.tables import Key, Place, Reader, accepts
from gitops_mvd.core.notice import MINUTES_A_DAY, USUAL, Quiet, What
from gitops_mvd.core.secret_words import passwords

MOST_TARGETS = 20
_SCHEME = re.compile(r"([a-z][a-z0-9]{1,30})://.", re.IGNORECASE)
_HOURS = re.compile(r"([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})(?: (\S{1,60}))?")


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """One receiver of notifications; exactly one of `url` and `url_file` has its address, in apprise's language."""

    name: str = ""
    url: str = ""
    url_file: str = ""
    apps: tuple[str, ...] = ()
    on: tuple[str, ...] = USUAL
    quiet: Quiet | None = None


@accepts({"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9]+://."})
def _address(place: Place) -> str:
    value = filled(place)
    if not _SCHEME.match(value):
        place.fail("must be an address of apprise, such as `ntfy://ntfy.example.com/deploys`")
    if next(passwords(value), ""):
        place.fail("contains a password: put the address into a file, and name that file in `url_file`")
    return value


@accepts({"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}( \\S+)?$"})
def _quiet(place: Place) -> Quiet:
    value = filled(place)
    if not (found := _HOURS.fullmatch(value)):
        place.fail(f"must be hours and a time zone, such as `22:00-07:00 Europe/London`, not {value!r}")
    hours, zone = list(map(int, found.groups()[:4])), found[5]
    begins, ends = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
    if max(begins, ends) >= MINUTES_A_DAY or max(hours[1], hours[3]) > 59:
        place.fail(f"has an hour that no clock shows: {value!r}")
    if begins == ends:
        place.fail("begins when it ends: to be notified of nothing, leave the receiver out")
    try:
        return Quiet(begins, ends, ZoneInfo(zone) if zone else None)
    except (ValueError, OSError, KeyError):
        place.fail(f"has an unknown time zone, {zone!r}: `timedatectl list-timezones` lists those of this server")


def _some(read: Reader[tuple[str, ...]]) -> Reader[tuple[str, ...]]:
    """A reader of lists that have something in them."""

    @accepts({**read.schema, "minItems": 1})
    def some(place: Place) -> tuple[str, ...]:
        if place.value() == []:
            place.fail("is empty: name at least one, or leave it out for the default")
        return read(place)

    return some


NOTIFY_SECTION = section(
    NotifySettings,
    {
        "name": Key(
            "What it is called by `mvd notify`, `mvd doctor` and in the log.",
            filled,
            "the name of `url_file`, or what `url` begins with",
        ),
        "url": Key(
            "The address, if there is no secret in it: `ntfy://ntfy.example.com/deploys`, `json://hooks.internal:8080`.",
            _address,
        ),
        "url_file": Key("The file with the address, readable by root only, for all other addresses.", absolute),
        "apps": Key(
            "The apps that it is about, `*` for any letters: `[chatbot, billing-*]`. What is about the server as a "
            "whole goes to the receivers without `apps`.",
            _some(tuple_of(filled)),
            "all, and the server",
        ),
        "on": Key(
            "What it is about: `failed` (a deploy, or a commit that is refused), `degraded` (an app that runs became "
            "unhealthy, or a part of the daemon does not run), `waiting` (for five minutes, for something that does "
            "not answer), `recovered` (from any of these that are in the list), `deployed`, `suspended` (and resumed).",
            _some(tuple_of(one_of(*What))),
            f"`[{', '.join(USUAL)}]`",
        ),
        "quiet": Key(
            "The hours in which nothing is sent, as `22:00-07:00 Europe/London`; without a zone they are those of the "
            "server. At their end, what has not mended itself is told in one message.",
            _quiet,
            "none",
        ),
    },
)


@accepts({"type": "array", "items": NOTIFY_SECTION.schema, "maxItems": MOST_TARGETS})
def read_notify(place: Place) -> tuple[NotifySettings, ...]:
    found = [(at, _named(at, target)) for at, target in each(place, NOTIFY_SECTION)]
    if len(found) > MOST_TARGETS:
        place.fail(f"has {len(found)} receivers, and {MOST_TARGETS} is the most")
    for name, times in Counter(target.name for _, target in found).items():
        if name and times > 1:
            at = next(at for at, target in reversed(found) if target.name == name)
            at.report(f"is called {name!r} as another one is: give it a `name`")
    return tuple(target for _, target in found)


def _named(place: Place, target: NotifySettings) -> NotifySettings:
    if place.has("url") == place.has("url_file"):
        place.report("must have one of `url`, `url_file`")
    scheme = _SCHEME.match(target.url)
    name = target.name or target.url_file.rpartition("/")[2] or (scheme[1].lower() if scheme else "")
    return replace(target, name=name)
