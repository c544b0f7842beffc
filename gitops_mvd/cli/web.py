"""`mvd web`: the page of this server, or of several."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import click

from gitops_mvd.cli.daemon_api import at
from gitops_mvd.cli.log_lines import OneLine
from gitops_mvd.cli.server import log_to_stderr, read_settings
from gitops_mvd.config.settings import Settings
from gitops_mvd.core.errors import Unavailable


@click.command(epilog="Example: mvd web --hosts hosts.yaml")
@click.option(
    "--hosts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The servers to show, in the place of `web.hosts`: a YAML file with a name and an address a line.",
)
@click.pass_obj
def web(config: Path, hosts: Path | None) -> int:
    """Serve the page: apps, deploys, plan, logs, events, for a browser.

    It asks the daemon over its sockets, and needs no root; `mvd install --web` makes a service of it.  With --hosts, it
    needs no settings and no daemon here: the other servers are asked by ssh, or at their own pages.
    """
    from gitops_mvd.config.settings.web import read_hosts
    from gitops_mvd.web.server import serve

    log_to_stderr(OneLine("%(levelname)s %(message)s"))
    settings = Settings("") if hosts and not config.exists() else read_settings(config)
    page = settings.web
    if hosts:
        try:
            page = replace(page, hosts=read_hosts(str(hosts), hosts.read_bytes()))
        except OSError as error:
            raise Unavailable(f"cannot read {hosts}: {error.strerror}") from error
    serve(page, settings.swarm or settings.host or socket.gethostname(), at(Path(settings.run)))
    return 0
