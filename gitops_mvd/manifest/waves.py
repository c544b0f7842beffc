"""`rollout` of `fleet.yaml`: the waves of hosts, and what must hold between them.  Pure."""

from __future__ import annotations

import bisect
import graphlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypedDict
from zoneinfo import ZoneInfo

from gitops_mvd.config.readers import boolean, duration, each, either, filled, one_of, placed, tuple_of
from gitops_mvd.config.tables import Key, Place, Table, Unsupported, accepts, did_you_mean, record
from gitops_mvd.core.addresses import is_reachable_here_only, split_url
from gitops_mvd.core.model import HostFacts
from gitops_mvd.core.secret_words import passwords
from gitops_mvd.core.waves import ROLLOUT, WAVES, Question, Rollout, Rollouts, Silent, Wave, wave_context
from gitops_mvd.core.windows import DAYS, MINUTES_A_DAY, Window, Windows

NONE = "none"
REST = "*"
MOST_WAVES = 50
MOST_NAMED = 3  # members of a wave in its title
MOST_MEMBERS = 1_000_000  # waves of all rollouts, times the hosts
_TRAILER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}")
_WINDOW = re.compile(
    r"(?:(?P<days>[A-Z][a-z]+(?:[-,][A-Z][a-z]+)*) ?)?"
    r"(?:(?P<hours>[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}) ?)?(?P<zone>[A-Za-z][A-Za-z0-9_+/-]{1,60})?"
)
_EXAMPLE = "`Mon-Thu 09:00-16:00 Europe/London`"


class _Members(NamedTuple):
    """One wave as it is written, with the place of each of its members."""

    at: Place
    members: Sequence[tuple[Place, str]]


@accepts({"type": "array", "minItems": 1, "items": {"type": "string", "minLength": 1}})
def _wave(place: Place) -> _Members:
    members = each(place, filled)
    if place.value() == []:
        place.fail("names no host: name one, `label=value`, or `*` for all that are left")
    return _Members(place, members)


@accepts({"type": "array", "minItems": 1, "maxItems": MOST_WAVES, "items": _wave.schema})
def _waves(place: Place) -> list[_Members]:
    waves = [wave for _, wave in placed(_wave)(place)]
    if place.value() == []:
        place.fail("has no wave: name the hosts of each, or leave `rollout` out")
    if len(waves) > MOST_WAVES:
        place.fail(f"has {len(waves)} waves: {MOST_WAVES} are allowed")
    return waves


@accepts({"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9-]*$"})
def _trailer(place: Place) -> str:
    value = filled(place)
    if not _TRAILER.fullmatch(value):
        place.fail(f"must be the name of a trailer, such as Approved-by, not {value!r}")
    if value.lower() == ROLLOUT:
        place.fail("is the trailer that passes every gate: take another one, such as Approved-by")
    return value


@accepts({"type": "string", "pattern": "^https?://."})
def _url(place: Place) -> str:
    value = filled(place)
    host, _ = split_url(value)
    if not value.startswith(("http://", "https://")) or not host:
        place.fail("must be an address that begins with https:// or http://")
    if next(passwords(value), ""):
        place.fail("contains a password, which everybody who reads the repository would have")
    if is_reachable_here_only(host):
        place.fail(f"leads to each server itself ({host}): a gate is one address that all servers ask")
    return value.rstrip("/")


class PrometheusKeys(TypedDict, total=False):
    url: str
    query: str


PROMETHEUS_KEYS: Table = {
    "url": Key("The address of the Prometheus, without `/api`.", _url),
    "query": Key(
        "A query in PromQL. The gate is open while it returns anything, as with an alert: "
        "`sum(rate(errors_total[5m])) < 1`.",
        filled,
    ),
}


class HttpKeys(TypedDict, total=False):
    url: str


HTTP_KEYS: Table = {"url": Key("The address. The gate is open while it answers 200 to 299.", _url)}


class WindowsKeys(TypedDict, total=False):
    allow: tuple[Window, ...]
    deny: tuple[Window, ...]


@accepts({"type": "string", "minLength": 3})
def _window(place: Place) -> Window:
    value = filled(place)
    found = _WINDOW.fullmatch(value)
    if not found or not (found["days"] or found["hours"]):
        place.fail(f"must be days, hours and a time zone, such as {_EXAMPLE}, not {value!r}")
    begins, ends = _hours(place, found["hours"])
    return Window(_days(place, found["days"]), begins, ends, _zone(place, found["zone"]), value)


