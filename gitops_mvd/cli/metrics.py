"""`mvd metrics`: what reads the metrics of the daemon, a dashboard and alert rules, which come with the package."""

from __future__ import annotations

from importlib import resources

import click

FILES = {
    "dashboard": ("dashboard.json", "A dashboard for Grafana"),
    "rules": ("rules.yaml", "Alert rules for Prometheus"),
}


@click.command(epilog="Example: mvd metrics rules")
@click.argument("name", default="")
def metrics(name: str) -> int:
    """Print a dashboard for Grafana, or alert rules for Prometheus.

    NAME is `dashboard` or `rules`; without it, both are listed.  How metrics are read: mvd docs operations.
    """
    if not name:
        for known, (_, what) in FILES.items():
            click.echo(f"{known:<10} {what}")
        return 0
    if name not in FILES:
        raise click.UsageError(f"no such file: {name}. Files: {', '.join(FILES)}")
    file, _ = FILES[name]
    click.echo(resources.files("gitops_mvd.metrics").joinpath(file).read_text(encoding="utf-8"), nl=False)
    return 0
