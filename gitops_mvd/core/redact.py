"""Text without the secrets in it: the one place that everything passes before somebody sees it.

told_line, told_text   plain text, bounded, without any secret that this process knows: what a status, a comment, a
                       row of the history, a line of the log or of a terminal is made of
learn                  makes secrets known: whoever reads one, or reads the manifest of an app, says so here
redact                 a text without some secrets, and also without those that are too plain to be looked for
                       in messages about others
secrets_of             what may be secret of what an app is given
"""

from __future__ import annotations

import base64
import binascii
import bisect
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from gitops_mvd.core.secret_words import NAME, PLACE, PLAIN_ANSWER, is_about, is_telling, passwords, secret_name
from gitops_mvd.core.secrets import BEGINS
from gitops_mvd.core.text import LONGEST_LINE, LONGEST_TEXT, plain_line, plain_text

if TYPE_CHECKING:
    from gitops_mvd.core.model import App, Service

SHORTEST_SECRET = 4  # characters; anything shorter would black out ordinary words
SHORTEST_PART = 6  # characters of its beginning, as in a log line that was cut off
LONGEST_WORDS = 12  # characters that a beginning may have and still be words, which count only with what follows
LONGEST_SECRET = 4096
MOST_LINES = 200  # of one file
MOST_VERSIONS = 8  # of one source that are known: what an older one printed is still told; with and without digests
SECRETS_FOLDER = "/run/secrets/"
STRUCK = "***"

_ASSIGNED = re.compile(r"""^\s*(?:export\s+|--?)?["']?([\w.-]+)["']?\s*[=:]\s*["']?(.*?)["']?,?\s*$""")
_RANDOM = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[^\s./:]{8,}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX = re.compile(r"(?:[0-9A-Fa-f]{2}){4,}")


