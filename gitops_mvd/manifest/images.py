"""References of images: what may be one, and what is wrong with one that may not.  Pure.

Source: the grammar in reference/reference.go of distribution 3.  As in `docker pull`, what stands before the first `/`
is a registry if it has a `.` or a `:`, or is `localhost`.
"""

from __future__ import annotations

import re

from gitops_mvd.config.readers import filled
from gitops_mvd.config.tables import Place, accepts

LONGEST_NAME = 255
LONGEST_TAG = 128
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REFERENCE = rf"(?:{_HOST}(?::[0-9]+)?/)?{_PART}(?:/{_PART})*(?::{_TAG})?(?:@sha256:[0-9a-f]{{64}})?"
_IMAGE = re.compile(_REFERENCE)


@accepts({"type": "string", "pattern": f"^{_REFERENCE}$"})
def image(place: Place) -> str:
    """The reference of an image, as written."""
    written = filled(place)
    if why := _why_not(written):
        place.fail(f"must be the name of an image, not {written[:LONGEST_NAME]!r}: {why}")
    return written


def _why_not(written: str) -> str:
    name, at, digest = written.partition("@")
    if len(name) > LONGEST_NAME + LONGEST_TAG:
        return f"it has {len(name)} characters, and may have {LONGEST_NAME}"
    if at and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
        return "a digest is sha256: and 64 hexadecimal digits"
    path, colon, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "")
    if colon and not re.fullmatch(_TAG, tag):
        return f"the tag {tag!r} is not valid" if tag else "there is no tag after the `:`"
    first, slash, rest = path.partition("/")
    repository = rest if slash and (set(first) & set(".:[") or first == "localhost") else path
    if repository != repository.lower():
        return f"a repository has no capitals, {repository.lower()}"
    if len(path) > LONGEST_NAME:
        return f"it has {len(path)} characters, and may have {LONGEST_NAME}"
    return "" if _IMAGE.fullmatch(written) else "it is [registry/]repository[:tag], as for `docker pull`"
