"""`make oracle`: what gitops-mvd and compose-go read of the same files, and what differs without a reason."""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.oracle.client import Answer, Asked, Oracle
from tests.oracle.compare import differences, ours
from tests.oracle.known import why_accepted, why_different
from tests.oracle.mutants import changed, fixtures, made, of_text
from tests.oracle.normal import of_project
from tests.oracle.recorded import ANSWERS, answers_of, cases


def main() -> int:
    """The number of findings, at most 100."""
    options = _options()
    findings: list[str] = []
    counts: Counter[str] = Counter()
    with Oracle(options.program) as oracle:
        given = answers_of(oracle, cases())
        if options.accept:
            ANSWERS.write_text(given)
        elif ANSWERS.read_text() != given:
            findings.append(
                f"{ANSWERS}: compose-go answers otherwise now: run `make oracle ACCEPT=1`, and look at the diff"
            )
        for name, asked in _every(options.seed, options.count):
            answer = oracle.ask(asked)
            outcome, found = _compared(asked, answer)
            counts[outcome] += 1
            findings += [f"{name}: {line}" for line in found]
    for line in findings:
        print(line)
    told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    print(f"{counts.total()} apps: {told}; {len(findings)} findings (seed {options.seed})")
    return min(len(findings), 100)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("program", type=Path, help="where to build the program of main.go")
    parser.add_argument("--seed", type=int, default=1, help="another one makes other files")
    parser.add_argument("--count", type=int, default=2000, help="how many files to make")
    parser.add_argument(
        "--accept", action="store_true", help="record what compose-go answers to the cases of the tests"
    )
    return parser.parse_args()


def _every(seed: int, count: int) -> Iterator[tuple[str, Asked]]:
    """The apps of the fixtures and the example, as they are and changed, and made ones; each with its name."""
    known = list(fixtures())
    yield from known
    for number in range(count):
        random = Random(f"{seed}/{number}")
        if number % 4 == 0:
            name, asked = random.choice(known)
            yield f"{name} changed by {number}", changed(random, asked)
        elif number % 4 == 1:
            yield f"text {number}", of_text(random)
        else:
            asked = made(random)
            yield f"made {number}", changed(random, asked) if random.random() < 0.4 else asked


def _compared(asked: Asked, answer: Answer) -> tuple[str, list[str]]:
    """What became of it, and the findings."""
    read = ours(asked)
    if answer.error and read.problems:
        return "refused by both", []
    if answer.error:
        found = [] if why_accepted(answer.error, asked) else [f"compose-go refuses it: {answer.error}"]
        return "refused by compose-go", found
    if read.problems:
        return "refused by gitops-mvd", []
    assert answer.project
    different = list(differences(of_project(answer.project, asked), read))
    noted = [re.sub(r"\.(volumes|configs|secrets)\b", ".mounts", note.key) for note in read.notes]
    lines = [
        f"{path}: compose-go has {theirs!r}, gitops-mvd {mine!r}"
        for path, theirs, mine in different
        if not why_different(path, asked)
        and not any(key.startswith(path) or path.startswith(key) for key in noted if key)
    ]
    return "different" if different else "equal", lines


if __name__ == "__main__":
    sys.exit(main())