class Struck:
    """Secrets, to be struck out of texts.  How long that takes hardly depends on how many there are.

    Any thread may add some while others use it: each list and set is changed by one atomic operation.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._heads: set[str] = set()  # their first four characters
        self._places: tuple[set[str], ...] = tuple(set() for _ in range(SHORTEST_SECRET))  # the characters of heads
        self._may_begin = 0, re.compile("")  # how many those were, and where a text has four of them, each at its place
        self._whole: set[str] = set()  # those of which no beginning counts, and those that are short
        self._lengths: set[int] = set()  # of those
        self._others: set[str] = set()
        self._sorted: list[str] = []  # those with beginnings: one that a text begins like is a neighbour of that text
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        for form in {form for secret in secrets if len(secret) >= SHORTEST_SECRET for form in _forms(secret)}:
            is_whole_alone = len(form) <= SHORTEST_PART or "://" in form
            if is_whole_alone or len(form) <= LONGEST_WORDS:  # else another one that begins so may hide it
                self._whole.add(form)
                self._lengths.add(len(form))
            if not is_whole_alone and form not in self._others:
                self._others.add(form)
                bisect.insort(self._sorted, form)
            self._add_head(form[:SHORTEST_SECRET])

    def _add_head(self, head: str) -> None:
        self._heads.add(head)
        for known, character in zip(self._places, head, strict=False):
            known.add(character)

    def _beginnings(self, text: str) -> Iterator[int]:
        """Where a text may have a head: by a regular expression, which is faster the fewer characters heads have."""
        size = sum(map(len, self._places))
        may_begin = self._may_begin
        if may_begin[0] != size:
            classes = (f"[{''.join(map(re.escape, known.copy()))}]" for known in self._places)
            may_begin = self._may_begin = size, re.compile(f"(?={''.join(classes)})")
        return (found.start() for found in may_begin[1].finditer(text))

    def out_of(self, text: str) -> str:
        """`text` with `***` for every secret, written plainly, in base64, hex, as in a URL or in JSON.

        So is the beginning of one, from 6 characters on.
        """
        if not self._heads:
            return text
        spans = sorted([*self._plain(text), *self._encoded(text)])
        parts: list[str] = []
        at = 0
        for start, end in spans:
            if start > at or not parts:
                parts.append(text[at:start])
            at = max(at, end)
        return STRUCK.join([*parts, text[at:]]) if spans else text

    def _plain(self, text: str) -> list[tuple[int, int]]:
        heads, size = self._heads, SHORTEST_SECRET
        starts = (start for start in self._beginnings(text) if text[start : start + size] in heads)
        ends = ((start, self._end(text, start)) for start in starts)
        return [(start, end) for start, end in ends if end]

    def _end(self, text: str, start: int) -> int:
        """Where the longest secret, or the longest beginning of one, ends that begins there; 0 if none does."""
        lengths = [length for length in tuple(self._lengths) if text[start : start + length] in self._whole]
        rest = text[start : start + LONGEST_SECRET]
        place = bisect.bisect_left(self._sorted, rest)
        for form in self._sorted[max(0, place - 1) : place + 1]:
            length = _alike(form, rest)
            if length >= _shortest(form):
                lengths.append(length)
        return start + max(lengths) if lengths else 0

    def _encoded(self, text: str) -> list[tuple[int, int]]:
        """The words in base64 or hex in which a secret is."""
        words = [(word.span(), [*_from_base64(word[0])]) for word in _BASE64.finditer(text)]
        words += [(word.span(), [_from_hex(word[0])]) for word in _HEX.finditer(text)]
        if not self._plain("\n".join(said for _, meanings in words for said in meanings)):
            return []  # as nearly always
        return [span for span, meanings in words if any(map(self._plain, meanings))]


class Known:
    """The secrets of this process, by who has them.  Any thread may use it, as each change is one atomic operation."""

    def __init__(self) -> None:
        self._ticks = itertools.count()
        self.forget()

    def forget(self) -> None:
        self._of: dict[str, dict[str, tuple[int, frozenset[str]]]] = {}  # by version: when it was last had, and its own
        self._struck = Struck()
        self._outdated = 0

    def learn(self, source: str, version: str, secrets: Callable[[], Iterable[str]]) -> None:
        """Strike out the secrets of a source from now on, in place of those of its older versions.

        Nothing is done for a version that is known; `secrets` is then not called.
        """
        versions = self._of.setdefault(source, {})
        if known := versions.get(version):
            versions[version] = (next(self._ticks), known[1])
            return
        telling = frozenset(filter(is_telling, secrets()))
        versions[version] = (next(self._ticks), telling)
        self._struck.add(telling)
        self._forget_oldest(versions)

    def _forget_oldest(self, versions: dict[str, tuple[int, frozenset[str]]]) -> None:
        by_age = sorted((last, version) for version, (last, _) in list(versions.items()))
        for _, version in by_age[:-MOST_VERSIONS]:
            self._outdated += versions.pop(version, None) is not None
        if self._outdated > len(self._of):
            self._outdated = 0
            self._struck = Struck(self._all())
            self._struck.add(self._all())  # what another thread has added to the one before meanwhile

    def _all(self) -> set[str]:
        tables = [list(versions.values()) for versions in list(self._of.values())]
        return {secret for versions in tables for _, secrets in versions for secret in secrets}

    def out_of(self, text: str) -> str:
        return self._struck.out_of(text)


known = Known()


def learn(source: str, *secrets: str) -> None:
    """Make known what a source, such as a file of the settings, has by now: all of it, its lines and its values."""
    import hashlib  # a command that learns none starts without OpenSSL

    version = hashlib.sha256(json.dumps(secrets).encode()).hexdigest()
    known.learn(source, version, lambda: parts_of(secrets))


def learn_apps(apps: Iterable[App]) -> None:
    """Make known what is surely secret of what apps are given."""
    for app in apps:
        known.learn(f"app {app.name}", app.version, functools.partial(secrets_of_app, app, sure=True))


def told_line(text: str, most: int = LONGEST_LINE) -> str:
    """`text` as one plain line of at most `most` characters, without any known secret."""
    return plain_line(known.out_of(text[: 2 * most]), most)


def told_text(text: str, most: int = LONGEST_TEXT) -> str:
    """The same for a text of several lines, which stay apart."""
    return plain_text(known.out_of(text[: 2 * most]), most)


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` for every one of some secrets, however it is written, and for the beginning of one."""
    return Struck(secrets).out_of(text) if text else text


# ---- what is secret --------------------------------------------------------------------------------------------------


def secrets_of(service: Service, *, sure: bool = False) -> set[str]:
    """What may be secret of what a service is given.

    That are values that are called so or look so, wherever they stand, passwords in texts and addresses, and of its
    files each line, and the values on it.  All that lies in /run/secrets is secret.  `sure` leaves out what just looks
    random, as names and versions do.
    """
    found = set(_anywhere("", {"run": service.run, "check": service.check.spec, "kong": service.kong}))
    for name, value in service.environment.items():
        if BEGINS not in value:  # else it has the name of a secret, and not the secret
            found |= set(_values(name, value))
    for file in service.files:
        is_secret = file.target.startswith(SECRETS_FOLDER)
        for content in file.files.values():
            found.add((content.strip(), is_secret))
            found |= set(_lines(content, is_secret))
    return {text for text, is_sure in found if SHORTEST_SECRET <= len(text) <= LONGEST_SECRET and (is_sure or not sure)}


