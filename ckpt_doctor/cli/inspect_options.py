"""The options of an inspection, the same for every command that inspects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ckpt_doctor.policy import EXPECTATIONS, FAIL_ON, Policy
from ckpt_doctor.reporting.presentation import Presentation

from .console import color_option, presentation
from .outputs import Output, Outputs, output_options
from .settings_options import settings_for, settings_options

if TYPE_CHECKING:
    from ckpt_doctor.inspection import Progress
    from ckpt_doctor.results import Report


class InspectOptions(NamedTuple):
    """What holds for an inspection: what was asked for on the command line, else what the settings say."""

    expect: str | None
    layout: str | None
    against: str | None
    deep: bool
    preview: bool
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    fail_on: str
    output_format: tuple[str, ...]
    output_file: tuple[str, ...]
    statistics: bool
    quiet: bool
    color: str
    policy: Policy
    """What the inspection is to expect."""

    @property
    def outputs(self) -> Outputs:
        """Where the report goes. Raises ``UsageError`` where formats and files do not fit together."""
        return Outputs.parse(self.output_format, self.output_file)

    def look(self, output: Output) -> Presentation:
        """How the report should look there."""
        return presentation(
            self.color,
            quiet=self.quiet,
            statistics=self.statistics,
            to_file=output.file is not None,
            fail_on=self.fail_on,
        )

    def inspect(self, paths: Sequence[str], *, progress: Progress | None = None) -> Report:
        """The report on the checkpoints at ``paths``, held against the contract where one was given."""
        if self.against is None:
            from ckpt_doctor.inspection import inspect

            return inspect(paths, self.policy, progress=progress)
        from ckpt_doctor.contracts import inspect_against

        return inspect_against(paths, self.against, self.policy, progress=progress)


_OPTIONS = (
    click.option(
        "--expect",
        type=click.Choice(EXPECTATIONS),
        help="Format that adapter and model weights must have.  "
        "[default: safetensors for weaver and trigger, else any]",
    ),
    click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]"),
    click.option(
        "--against", metavar="FILE", help="Compare each checkpoint with this contract, which `ckpt-doctor lock` wrote."
    ),
    click.option("--deep/--no-deep", default=None, help="Read the tensor bytes too: NaN, Inf, zeros, checksums."),
    click.option("--preview/--no-preview", default=None, help="Also run rules that are not stable yet."),
    click.option("--select", metavar="RULES", multiple=True, help="Run only these codes, code prefixes or names."),
    click.option("--ignore", metavar="RULES", multiple=True, help="Leave these codes, code prefixes or names out."),
    click.option("--fail-on", type=click.Choice(FAIL_ON), help="What makes the exit code 1.  [default: error]"),
    output_options,
    click.option(
        "--statistics", is_flag=True, help="Count by rule; in json, sarif, junit and github beside the findings."
    ),
    click.option(
        "-q", "--quiet", is_flag=True, help="Say nothing about what is healthy; json, sarif and junit are always whole."
    ),
    color_option,
    settings_options,
)


_OF_THE_POLICY = ("expect", "layout", "deep", "preview", "select", "ignore", "fail_on")


def inspect_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` all options of an inspection; it gets them as one argument, ``options``."""

    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        given = {name: values.pop(name) for name in InspectOptions._fields if name != "policy"}
        flags = {name: given[name] for name in _OF_THE_POLICY}
        settings = settings_for(values.pop("config"), values.pop("no_config"), **flags)
        policy = settings.policy
        given.update((name, getattr(policy, name)) for name in _OF_THE_POLICY)
        given["output_format"] = given["output_format"] or settings.output_format
        return command(options=InspectOptions(**given, policy=policy), **values)

    result: Callable[..., Any] = packed
    for option in reversed(_OPTIONS):
        result = option(result)
    return result
