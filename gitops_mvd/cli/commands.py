"""The commands of `mvd`, one a row, grouped by what one wants to do.  A command's module is imported when it is called.

So `mvd status` loads nothing that only `mvd plan` needs, and `mvd --help` no command at all.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, NamedTuple

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class Listed(NamedTuple):
    """A command in the list: its task, the place of its function as `module:name`, and the first line of its help."""

    task: str
    place: str
    help: str


LOOK, DEPLOY, HOLD, WRITE = "Look", "Deploy", "Hold back", "Write the config repository"
SET_UP, GATEWAY, LEARN = "Set up a server", "Gateway", "Learn"
COMMANDS = {
    "status": Listed(LOOK, "status:status", "Show each app: synced, healthy, and which commit runs."),
    "logs": Listed(LOOK, "logs:logs", "Show what an app or one of its services printed."),
    "history": Listed(LOOK, "history:history", "Show what was done on this server, newest first."),
    "events": Listed(LOOK, "history:events", "Show the latest lines of the daemon's own log."),
    "fleet": Listed(LOOK, "fleet:fleet", "Show each host: synced, healthy, and which commit it is at."),
    "web": Listed(LOOK, "web:web", "Serve the page: apps, deploys, plan, logs, events, for a browser."),
    "explain": Listed(LOOK, "explain:explain", "Show how an app or one of its services is deployed."),
    "plan": Listed(DEPLOY, "plan:plan", "Show what a sync would change, and what that costs; change nothing."),
    "sync": Listed(DEPLOY, "sync:sync", "Fetch the repository and reconcile now."),
    "retry": Listed(DEPLOY, "hold:retry", "Try the failed version of APP again."),
    "suspend": Listed(HOLD, "hold:suspend", "Pause all changes on this server, or those of APP."),
    "resume": Listed(HOLD, "hold:resume", "Allow changes on this server again, or those of APP."),
    "init": Listed(WRITE, "init:init", "Write a config repository that works into FOLDER."),
    "validate": Listed(WRITE, "validate:validate", "Check the config repository in FOLDER."),
    "import": Listed(WRITE, "imports:import_", "Write apps/NAME of this config repository from a Compose project."),
    "export": Listed(WRITE, "export:export", "Write the apps of a config repository for another engine."),
    "schema": Listed(WRITE, "schema:schema", "Print the JSON Schema NAME, or list the schemas."),
    "install": Listed(SET_UP, "install:install", "Install the daemon as a systemd service."),
    "uninstall": Listed(SET_UP, "uninstall:uninstall", "Remove the daemon from this server, and its apps."),
    "doctor": Listed(SET_UP, "doctor:doctor", "Check everything that this server needs, with what to do."),
    "notify": Listed(SET_UP, "notify:notify", "Show who is notified, or send a test message."),
    "metrics": Listed(SET_UP, "metrics:metrics", "Print a dashboard for Grafana, or alert rules for Prometheus."),
    "run": Listed(SET_UP, "run:run", "Run the reconcile loop (what the systemd unit starts)."),
    "kong": Listed(GATEWAY, "kong:kong", "Write what a Kong has into a config repository."),
    "adopt": Listed(GATEWAY, "kong:adopt", "Adopt what this server's Kong has and the repository declares."),
    "forget": Listed(GATEWAY, "kong:forget", "Remove the targets of HOST from a shared Kong."),
    "docs": Listed(LEARN, "docs:docs", "Read a PAGE of the manual, or list its pages."),
}


class Commands(click.Group):
    """The group of all of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].place.partition(":")
        command: click.Command = getattr(importlib.import_module(f"gitops_mvd.cli.{module}"), name)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so, without a load of the commands."""
        from click.shell_completion import CompletionItem

        commands = [CompletionItem(name, help=it.help) for name, it in COMMANDS.items() if name.startswith(incomplete)]
        return commands + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for task in dict.fromkeys(command.task for command in COMMANDS.values()):
            with formatter.section(task):
                rows = [(name.ljust(width), it.help) for name, it in COMMANDS.items() if it.task == task]
                formatter.write_dl(rows)
