"""The options of an inspection, the same for every command that inspects."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from ckpt_doctor.policy import EXPECTATIONS, FAIL_ON, Policy
from ckpt_doctor.reporting import FORMATS
from ckpt_doctor.reporting.presentation import Presentation

from .console import color_option, presentation
from .settings_options import settings_for, settings_options


class InspectOptions(NamedTuple):
    """What holds for an inspection: what was asked for on the command line, else what the settings say."""

    expect: str | None
    layout: str | None
    deep: bool
    preview: bool
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    fail_on: str
    output_format: str
    output_file: str | None
    statistics: bool
    quiet: bool
    color: str
    policy: Policy
    """What the inspection is to expect."""

    @property
    def to_file(self) -> bool:
        """Whether the report goes to a file."""
        return self.output_file is not None and self.output_file != "-"

    @property
    def look(self) -> Presentation:
        """How the report should look."""
        return presentation(self.color, quiet=self.quiet, statistics=self.statistics, to_file=self.to_file)


_OPTIONS = (
    click.option(
        "--expect",
        type=click.Choice(EXPECTATIONS),
        help="Format that adapter and model weights must have.  "
        "[default: safetensors for weaver and trigger, else any]",
    ),
    click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]"),
    click.option("--deep/--no-deep", default=None, help="Read the tensor bytes too: NaN, Inf, zeros, checksums."),
    click.option("--preview/--no-preview", default=None, help="Also run rules that are not stable yet."),
    click.option("--select", metavar="RULES", multiple=True, help="Run only these codes, code prefixes or names."),
    click.option("--ignore", metavar="RULES", multiple=True, help="Leave these codes, code prefixes or names out."),
    click.option("--fail-on", type=click.Choice(FAIL_ON), help="What makes the exit code 1.  [default: error]"),
    click.option("--output-format", type=click.Choice(FORMATS), help=f"How to report.  [default: {FORMATS[0]}]"),
    click.option("--output-file", metavar="FILE", help="Write the report there instead of to standard output."),
    click.option("--statistics", is_flag=True, help="Count by rule; in json, beside the findings."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing about what is healthy."),
    color_option,
    settings_options,
)


_OF_THE_POLICY = ("expect", "layout", "deep", "preview", "select", "ignore", "fail_on")


def _one(formats: tuple[str, ...]) -> str:
    if len(formats) > 1:
        raise click.UsageError(f"the settings name several formats ({', '.join(formats)}): choose one")
    return formats[0] if formats else FORMATS[0]


def inspect_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` all options of an inspection; it gets them as one argument, ``options``."""

    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        given = {name: values.pop(name) for name in InspectOptions._fields if name != "policy"}
        flags = {name: given[name] for name in _OF_THE_POLICY}
        settings = settings_for(values.pop("config"), values.pop("no_config"), **flags)
        policy = settings.policy
        given.update((name, getattr(policy, name)) for name in _OF_THE_POLICY)
        given["output_format"] = given["output_format"] or _one(settings.output_format)
        return command(options=InspectOptions(**given, policy=policy), **values)

    result: Callable[..., Any] = packed
    for option in reversed(_OPTIONS):
        result = option(result)
    return result