def _days(place: Place, written: str | None) -> frozenset[int]:
    if not written:
        return frozenset(range(7))
    days: set[int] = set()
    for part in written.split(","):
        first, _, last = part.partition("-")
        for name in filter(None, (first, last)):
            if name not in DAYS:
                place.fail(f"has an unknown day, {name}: {', '.join(DAYS)}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        days |= {day % 7 for day in range(begin, end + 1 if end >= begin else end + 8)}
    return frozenset(days)


def _hours(place: Place, written: str | None) -> tuple[int, int]:
    """The minutes of the day, from and to; all of the day without any."""
    if not written:
        return 0, MINUTES_A_DAY
    begins, ends = (int(time[:2]) * 60 + int(time[3:]) for time in written.split("-"))
    is_shown = all(int(time[3:]) < 60 for time in written.split("-"))
    if not is_shown or begins >= MINUTES_A_DAY or ends > MINUTES_A_DAY:
        place.fail(f"has an hour that no clock shows: {written}")
    if begins == ends:
        place.fail(f"begins when it ends: {written}")
    return begins, ends


def _zone(place: Place, name: str | None) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        place.fail(f"has an unknown time zone, {name}: `timedatectl list-timezones` lists those that there are")


WINDOWS_KEYS: Table = {
    "allow": Key(
        f"The hours at which a host may begin: {_EXAMPLE}. Days, hours and zone may each be left out: every day, all "
        "day, UTC.",
        tuple_of(_window),
        "always",
    ),
    "deny": Key("The hours at which no host may begin, even if `allow` has them.", tuple_of(_window), "none"),
}


class SilentKeys(TypedDict, total=False):
    after: float
    counts_as: str


SILENT_KEYS: Table = {
    "after": Key(
        "For how long a host of an earlier wave is waited for that posts neither success nor failure.",
        duration,
        "`30m`",
    ),
    "counts_as": Key(
        "What it counts as from then on: `red`, which stops the later waves, or `green`.",
        one_of("red", "green"),
        "`red`",
    ),
}


class RolloutKeysOfApp(TypedDict, total=False):
    waves: list[_Members]
    bake: float
    approval: str
    prometheus: PrometheusKeys
    http: HttpKeys
    windows: WindowsKeys
    silent: SilentKeys


class RolloutKeys(RolloutKeysOfApp, total=False):
    wave_statuses: bool


ROLLOUT_KEYS: Table = {
    "waves": Key(
        'The hosts in the order in which they begin with a commit: lists of names, `label=value`, and `"*"` for all '
        "that are left. A host that is named is in that wave, whatever its labels. Required for the fleet; an app "
        "takes the fleet's, if it has none.",
        _waves,
    ),
    "bake": Key("For how long the waves before must have been green.", duration, "`0`"),
    "approval": Key(
        "The name of a trailer that the commit, or a later one, must have: `Approved-by`. If the settings of a server "
        "say `verify`, only that of a signed commit counts.",
        _trailer,
    ),
    "prometheus": Key("A Prometheus that is asked.", record(PrometheusKeys, PROMETHEUS_KEYS, ("url", "query"))),
    "http": Key("A web address that is asked.", record(HttpKeys, HTTP_KEYS, ("url",))),
    "windows": Key(
        "The hours at which a rollout may go on, by the server's clock. They hold for the first wave, too.",
        record(WindowsKeys, WINDOWS_KEYS),
    ),
    "silent": Key("What becomes of a host that does not end.", record(SilentKeys, SILENT_KEYS)),
    "wave_statuses": Key(
        f"`true` adds a status of each wave to those of its hosts, `{wave_context(1)}` and so on: green once all its "
        "hosts that the commit changes are, red as soon as one is. Not for an app.",
        boolean,
        "`false`",
    ),
}

read_rollout_keys = record(RolloutKeys, ROLLOUT_KEYS)
_APP_ROLLOUT_KEYS: Table = {**ROLLOUT_KEYS, "wave_statuses": Unsupported("goes under the `rollout` of the fleet")}
_read_rollout_keys_of_app = record(RolloutKeysOfApp, _APP_ROLLOUT_KEYS)


class Written(NamedTuple):
    """A rollout as it is written, with its place; None for an app's `rollout: none`."""

    at: Place
    keys: RolloutKeysOfApp | None


@accepts(read_rollout_keys.schema)
def read_rollout(place: Place) -> Written:
    """The rollout of the fleet."""
    keys = read_rollout_keys(place)
    if not place.has("waves"):
        place.report("has no `waves`")
    return Written(place, keys)


@accepts(either({"enum": [NONE]}, _read_rollout_keys_of_app.schema))
def read_rollout_of_app(place: Place) -> Written:
    """The rollout of one app, or `none`."""
    if place.value() == NONE:
        return Written(place, None)
    if isinstance(place.value(), str):
        place.fail(f"must be a mapping, or `{NONE}` for everywhere at once, not {place.value()!r}")
    return Written(place, _read_rollout_keys_of_app(place))


def rollouts_of(usual: Written | None, apps: Mapping[str, Written], hosts: Mapping[str, HostFacts]) -> Rollouts:
    """The rollouts, with the hosts of each wave; what is wrong with them is reported at its place."""
    waves = sum(len(it.keys.get("waves", ())) for it in (usual, *apps.values()) if it and it.keys)
    if waves * len(hosts) > MOST_MEMBERS:
        first = usual or next(iter(apps.values()))
        first.at.report(f"the waves of all rollouts, times the hosts, are more than {MOST_MEMBERS:,}: have fewer")
        return Rollouts()
    known = _rollout(usual.keys, None, usual.at, hosts) if usual and usual.keys else None
    of_apps: dict[str, Rollout | None] = {}
    for name, written in apps.items():
        of_apps[name] = _rollout(written.keys, known, written.at, hosts) if written.keys is not None else None
    own = [name for name, rollout in of_apps.items() if rollout and (not known or rollout.waves != known.waves)]
    orders = [known.waves] if known else []
    orders += [rollout.waves for name in own if (rollout := of_apps[name])]
    if why := _circle(orders):
        fewest = bisect.bisect_left(range(len(orders)), True, key=lambda number: bool(_circle(orders[: number + 1])))
        apps[own[fewest - bool(known)]].at.report(why)
    wave_statuses = bool(usual and usual.keys and usual.keys.get("wave_statuses"))
    if usual and wave_statuses and WAVES in hosts:
        why = f"would be taken for statuses of the host {WAVES}: call that another name"
        usual.at.entries()["wave_statuses"].report(why)
    return Rollouts(known, of_apps, wave_statuses)


def _rollout(
    keys: RolloutKeysOfApp, usual: Rollout | None, place: Place, hosts: Mapping[str, HostFacts]
) -> Rollout | None:
    if "waves" in keys:
        waves = _resolved(keys["waves"], place, hosts)
    elif usual:
        waves = usual.waves
    else:
        if not place.has("waves"):
            place.report("has no `waves`, and the fleet has no rollout that it could take them from")
        return None
    questions = [Question(it["url"], it["query"]) for it in (keys.get("prometheus"),) if it and len(it) == 2]
    questions += [Question(it["url"]) for it in (keys.get("http"),) if it and "url" in it]
    windows, silent, plain = keys.get("windows", {}), keys.get("silent", {}), Silent()
    return Rollout(
        waves,
        keys.get("bake", 0.0),
        keys.get("approval", ""),
        tuple(questions),
        Windows(windows.get("allow", ()), windows.get("deny", ())),
        Silent(silent.get("after", plain.after), silent.get("counts_as", plain.counts_as)),
    )


def _resolved(written: Sequence[_Members], place: Place, hosts: Mapping[str, HostFacts]) -> tuple[Wave, ...]:
    """The waves with their hosts: by name first, then by label, then the rest."""
    wave_of: dict[str, int] = {}
    every = [(number, at, member) for number, wave in enumerate(written) for at, member in wave.members]
    for number, at, member in every:
        if member != REST and "=" not in member:
            if member not in hosts:
                at.report(f"there is no host {member}{did_you_mean(member, hosts)}")
            elif member in wave_of:
                at.report(f"{member} is named twice, in wave {wave_of[member] + 1} already")
            else:
                wave_of[member] = number
    named = frozenset(wave_of)
    for number, at, member in every:
        if member != REST and "=" in member:
            label, _, value = member.partition("=")
            found = [name for name, facts in hosts.items() if facts.labels.get(label) == value]
            if not found:
                at.report(f"no host has the label {label}={value}")
            for name in found:
                if name not in named and wave_of.setdefault(name, number) != number:
                    at.report(f"{name} is in wave {wave_of[name] + 1} already: name it in one of them")
    rest = [(number, at) for number, at, member in every if member == REST]
    for _, at in rest[1:]:
        at.report("stands for the rest already in an earlier place: write `*` once")
    left = [name for name in hosts if name not in wave_of]
    if left and not rest:
        others = f" and {len(left) - 1} others are" if len(left) > 1 else " is"
        place.entries()["waves"].report(f'{left[0]}{others} in no wave: name each, or add `["*"]` for the rest')
    wave_of |= {name: rest[0][0] for name in left if rest}
    members: list[set[str]] = [set() for _ in written]
    for name, number in wave_of.items():
        members[number].add(name)
    titles = (_title([member for _, member in wave.members]) for wave in written)
    return tuple(Wave(title, frozenset(hosts_of)) for title, hosts_of in zip(titles, members, strict=True))


def _title(members: Sequence[str]) -> str:
    """`uk-1, uk-2 and 38 more`."""
    shown = members if len(members) <= MOST_NAMED else members[: MOST_NAMED - 1]
    more = f" and {len(members) - len(shown)} more" if len(members) > len(shown) else ""
    return f"{', '.join(shown)}{more}"


def _circle(rollouts: Sequence[Sequence[Wave]]) -> str:
    """Why the waves of several rollouts would wait for each other; "" if they do not."""
    order: dict[str, set[str]] = {}
    for earlier, later in _orders(rollouts):
        order.setdefault(later, set()).add(earlier)
    try:
        graphlib.TopologicalSorter(order).prepare()
    except graphlib.CycleError as error:
        hosts = " and ".join(sorted({it for it in error.args[1] if not it.startswith(":")}))
        return f"has its waves in another order than other rollouts, so {hosts} would wait for each other"
    return ""


def _orders(rollouts: Sequence[Sequence[Wave]]) -> Iterator[tuple[str, str]]:
    """Which host comes before which, by a mark for each step between two waves."""
    for number, waves in enumerate(rollouts):
        for step, (one, other) in enumerate(pairwise(wave for wave in waves if wave.hosts)):
            mark = f":{number}:{step}"
            yield from ((host, mark) for host in sorted(one.hosts))
            yield from ((mark, host) for host in sorted(other.hosts))
