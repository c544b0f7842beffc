"""Unquoted scalars as compose-go reads them, and as it prints them where a text is wanted.  Pure.

Its YAML (go.yaml.in/yaml/v4) reads `2.0`, `08`, `1_000` and `2024-06-01` as numbers and a date, and Compose prints them
as `2`, `8`, `1000` and `2024-06-01 00:00:00 +0000 UTC`.  Quotes keep a text as it is.
"""

from __future__ import annotations

import math
import re
from datetime import datetime
from decimal import Decimal

_NUMBER_LIKE = re.compile(r"(?:[-+]_*)?(?:\.(?:inf|Inf|INF|nan|NaN|NAN)|[.0-9][0-9A-Fa-f_.+xXoO-]*)")
_TIME = re.compile(
    r"([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:(?:[Tt](?=.*[Z+-])| (?=[0-9:.,]*$))([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:[.,][0-9]+)?"
    r"(?:Z|[-+][0-9]{2}:[0-9]{2})?)?"
)
_INTEGER = re.compile(r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_BETWEEN_DIGITS = re.compile("(?<=[0-9])_(?=[0-9])")
_SPECIAL = {"-0": "-0", "-0.0": "-0", ".inf": "+Inf", "+.inf": "+Inf", "-.inf": "-Inf", ".nan": "NaN"}
_MAX_DIGITS = 1000  # Python converts 4300 at most; no number of 64 bits has as many
_WORDS = ("true", "True", "TRUE", "false", "False", "FALSE")


def printed(written: str) -> str:
    """What Compose prints of an unquoted scalar: `written` itself if YAML reads a string, "a time" for a time."""
    if written in _WORDS:
        return written.lower()
    if is_time(written):
        return "a time"
    if not _NUMBER_LIKE.fullmatch(written):
        return written
    if written.lower() in _SPECIAL:
        return _SPECIAL[written.lower()]
    plain = _BETWEEN_DIGITS.sub("", written) if written.startswith(".") else written.replace("_", "")
    if len(plain) <= _MAX_DIGITS and (found := _INTEGER.fullmatch(plain)):
        sign, *digits = found.groups()
        number = next(int(sign + some, base) for some, base in zip(digits, (16, 2, 8, 10), strict=True) if some)
        if -(1 << 63) <= number < 1 << (63 if sign else 64):
            return str(number)
    if _FLOAT.fullmatch(plain) and math.isfinite(value := float(plain)):
        return _number(value)
    return written


def is_time(written: str) -> bool:
    """Does YAML read an unquoted scalar as a date or a time?"""
    found = _TIME.fullmatch(written) if written[4:5] == "-" else None
    if not found:
        return False
    year, month, day, hour, minute, second = (int(part) for part in found.groups("0"))
    try:
        datetime(year or 4, month, day, hour, minute, second)
    except ValueError:
        return False
    return True


def _number(number: float) -> str:
    """A number in the way of Go: the shortest text of it, with an exponent from a million on and below 0.0001."""
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    if not number or 1e-4 <= abs(number) < 1e6:
        return repr(number).removesuffix(".0")
    assert isinstance(exponent, int)
    first, *rest = map(str, digits)
    mantissa = f"{first}.{''.join(rest)}" if rest else first
    return f"{'-' if sign else ''}{mantissa}e{exponent + len(rest):+03d}"
