"""The command `mvd`: its commands put together, its exit codes, and how an error is shown.

Exit codes: 0 success, 1 an error or something unhealthy, 130 interrupted, and for `mvd plan` and `mvd adopt --json`
2 if there is something to change; for `mvd export` 2 if the repository cannot be read.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from gitops_mvd.cli.commands import Commands
from gitops_mvd.cli.output import print_error, telling
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.redact import told_text

SETTINGS = "/etc/gitops-mvd/config.yaml"


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="An example of each: mvd COMMAND --help.  The manual: mvd docs",
)
@click.version_option(package_name="gitops-mvd", prog_name="mvd")
@click.option(
    "-c",
    "--config",
    default=SETTINGS,
    envvar="MVD_CONFIG",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The settings of this server.",
)
@click.pass_context
def mvd(context: click.Context, config: Path) -> None:
    """Keep this server equal to a Git repository: systemd units, Docker containers, Kong routes."""
    context.obj = Path(os.path.abspath(config))  # as the daemon names its own


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The console script; `arguments` are those of the process by default."""
    with telling():
        sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    """The exit code of a command, whose error is shown."""
    try:
        return mvd(arguments, prog_name="mvd", standalone_mode=False) or 0
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
    except MvdError as error:
        print_error(error)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        click.echo(told_text(traceback.format_exc()), err=True)
        click.echo(f"mvd: internal error: {type(error).__name__}. Please report it, with the lines above", err=True)
    return 1
