"""The options of an inspection, the same for every command that inspects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ckpt_doctor.policy import EXPECTATIONS, FAIL_ON, Policy
from ckpt_doctor.reporting import FORMATS
from ckpt_doctor.reporting.presentation import Presentation

from .console import color_option, presentation

if TYPE_CHECKING:
    from ckpt_doctor.results import Report


class InspectOptions(NamedTuple):
    """What was asked for on the command line; ``None`` and ``()`` where nothing was."""

    expect: str | None
    layout: str | None
    against: str | None
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

    @property
    def policy(self) -> Policy:
        """What the inspection is to expect. Raises ``UnknownNameError`` where a rule does not exist."""
        from .selection import rule_choices

        return Policy(
            expect=self.expect,
            layout=self.layout,
            deep=self.deep,
            preview=self.preview,
            select=rule_choices(self.select, "--select"),
            ignore=rule_choices(self.ignore, "--ignore"),
            fail_on=self.fail_on,
        )

    def inspect(
        self, paths: Sequence[str], policy: Policy, *, progress: Callable[[int, int], None] | None = None
    ) -> Report:
        """The report on the checkpoints at ``paths``, held against the contract where one was given."""
        if self.against is None:
            from ckpt_doctor.inspection import inspect

            return inspect(paths, policy, progress=progress)
        from ckpt_doctor.contracts import inspect_against

        return inspect_against(paths, self.against, policy, progress=progress)

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
    click.option(
        "--against", metavar="FILE", help="Compare each checkpoint with this contract, which `ckpt-doctor lock` wrote."
    ),
    click.option("--deep", is_flag=True, help="Read the tensor bytes too: NaN, Inf, zeros, checksums."),
    click.option("--preview", is_flag=True, help="Also run rules that are not stable yet."),
    click.option("--select", metavar="RULES", multiple=True, help="Run only these codes, code prefixes or names."),
    click.option("--ignore", metavar="RULES", multiple=True, help="Leave these codes, code prefixes or names out."),
    click.option(
        "--fail-on", type=click.Choice(FAIL_ON), default="error", show_default=True, help="What makes the exit code 1."
    ),
    click.option(
        "--output-format", type=click.Choice(FORMATS), default=FORMATS[0], show_default=True, help="How to report."
    ),
    click.option("--output-file", metavar="FILE", help="Write the report there instead of to standard output."),
    click.option("--statistics", is_flag=True, help="Count by rule; in json, beside the findings."),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing about what is healthy."),
    color_option,
)


def inspect_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` all options of an inspection; it gets them as one argument, ``options``."""

    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        options = InspectOptions(**{name: values.pop(name) for name in InspectOptions._fields})
        return command(options=options, **values)

    result: Callable[..., Any] = packed
    for option in reversed(_OPTIONS):
        result = option(result)
    return result
