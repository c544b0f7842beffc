"""What Kubernetes takes for a name: letters, digits and dashes.  What is changed gets a digest.  Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

LONGEST_LABEL = 63  # RFC 1123
LONGEST_WORKLOAD = 52  # Kubernetes puts up to 11 characters behind it, and keeps that as a label
_DIGEST = 6

_LABEL_VALUE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_QUALIFIED = re.compile(
    r"(?:(?=.{1,253}/)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*/)?"
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
)
PART_OF, NAME = "app.kubernetes.io/part-of", "app.kubernetes.io/name"


def label(text: str, longest: int = LONGEST_LABEL) -> str:
    """The text as an RFC 1123 label; one that is none already gets a digest of the text."""
    made = word(text)
    if made and made == text and len(text) <= longest:
        return text
    kept = made[: longest - _DIGEST - 1].strip("-")
    return f"{kept}-{digest(text)}" if kept else f"x{digest(text)}"


def word(text: str) -> str:
    """The text in letters, digits and dashes; others may become the same."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def service_label(text: str) -> str:
    """The text as the name of a Service, which begins with a letter."""
    return label(text if text[:1].isalpha() and text[:1].isascii() else f"s-{text}")


def workload_label(text: str) -> str:
    return label(text, LONGEST_WORKLOAD)


def namespace(app: str) -> str:
    return label(app)


def network_name(app: str, real: str) -> str:
    """The name of a network in its Compose file, for one that has no name of its own."""
    return re.sub(r"-[0-9a-f]{8}\Z", "", real.removeprefix(f"mvd-{app}-")) if real.startswith(f"mvd-{app}-") else real


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGEST]


def unique(names: Iterable[str]) -> Mapping[str, str]:
    """Each name as a label, no two the same."""
    given = list(dict.fromkeys(names))
    made = {name: label(name) for name in given}
    taken = list(made.values())
    return {
        name: one if taken.count(one) == 1 else label(f"{one[: LONGEST_LABEL - _DIGEST - 1]}-{digest(name)}")
        for name, one in made.items()
    }


def is_label_value(text: str) -> bool:
    """Can a label have that value?"""
    return text == "" or bool(_LABEL_VALUE.fullmatch(text))


def is_qualified(text: str) -> bool:
    """Can a label or an annotation have that name?"""
    return bool(_QUALIFIED.fullmatch(text))


def labels(app: str, service: str) -> dict[str, str]:
    """The labels of all that is of a service, by which its pods are selected."""
    return {NAME: label(service), PART_OF: label(app)}
