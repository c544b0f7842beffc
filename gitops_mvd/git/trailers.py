"""The trailers of a commit's message, such as `Approved-by: anna`.  Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

_TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,60})[ \t]*:[ \t]*(\S.*)")


def trailers_of(message: str) -> Mapping[str, str]:
    """Name in lower case -> value, the last one of each name: the lines of its last paragraph that are trailers.

    The first paragraph is the subject, and has none.
    """
    paragraphs = re.split(r"\n[ \t]*(?:\n[ \t]*)+", message.replace("\r\n", "\n").strip())
    if len(paragraphs) < 2:
        return {}
    found = (_TRAILER.fullmatch(line.strip()) for line in paragraphs[-1].splitlines())
    return {it[1].lower(): it[2].strip() for it in found if it}
