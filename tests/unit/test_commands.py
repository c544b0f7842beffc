"""The list of commands says what the commands say of themselves, and no command loads what another one needs."""

from __future__ import annotations

import shlex

import click
import pytest

from gitops_mvd.cli.commands import COMMANDS
from gitops_mvd.cli.main import mvd

CONTEXT = click.Context(mvd)


def command(name: str) -> click.Command:
    found = mvd.get_command(CONTEXT, name)
    assert found
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_of_itself_what_the_list_says(name: str) -> None:
    assert command(name).name == name
    assert (command(name).help or "").splitlines()[0] == COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_can_be_typed(name: str) -> None:
    epilog = command(name).epilog or ""
    assert epilog.startswith(f"Example: mvd {name}")
    _, *words = shlex.split(epilog.removeprefix("Example: "))
    with CONTEXT.scope():
        group: click.Command = mvd
        while isinstance(group, click.Group) and words and not words[0].startswith("-"):
            _, found, words = group.resolve_command(CONTEXT, words)
            assert found
            group = found
        group.make_context(name, words, CONTEXT)


def test_the_list_has_each_task_once_with_its_commands() -> None:
    text = mvd.get_help(CONTEXT)
    places = [text.index(f"\n{task}:\n") for task in dict.fromkeys(it.task for it in COMMANDS.values())]
    assert places == sorted(places)
    assert all(f"\n  {name} " in text for name in COMMANDS)
