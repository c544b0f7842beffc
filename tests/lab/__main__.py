"""Commands of the lab: disposable servers to try and to measure gitops-mvd on."""

from __future__ import annotations

import random
import shutil
import sys
import time
from pathlib import Path

import click

from tests.lab.bench import PARTS
from tests.lab.chaos.faults import FAULTS
from tests.lab.chaos.report import chaos as run_chaos
from tests.lab.claim import CHECKOUT, is_kept
from tests.lab.command import CommandFailed
from tests.lab.demo import demo as run_demo
from tests.lab.engine import LabUnavailable
from tests.lab.forge import Forge
from tests.lab.lab import Lab, down
from tests.lab.release import add_sums, build, problems
from tests.lab.stage import NotTrue


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.option("--keep", is_flag=True, help="Leave the lab up, and say how to look at it.")
def demo(keep: bool) -> None:
    """Run the demo on a real server; exit code 0 only if every step was verified."""
    run_demo(keep)


@main.command()
@click.option("--json", "file", type=click.Path(path_type=Path), default="bench.json", show_default=True)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure this part alone.")
def bench(file: Path, only: tuple[str, ...]) -> None:
    """Measure times and resources, each beside its yardstick; a real server alone takes ten minutes."""
    from tests.lab.bench.measure import bench as measure  # all of the daemon, which nothing else here needs

    measure(file, only)


@main.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--seed", default=lambda: str(random.randrange(1 << 32)), help="Of an earlier run, to have it again.")
@click.option("--only", type=click.Choice(sorted(FAULTS)), multiple=True, help="This fault alone.")
def chaos(minutes: float, seed: str, only: tuple[str, ...]) -> None:
    """Random commits and random faults on a server; exit code 0 only if it always became equal to Git again."""
    sys.exit(run_chaos(seed, minutes, only))


@main.command()
def up() -> None:
    """Boot one server with this checkout installed, beside a registry, and leave them running."""
    with Lab.open(say=click.echo) as lab:
        server = lab.server("h1")
        server.install(lab.wheel)
        click.echo(f"registry: {lab.registry.url}, on the servers {lab.registry.address}")
        prefix = f"DOCKER_HOST={lab.engine.host} " if lab.engine.host else ""
        click.echo(f"server:   {prefix}docker exec -it {server.container} bash")
        lab.keep()


@main.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
def package(folder: Path) -> None:
    """Build the Debian package for the lab's Debian into FOLDER; exit code 0 only if lintian finds no error."""
    with Lab.open(say=click.echo) as lab:
        built = lab.builder.build(folder)
        errors = lab.builder.errors(built)
    click.echo("\n".join([*errors, str(built)]))
    sys.exit(1 if errors else 0)


@main.command()
@click.argument("version")
def release(version: str) -> None:
    """Make all that release VERSION consists of, below dist; publish nothing."""
    dist = CHECKOUT / "dist"
    if found := list(problems(CHECKOUT, version)):
        sys.exit("\n".join(found))
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir()
    build(CHECKOUT, dist)
    with Lab.open(say=click.echo) as lab:
        errors = lab.builder.errors(lab.builder.build(dist))
    add_sums(dist)
    click.echo("\n".join([*errors, (dist / "SHA256SUMS").read_text()]), nl=False)
    sys.exit(1 if errors else 0)


@main.command(hidden=True)
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("host")
@click.argument("port", type=int)
@click.argument("claim", type=click.Path(path_type=Path))
def forge(folder: Path, host: str, port: int, claim: Path) -> None:
    """Be the forge of a lab that is kept, until it is not any more."""
    with Forge(folder, host, port) as served:
        for repository in folder.glob("*/*.git"):
            served.create(str(repository.relative_to(folder)).removesuffix(".git"))
        let_go_of = time.monotonic() + 60  # by then, whoever keeps the lab has said so and ended
        while is_kept(claim) or time.monotonic() < let_go_of:
            time.sleep(1)
    shutil.rmtree(folder)


@main.command(name="down")
def remove() -> None:
    """Remove what earlier labs of this checkout left: kept on purpose, or by a crash."""
    down(say=click.echo)


try:
    main()
except (LabUnavailable, CommandFailed, NotTrue) as error:
    sys.exit(f"lab: {error}")
