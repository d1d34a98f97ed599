"""``ckpt-doctor explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .console import color_option, presentation, write

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def _complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes, and once something else is typed, names."""
    from click.shell_completion import CompletionItem

    from ckpt_doctor.rules import TABLE

    codes = [CompletionItem(rule.code, help=rule.name) for rule in TABLE if rule.code.startswith(incomplete.upper())]
    return codes or [CompletionItem(rule.name) for rule in TABLE if rule.name.startswith(incomplete.lower())]


@click.command("explain", short_help="Say what a rule means.")
@click.argument("rule", required=False, shell_complete=_complete)
@click.option("--all", "everything", is_flag=True, help="Explain every rule.")
@color_option
def command(rule: str | None, everything: bool, color: str) -> None:
    """Say what RULE means, why it matters and what to do. RULE is a code or a name, such as CKD201."""
    if (rule is None) != everything:
        raise click.UsageError("Give one rule or --all.")
    from ckpt_doctor.reporting.rule_pages import pages
    from ckpt_doctor.rules import RULES
    from ckpt_doctor.rules._kit.choices import find_rule

    chosen = RULES if rule is None else (find_rule(rule).load(),)
    write(pages([item.info() for item in chosen], presentation(color)))
