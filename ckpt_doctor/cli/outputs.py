"""Where reports go: in several formats at once, each to a file of its own or to standard output."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from ckpt_doctor.core.errors import OutputError
from ckpt_doctor.reporting import FORMATS, OutputFormat

from .console import write, write_aside
from .output_file import check_output_file, files_of, write_file
from .step_summary import append_step_summary

if TYPE_CHECKING:
    from ckpt_doctor.core.checkpoint import Checkpoint

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--output-format",
        type=click.Choice(FORMATS),
        multiple=True,
        help="Format of the report; can be repeated.  [default: text]",
    ),
    click.option(
        "--output-file",
        metavar="FILE",
        multiple=True,
        help="File for the report: the first file for the first format, and so on. Formats without a file, or with "
        "the file -, go to standard output. If all have files, the text report is still printed.",
    ),
)


def output_options(command: Command) -> Command:
    """The options ``--output-format`` and ``--output-file``, the same for every command that reports findings."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


class Output(NamedTuple):
    """A format and the file that it is written to; ``None`` is standard output."""

    format: OutputFormat
    file: str | None = None


Render = Callable[[Output], Iterable[str]]
"""What a report looks like in one output: pieces of text, each to be followed by a newline."""


class Outputs(NamedTuple):
    """Every output of one run."""

    outputs: tuple[Output, ...]

    @classmethod
    def parse(cls, formats: Sequence[OutputFormat], files: Sequence[str]) -> Outputs:
        """The outputs that the two options ask for, each given as often as it was, or not at all.

        Raises ``UsageError`` if they do not fit together.
        """
        wanted = list(formats) or [FORMATS[0]]
        if len(files) > len(wanted):
            raise click.UsageError(
                f"--output-file was given {len(files)} times and --output-format {len(formats)} times: "
                "name a format for each file"
            )
        names = [None if name == "-" else name for name in files]
        names += [None] * (len(wanted) - len(names))
        if names.count(None) > 1:
            at_stdout = ", ".join(name for name, file in zip(wanted, names, strict=True) if file is None)
            raise click.UsageError(
                f"only one format can go to standard output, and these would: {at_stdout}; name an --output-file for "
                "the others, in the order of the formats"
            )
        _refuse_one_file_twice(names)
        outputs = [Output(output_format, name) for output_format, name in zip(wanted, names, strict=True)]
        if None not in names and FORMATS[0] not in wanted:
            outputs.append(Output(FORMATS[0]))
        return cls(tuple(outputs))

    @property
    def files(self) -> tuple[str, ...]:
        """The files that are written."""
        return tuple(output.file for output in self.outputs if output.file is not None)

    @property
    def on_stdout(self) -> bool:
        """True if one of them is standard output."""
        return len(self.files) < len(self.outputs)

    def check(self, *, read: str | None = None) -> None:
        """Fail before the work is done if one of the files could not, or should not, be written.

        ``read`` names a file that is read for the report. Raises ``OutputError``.
        """
        for name in self.files:
            check_output_file(name, read=read)

    def write(self, render: Render, checkpoints: Callable[[], Iterable[Checkpoint]], *, aside: bool = False) -> None:
        """Write every output, each file all or nothing, and none over a file of the ``checkpoints``.

        With the format ``github`` the markdown report also goes to the summary of the workflow's step. An output that
        cannot be written does not stand in the way of the others; the first ``OutputError`` is raised in the end.
        ``aside`` writes to standard error what is for standard output.
        """
        for_github = any(output.format == "github" for output in self.outputs)
        protected = list(files_of(checkpoints())) if self.files or for_github else []
        failures = [_failure(output, render(output), protected, aside=aside) for output in self.outputs]
        if for_github:
            append_step_summary(lambda name: render(Output("markdown", name)), protected)
        for failure in failures:
            if failure is not None:
                raise failure


def _failure(output: Output, pieces: Iterable[str], protected: list[Path], *, aside: bool) -> OutputError | None:
    """Write one output; what went wrong, if anything did."""
    try:
        if output.file is None:
            (write_aside if aside else write)(pieces, commands=output.format == "github")
        else:
            write_file(output.file, pieces, protected=protected)
    except OutputError as error:
        return error
    return None


def _refuse_one_file_twice(names: Iterable[str | None]) -> None:
    seen = set()
    for name in names:
        if name is not None:
            target = Path(name).resolve()
            if target in seen:
                raise click.UsageError(f"--output-file {name} was given twice: each format needs another file")
            seen.add(target)
