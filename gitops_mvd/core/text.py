"""Text from outside, made fit to be a key, a row, a status, a line of a log or of a terminal.  Pure.

Names of files, subjects of commits, and messages of Git, Docker, Kong and forges may hold bytes that are no text,
sequences that steer a terminal, and characters that turn the direction of what follows.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_LINE = 2_000  # characters
LONGEST_TEXT = 20_000
_JOINERS = "\u200c\u200d"  # they belong to the writing of several languages, and to emoji


def plain_line(text: str, most: int = LONGEST_LINE) -> str:
    """`text` as one line of printable characters, cut with `…` after `most`.

    White space becomes a space, and whatever else cannot be printed is shown by its number: `\\xff` for a byte that is
    no UTF-8, `\\x1b` for an escape.  What is plain already is returned as it is.
    """
    if len(text) <= most and text.isprintable():
        return text
    line = "".join(c if _is_plain(c) else " " if c.isspace() else _shown(c) for c in text[: most + 1])
    return line if len(line) <= most else line[: most - 1] + "…"


def plain_text(text: str, most: int = LONGEST_TEXT) -> str:
    """The same for a text of several lines, which stay apart."""
    if len(text) <= most and text.isprintable():
        return text
    kept = "".join(c if c in "\n\t" or _is_plain(c) else _shown(c) for c in text[: most + 1].replace("\r\n", "\n"))
    return kept if len(kept) <= most else kept[: most - 1] + "…"


_STEERING = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


def without_colours(text: str) -> str:
    """`text` without the sequences that colour a terminal or steer it (ECMA-48)."""
    return _STEERING.sub("", text) if "\x1b" in text else text


_LOGIN = re.compile(r"^((?!ssh:)[\w+.-]+://)[^/]*@")


def without_login(url: str) -> str:
    """`url` without the user and password, or the token, in front of its host; one of ssh keeps its user."""
    return _LOGIN.sub(r"\1", url)


def first_words(text: str, most: int = 200) -> str:
    """The beginning of an answer, which may as well be a page of HTML."""
    return " ".join(re.sub(r"<[^<>]*>", " ", text[:LONGEST_TEXT]).split())[:most]


def reason(operation: str, why: str) -> str:
    """Why an app is as it is: what is waited for, and will be tried again, is told so."""
    return f"waiting: {why}" if operation == "Running" and why and not why.startswith("waiting") else why


_WAY = re.compile(  # by which an engine, its shim and its runtime hand a failure on, each in front of the next
    r"(?:Error response from daemon: |failed to create (?:shim )?task(?: for container)?: "
    r"|failed to start container \S+: "
    r"|(?:OCI runtime|runc|crun) create failed: |(?:container|process)_linux\.go:\d+: "
    r"|starting container process caused: |unable to start container process: |error during container init: "
    r"|failed to set up container networking: |failed to create endpoint \S+ on network \S+: "
    r"|driver failed programming [^(]*\([0-9a-f]{64}\): )+"
)
_MOUNT = re.compile(
    r"mount (?:\S+ \(via /proc/self/fd/\d+\), (?:flags|data): .*?|src=\S+ dst=.*?): (?=[a-z])"
    r"|unsafe procfs detected: openat2 \S+: "
)
_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def cause(text: str) -> str:
    """What a container engine says, without the way to it, and with short ids: the cause is to be read at first."""
    if way := _WAY.match(text):
        text = _MOUNT.sub("", text[way.end() :])
    return _ID.sub(r"\1", text)


def _is_plain(c: str) -> bool:
    return c.isprintable() or c in _JOINERS or unicodedata.category(c) in ("Cn", "Co", "Zs")


def _shown(c: str) -> str:
    number = ord(c)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that Python could not decode
        return f"\\x{number - 0xDC00:02x}"
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
