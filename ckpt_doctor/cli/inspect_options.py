"""The options of an inspection, the same for every command that inspects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ckpt_doctor.core.policy import EXPECTATIONS, FAIL_ON, Policy
from ckpt_doctor.reporting import OutputFormat
from ckpt_doctor.reporting.presentation import Presentation

from .console import color_option, presentation
from .messages import say
from .outputs import Output, Outputs, output_options
from .settings_options import settings_for, settings_options

if TYPE_CHECKING:
    from ckpt_doctor.core.results import Report
    from ckpt_doctor.inspection import Standard


class InspectOptions(NamedTuple):
    """What holds for an inspection: what was asked for on the command line, else what the settings say."""

    policy: Policy
    """What the inspection is to expect."""
    against: str | None = None
    jobs: int | None = None
    output_format: tuple[OutputFormat, ...] = ()
    output_file: tuple[str, ...] = ()
    statistics: bool = False
    quiet: bool = False
    color: str = "auto"

    @property
    def processes(self) -> int:
        """How many processes may inspect."""
        from ckpt_doctor.runtime.cores import available_cores

        return self.jobs or available_cores()

    @property
    def outputs(self) -> Outputs:
        """Where the report goes. Raises ``UsageError`` if formats and files do not fit together."""
        return Outputs.parse(self.output_format, self.output_file)

    def look(self, output: Output, *, aside: bool = False) -> Presentation:
        """How the report should look there; ``aside`` means standard error instead of standard output."""
        return presentation(
            self.color,
            quiet=self.quiet,
            statistics=self.statistics,
            to_file=output.file is not None,
            aside=aside,
            fail_on=self.policy.fail_on,
        )

    def point_to_files(self, report: Report) -> None:
        """Say where the findings are, if the report goes to files alone."""
        if report.findings and not (self.outputs.on_stdout or self.quiet):
            say(f"{len(report.findings):,} findings: see {', '.join(self.outputs.files)}")

    @property
    def standard(self) -> Standard | None:
        """What every checkpoint is held against. Raises ``ContractError``."""
        if self.against is None:
            return None
        from ckpt_doctor.contracts import HeldAgainst

        return HeldAgainst.read(self.against)


_READ_VALUES = "Read the tensor bytes too: NaN, Inf, zeros, checksums."
_DEEP = click.option("--deep/--no-deep", default=None, help=_READ_VALUES)
_DEEP_BY_DEFAULT = click.option("--deep/--no-deep", default=None, help=f"{_READ_VALUES}  [default: deep]")
_BEFORE_DEEP = (
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
)
_AFTER_DEEP = (
    click.option("--select", metavar="RULES", multiple=True, help="Run only these codes, code prefixes or names."),
    click.option("--ignore", metavar="RULES", multiple=True, help="Skip these codes, code prefixes or names."),
    click.option(
        "--fail-on", type=click.Choice(FAIL_ON), help="Least severity that makes the exit code 1.  [default: error]"
    ),
)
_OF_THE_POLICY = ("expect", "layout", "deep", "select", "ignore", "fail_on")
_REPORT = (
    click.option(
        "--jobs",
        metavar="N",
        type=click.IntRange(min=1),
        envvar="CKPT_DOCTOR_JOBS",
        show_envvar=True,
        help="Number of processes that inspect a tree.  [default: one for each core]",
    ),
    output_options,
    click.option(
        "--statistics",
        is_flag=True,
        help="Count findings by rule; json, sarif, junit and github list the findings too.",
    ),
    click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="Leave healthy checkpoints out of the report; json, sarif and junit always list all.",
    ),
    color_option,
)


def inspect_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` all options of an inspection; it gets them as one argument, ``options``."""
    return _packed(command, (*_BEFORE_DEEP, _DEEP, *_AFTER_DEEP, *_REPORT, settings_options))


def gate_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a command that others trust: unless somebody says otherwise, it reads the values."""
    options = (*_BEFORE_DEEP, _DEEP_BY_DEFAULT, *_AFTER_DEEP, *_REPORT, settings_options)
    return _packed(command, options, deep=True)


def choice_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Those that say what is healthy to the gate, for a command that reports nothing; the others are defaults."""
    return _packed(command, (*_BEFORE_DEEP, _DEEP_BY_DEFAULT, *_AFTER_DEEP, settings_options), deep=True)


def _packed(
    command: Callable[..., Any], options: Iterable[Callable[..., Any]], *, deep: bool = False
) -> Callable[..., Any]:
    @functools.wraps(command)
    def packed(**values: Any) -> Any:
        flags = {name: values.pop(name) for name in _OF_THE_POLICY}
        settings = settings_for(values.pop("config"), values.pop("no_config"), **flags)
        if "deep" not in settings.values:
            settings = settings.overlaid({"deep": deep}, {"deep": "default"})
        given = {name: values.pop(name) for name in InspectOptions._fields if name in values}
        given["output_format"] = given.get("output_format") or settings.output_format
        return command(options=InspectOptions(settings.policy, **given), **values)

    result: Callable[..., Any] = packed
    for option in reversed(tuple(options)):
        result = option(result)
    return result
