"""A run of chaos on the terminal: a line for each round, the story of each that ended badly, and what there was."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tests.lab.chaos.run import Round
from tests.lab.chaos.run import chaos as rounds
from tests.lab.lab import Lab


def chaos(seed: str, minutes: float, only: Sequence[str]) -> int:
    """The exit code: 1 with a violation.  Raises LabUnavailable or CommandFailed."""
    click.echo(f"seed {seed}: make chaos MINUTES={minutes:g} SEED={seed}")
    done: list[Round] = []
    with Lab.open(say=click.echo) as lab:
        for round in rounds(lab, seed, minutes, click.echo, only):
            done.append(round)
            tell(round, seed)
    bad = [round for round in done if round.violations]
    click.echo(
        f"{len(done)} rounds, {len({round.fault for round in done})} faults, {len(bad)} ended badly; seed {seed}"
    )
    return 1 if bad else 0


def tell(round: Round, seed: str) -> None:
    verdict = "VIOLATED" if round.violations else "held"
    asked = f"{round.failed} of {round.asked} requests failed"
    click.echo(f"{round.number:4} {verdict} {round.settled:5.1f} s  {round.fault}: {asked}")
    if round.violations:
        click.echo(f"     seed {seed}, round {round.number}:")
        for line in round.story:
            click.echo(f"     {line}")
        for violation in round.violations:
            click.echo(f"     VIOLATION: {violation}")
