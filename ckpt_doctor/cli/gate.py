"""``ckpt-doctor gate``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ckpt_doctor.reporting import report_lines

from .exit_codes import end_with
from .inspect_options import InspectOptions, gate_options
from .load_options import LoadOptions, load_options
from .messages import say
from .outputs import Output
from .step_output import set_step_output

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ckpt_doctor.core.coverage import Coverage
    from ckpt_doctor.gate import Choice, PassedOver, Verdict

_COMMAND = "ckpt_doctor.command"
_SHOWN = 10  # saves that were skipped; a tree may hold hundreds


class GateCommand(click.Command):
    """A command whose arguments end at the first ``--``: what comes behind it is run, and never read as options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :class:`click.Command`."""
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], args[at + 1 :]
            if not ctx.meta[_COMMAND] and not ctx.resilient_parsing:
                # An unset variable must not turn "evaluate" into "say yes".
                raise click.UsageError("There is no command after --.", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if _COMMAND in ctx.meta or isinstance(error, click.BadParameter):
                raise
            problem = error.format_message()
            end = "" if problem.endswith((".", "?", "?)")) else "."
            raise click.UsageError(f"{problem}{end} Put the command to run after --.", ctx) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """See :class:`click.Command`; of another program's arguments only files are known."""
        if _COMMAND in ctx.meta:
            from click.shell_completion import CompletionItem

            return [CompletionItem(incomplete, type="file")]
        return super().shell_complete(ctx, incomplete)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """See :class:`click.Command`."""
        return [*super().collect_usage_pieces(ctx), "[-- COMMAND...]"]


@click.command("gate", cls=GateCommand, short_help="Run a command only if the checkpoint is healthy.")
@click.argument("path", metavar="PATH", type=click.Path())
@click.option("--latest", is_flag=True, help="PATH is a tree: judge the newest save in it.")
@click.option(
    "--fallback", is_flag=True, help="With --latest: take an older healthy save if the newest is not healthy."
)
@load_options
@gate_options
@click.pass_context
def command(
    ctx: click.Context, path: str, latest: bool, fallback: bool, load: LoadOptions, options: InspectOptions
) -> None:
    """Run COMMAND only if the checkpoint at PATH is healthy and, with --model, every tensor of it arrives.

    COMMAND replaces this process. In its arguments, {checkpoint} becomes the absolute path of the checkpoint; the
    environment variable CKPT_DOCTOR_CHECKPOINT holds it too. With COMMAND, the report goes to standard error.

    Exit code: that of COMMAND if it runs, 126 or 127 if it cannot be started. Otherwise, and without COMMAND: 0 healthy
    and complete, 1 not, 2 nothing could be judged.
    """
    # Before anything of the user's code can change it.
    environment = dict(os.environ)
    words: list[str] = ctx.meta.get(_COMMAND, [])
    if fallback and not latest:
        raise click.UsageError("--fallback needs --latest.")
    if load.without_model:
        raise click.UsageError(
            f"{', '.join(load.without_model)} {'needs' if len(load.without_model) == 1 else 'need'} --model."
        )
    verdict = _judged(path, latest, fallback, load, options)
    starts = bool(words) and verdict.passed
    _tell(verdict, options)
    _report(verdict, options, aside=starts and "-" not in options.output_file)
    if verdict.passed and any(output.format == "github" for output in options.outputs.outputs):
        set_step_output("checkpoint", verdict.checkpoint)
    if starts:
        verdict.seal.check(verdict.report.checkpoints, own=options.outputs.files)
        _start(words, verdict, environment)
    if words:
        say(f"{shlex.join(words)} was not started: {verdict.reason}")
    if verdict.error is not None:
        raise verdict.error
    end_with("passed" if verdict.passed else "failed")


def _judged(path: str, latest: bool, fallback: bool, load: LoadOptions, options: InspectOptions) -> Verdict:
    # Imported here so that --help and usage errors do not pay for the rules.
    from ckpt_doctor.gate import decide

    from .progress import ByteProgress, CountProgress, LoadProgress

    policy = options.policy
    options.outputs.check(read=options.against)

    def verified(given: str) -> Coverage:
        with LoadProgress() as progress:
            return load.verify(given, policy, progress)

    with ByteProgress() as progress, CountProgress("inspecting") as counter:
        return decide(
            path,
            policy,
            latest=latest,
            fallback=fallback,
            standard=options.standard,
            load=None if load.model is None else verified,
            progress=progress,
            counter=counter,
            jobs=options.processes,
        )


def _tell(verdict: Verdict, options: InspectOptions) -> None:
    """What has to be known of the choice, and is no part of the report."""
    say_passed_over(verdict.passed_over, verdict.path)
    choice = verdict.choice
    if choice is None:
        return
    if not options.quiet and not verdict.passed_over:
        kinds = dict.fromkeys(item.variant or item.layout for item in verdict.report.checkpoints)
        say(f"latest: {choice.path} ({', '.join(kinds)}), {choice.reason}")
    say_doubts(choice, quiet=options.quiet)


def say_passed_over(passed_over: Iterable[PassedOver], path: str) -> None:
    """Name the newer saves that were not taken."""
    passed_over = tuple(passed_over)
    for item in passed_over[:_SHOWN]:
        say(f"passed over: {item.path}: {item.reason}")
    if len(passed_over) > _SHOWN:
        say(f"passed over: {len(passed_over) - _SHOWN:,} more")
    if passed_over:
        say(f"taken instead: {path}")


def say_doubts(choice: Choice, *, quiet: bool = False) -> None:
    """Say what might have been meant instead; with ``quiet``, only where that is about base models."""
    for item in choice.left_out[:_SHOWN]:
        say(f"left out: {item.path}: {item.reason}. If you mean that one, name it.")
    if choice.adapter is not None:
        say(
            f"note: {choice.path} is a whole model, and only the time of its files says that it is newer than the "
            f"adapter {choice.adapter}. If it is the base model, name the adapter."
        )
    if choice.written_later is not None and not quiet:
        say(
            f"note: {choice.path} is the newest by its name, and {choice.written_later} by the time of its files. "
            "If you mean that one, name it."
        )


def _report(verdict: Verdict, options: InspectOptions, *, aside: bool) -> None:
    judged = verdict.judged

    def render(output: Output) -> Iterator[str]:
        return report_lines(judged, output.format, options.look(output, aside=aside))

    options.outputs.write(render, lambda: judged.report.checkpoints, aside=aside)
    options.point_to_files(judged.report)


def _start(words: list[str], verdict: Verdict, environment: dict[str, str]) -> None:
    from ckpt_doctor.core.errors import CommandError
    from ckpt_doctor.gate import launch

    try:
        code = launch(words, verdict.checkpoint, environment)
    except CommandError as error:
        say(f"error: {error}")
        code = error.code
    raise click.exceptions.Exit(code)
