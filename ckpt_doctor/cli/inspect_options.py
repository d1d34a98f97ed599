"""The options of an inspection, the same for every command that inspects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import click

from ckpt_doctor.policy import EXPECTATIONS, FAIL_ON, Policy
from ckpt_doctor.reporting import FORMATS
from ckpt_doctor.reporting.presentation import Presentation

from .console import color_option, presentation


class InspectOptions(NamedTuple):
    """What was asked for on the command line; ``None`` and ``()`` where nothing was."""

    expect: str | None
    layout: str | None
    deep: bool
    preview: bool
    select: tuple[str, ...]
    ignore: tuple[str, ...]
    fail_on: str
    jobs: int | None = None
    output_format: str = FORMATS[0]
    output_file: str | None = None
    statistics: bool = False
    quiet: bool = False
    color: str = "auto"

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

    @property
    def processes(self) -> int:
        """How many processes may inspect."""
        from ckpt_doctor.cores import available_cores

        return self.jobs or available_cores()

    @property
    def to_file(self) -> bool:
        """Whether the report goes to a file."""
        return self.output_file is not None and self.output_file != "-"

    @property
    def look(self) -> Presentation:
        """How the report should look."""
        return self._presentation()

    @property
    def look_aside(self) -> Presentation:
        """How the report should look on standard error."""
        return self._presentation(aside=True)

    def _presentation(self, *, aside: bool = False) -> Presentation:
        return presentation(self.color, quiet=self.quiet, statistics=self.statistics, to_file=self.to_file, aside=aside)


_POLICY = (
    click.option(
        "--expect",
        type=click.Choice(EXPECTATIONS),
        help="Format that adapter and model weights must have.  "
        "[default: safetensors for weaver and trigger, else any]",
    ),
    click.option("--layout", metavar="NAME", help="Kind of checkpoint.  [default: recognised]"),
    click.option("--deep", is_flag=True, help="Read the tensor bytes too: NaN, Inf, zeros, checksums."),
    click.option("--preview", is_flag=True, help="Also run rules that are not stable yet."),
    click.option("--select", metavar="RULES", multiple=True, help="Run only these codes, code prefixes or names."),
    click.option("--ignore", metavar="RULES", multiple=True, help="Leave these codes, code prefixes or names out."),
    click.option(
        "--fail-on", type=click.Choice(FAIL_ON), default="error", show_default=True, help="What makes the exit code 1."
    ),
)
_REPORT = (
    click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(min=1),
        envvar="CKPT_DOCTOR_JOBS",
        show_envvar=True,
        help="Processes that inspect a tree of many checkpoints.  [default: one for each core]",
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
    return _packed(command, (*_POLICY, *_REPORT))


def policy_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those that say what is healthy, for a command that reports nothing; in ``options`` the others are defaults."""
    return _packed(command, _POLICY)


def _packed(command: Callable[..., Any], options: Iterable[Callable[..., Any]]) -> Callable[..., Any]:
    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        given = {name: values.pop(name) for name in InspectOptions._fields if name in values}
        return command(options=InspectOptions(**given), **values)

    result: Callable[..., Any] = packed
    for option in reversed(tuple(options)):
        result = option(result)
    return result