def parts_of(contents: Iterable[str]) -> set[str]:
    """The contents of secrets, each line of them, and the values on it."""
    found = {part for content in contents for part in (content.strip(), *(it for it, _ in _lines(content, True)))}
    return {part for part in found if SHORTEST_SECRET <= len(part) <= LONGEST_SECRET}


def secrets_of_app(app: App, *, sure: bool = False) -> set[str]:
    """The same of an app, with what its networks, volumes and Kong-wide entities have."""
    of_app = {"networks": app.networks, "volumes": app.volumes, "kong": app.kong_entities}
    found = {it for it, is_sure in _anywhere("", of_app) if len(it) >= SHORTEST_SECRET and (is_sure or not sure)}
    return found.union(*(secrets_of(service, sure=sure) for service in app.services))


def without_secrets(value: object) -> object:
    """A JSON value with `***` for whatever may be secret in it."""
    struck = Struck(it for it, _ in _anywhere("", value))

    def plain(value: object) -> object:
        match value:
            case str():
                return struck.out_of(value)
            case Mapping():
                return {key: plain(inner) for key, inner in value.items()}
            case list() | tuple():
                return [plain(item) for item in value]
        return value

    return plain(value)


Secret = tuple[str, bool]
"""A text, and whether it is surely a secret."""


def _anywhere(name: str, value: object) -> Iterator[Secret]:
    """The secrets in a value of the manifest, which has that name."""
    match value:
        case str():
            yield from _values(name, value)
            if assigned := _ASSIGNED.match(value):
                yield from _values(*assigned.groups())
        case Mapping():
            for key, inner in value.items():
                yield from _anywhere(str(key), inner)
        case list() | tuple():
            if all(isinstance(item, str) for item in value):  # as a command: `--password`, and its value behind it
                yield from ((it, True) for it in passwords(" ".join(value)))
            for item in value:
                yield from _anywhere(name, item)


def _values(name: str, value: str) -> Iterator[Secret]:
    yield from ((it, True) for it in passwords(value))
    named = NAME.search(name) is not None
    if named or _RANDOM.fullmatch(value):
        is_sure = _is_sure(name, value) and not PLACE.fullmatch(value) and not PLAIN_ANSWER.fullmatch(value)
        yield value, is_sure
        yield from ((line.strip(), is_sure) for line in value.splitlines()[:MOST_LINES])


def _is_sure(name: str, value: str) -> bool:
    """Is it called a secret, or at least so that it may be one, and looks like one?"""
    if secret_name(name) or name.lower() == "key":  # as a credential of Kong has it
        return True
    return NAME.search(name) is not None and not is_about(name) and _RANDOM.fullmatch(value) is not None


def _lines(content: str, is_secret: bool) -> Iterator[Secret]:
    for line in content.splitlines()[:MOST_LINES]:
        if is_secret:
            yield line.strip(), True
        yield from ((it, True) for it in passwords(line))
        if assigned := _ASSIGNED.match(line):
            yield from [(assigned[2], True)] if is_secret else _values(*assigned.groups())


# ---- how it is written -----------------------------------------------------------------------------------------------


def _forms(secret: str) -> set[str]:
    """A secret in the ways that programs print it; base64 and hex are read back instead."""
    if secret.isalnum() and secret.isascii():
        return {secret}
    raw = secret.encode("utf-8", "surrogateescape") if _is_text(secret) else secret.encode("utf-8", "replace")
    escaped = json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]
    in_url = quote(raw, safe=""), quote_plus(raw), quote(raw)
    return {secret, plain_line(secret, LONGEST_SECRET), *escaped, *in_url, *map(_lower_hex, in_url)}


def _lower_hex(quoted: str) -> str:
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), quoted)


def _is_text(secret: str) -> bool:
    try:
        secret.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _shortest(secret: str) -> int:
    """How long a beginning of it counts: 6 characters or, if these are words, those words with one more."""
    shortest = SHORTEST_PART
    while shortest < min(len(secret), LONGEST_WORDS) and secret[:shortest].replace(" ", "a").isalpha():
        if not secret[:shortest].islower():
            break
        shortest += 1
    return shortest


def _alike(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    if other.startswith(one):
        return len(one)
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(other))


def _from_hex(word: str) -> str:
    return bytes.fromhex(word).decode("utf-8", "replace")


def _from_base64(word: str) -> Iterator[str]:
    """What a word says in base64, from whichever of its first characters it begins."""
    word = word.rstrip("=").replace("-", "+").replace("_", "/")
    for start in range(4):
        part = word[start:]
        part = part[: len(part) - (len(part) % 4 == 1)]
        try:
            yield base64.b64decode(part + "=" * (-len(part) % 4)).decode("utf-8", "replace")
        except binascii.Error:
            continue
