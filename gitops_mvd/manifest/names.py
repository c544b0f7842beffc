"""Names: what may be one, and how long it may be.  Pure."""

from __future__ import annotations

import re

from gitops_mvd.config.readers import filled
from gitops_mvd.config.tables import Place


def misnamed(name: str, form: re.Pattern[str], made_of: str, longest: int) -> str:
    """What is wrong with a name, as the end of a sentence; "" if nothing is.  `made_of` says what `form` allows."""
    if not form.fullmatch(name):
        return f"use {made_of}"
    return f"it has {len(name)} characters, and may have {longest}" if len(name) > longest else ""


def named(place: Place, form: re.Pattern[str], made_of: str, longest: int) -> str:
    """The name at a place.  Raises Invalid for what is none, after it was reported."""
    name = filled(place)
    if why := misnamed(name, form, made_of, longest):
        place.fail(f"is not a valid name: {why}")
    return name
