"""Words that are gone: each has a plain one in its place, and nobody brings it back by accident."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]

# What was said, and what is said now.
GONE = {
    r"can not": "cannot",
    r"ailment|ailing": "health reason",
    r"condemn\w*": "mark failed",
    r"pardon\w*": "clear, retry",
    r"shaken": "disrupted",
    r"to be had": "available",
    r"(is|are|was|were) told of": "reported",
    r"nothing is blamed": "waiting before judging anything",
    r"is not a key that can stand here": "unknown key",
    r"is no address that is known here": "unsupported repository address",
    r"could not tell of itself": "does not answer",
    r"proposals?": "pull request",
    r"fall(s|en)? ill|is ill": "become unhealthy",
}

# Where a word stays: names in files, databases and settings that older versions wrote, and what they stand in.
STAYS = {
    "gitops_mvd/state/history.py": r"condemned|proposals?",
    "gitops_mvd/config/settings/forge.py": r"proposals",
    "gitops_mvd/git/merges.py": r"refs/mvd/proposals/",
    "gitops_mvd/git/branch.py": r"\.proposals",
    "gitops_mvd/daemon/wiring.py": r"forge\.proposals",
    "gitops_mvd/cli/checks.py": r"\"proposals\"",  # the name of a check in `mvd doctor --json`
    "gitops_mvd/docs/decisions/0018-pull-requests-in-a-separate-repository.md": r"mirror\.proposals",
    "gitops_mvd/docs/settings.md": r"proposals",
}


def texts() -> Iterator[Path]:
    """What a user or a newcomer to the code reads."""
    yield from sorted((ROOT / "gitops_mvd").rglob("*.py"))
    yield from sorted((ROOT / "gitops_mvd" / "docs").rglob("*.md"))
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md"))


def test_a_word_that_is_gone_stays_gone() -> None:
    gone = re.compile("|".join(rf"\b(?:{words})\b" for words in GONE), re.IGNORECASE)
    found = []
    for path in texts():
        name, text = str(path.relative_to(ROOT)), path.read_text("utf-8")
        kept = re.sub(STAYS[name], "", text) if name in STAYS else text
        if gone.search(kept):
            lines = (line.strip() for line in kept.splitlines() if gone.search(line))
            found += [f"{name}: {line}" for line in lines]
    assert not found, "a plain word stands for each in the list above:\n" + "\n".join(found)


def test_every_word_that_stays_is_there() -> None:
    for name, words in STAYS.items():
        assert re.search(words, (ROOT / name).read_text("utf-8")), name
