"""A Click group whose commands are imported when they are run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from facerec.errors import near_match

__all__ = ["CommandTable", "LazyGroup"]

CommandTable = Mapping[str, tuple[str, str]]
"""Name -> (``module:attribute``, one line of help); the help stands here so that ``--help`` imports no command."""


class LazyGroup(click.Group):
    """A group that knows its commands by a table."""

    def __init__(self, *, table: CommandTable, aliases: Mapping[str, str] | None = None, **settings: Any) -> None:
        super().__init__(**settings)
        self._table = table
        self._aliases = aliases or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        row = self._table.get(self._aliases.get(cmd_name, cmd_name))
        if row is None:
            return None
        module, _, attribute = row[0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that the first argument names; the sentence for a wrong name has a near one."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            near = near_match(name, [*self._table, *self._aliases])
            ctx.fail(f"there is no command '{name}'{near}; {ctx.command_path} --help lists them")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing what it names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._table.items()])
