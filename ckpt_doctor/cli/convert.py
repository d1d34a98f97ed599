"""``ckpt-doctor convert``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

import click

from ckpt_doctor.core.actions import SharedChoice, TargetFormat

from .console import write
from .messages import say
from .settings_options import settings_for, settings_options

if TYPE_CHECKING:
    from ckpt_doctor.conversion import AliasOutcome, Conversion, ConvertedFile


@click.command("convert", short_help="Write weights in the other format.")
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("target", metavar="[DST]", required=False, type=click.Path())
@click.option("--to", type=click.Choice(get_args(TargetFormat)), required=True, help="Format to write.")
@click.option(
    "--shared",
    type=click.Choice(get_args(SharedChoice)),
    help="Tensors that share bytes: a copy for each name, one name for all, or refuse.  "
    "[default: clone; drop for the tied embeddings of a transformers model]",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option(
    "--no-check", is_flag=True, help="Do not compare the result with its source, nor the source with its checksums."
)
@click.option("--drop-non-tensors", is_flag=True, help="Drop values that neither safetensors nor JSON can hold.")
@click.option(
    "--tensors-only",
    is_flag=True,
    help="Extract tensors and plain values from an unsafe file: a pickled module, TorchScript.",
)
@click.option(
    "--output-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Format of the report.",
)
@settings_options
def command(
    source: str,
    target: str | None,
    to: TargetFormat,
    shared: SharedChoice | None,
    overwrite: bool,
    no_check: bool,
    drop_non_tensors: bool,
    tensors_only: bool,
    output_format: str,
    config: str | None,
    no_config: bool,
) -> None:
    """Convert the weight file SRC, or the adapter and model weights of the checkpoint SRC with their index.

    The new files are written next to the old ones, which stay. With DST, a file gets that name, and a checkpoint is
    written to that folder with copies of its configs and side files. A side file such as projections.pt is converted
    only if SRC names it. Files that have the format already are not touched.

    Exit code: 0 if everything was written or there was nothing to write, 2 if nothing was written.
    """
    if tensors_only and to != "safetensors":
        raise click.UsageError("--tensors-only needs --to safetensors")
    from ckpt_doctor.conversion import convert

    from .progress import ByteProgress

    layouts = settings_for(config, no_config).policy.layouts
    with ByteProgress("converting") as progress:
        result = convert(
            source,
            target,
            to=to,
            shared=shared,
            overwrite=overwrite,
            check=not no_check,
            drop_non_tensors=drop_non_tensors,
            tensors_only=tensors_only,
            layouts=layouts,
            progress=progress,
        )
    if output_format == "json":
        import json

        write([json.dumps(result.to_dict(), indent=2)])
    else:
        write(_lines(result))
        for path in result.left_out:
            say(f"not copied: {path}")


def _lines(result: Conversion) -> Iterator[str]:
    from ckpt_doctor.core.wording import byte_size, counted
    from ckpt_doctor.reporting.escape import printable

    for file in result.files:
        yield from map(printable, _file_lines(file))
    for path in result.indexes:
        yield printable(f"{path} · index")
    if result.copied:
        yield f"{counted(len(result.copied), 'other file')} copied as they are"
    for path in result.already:
        yield printable(f"{path} already has that format")
    if result.files:
        checked = "every tensor compared with its source" if result.checked else "not compared with the source"
        yield (
            f"{counted(len(result.files), 'file')} written, {counted(result.tensors, 'tensor')}, "
            f"{byte_size(result.nbytes)}; {checked}"
        )
    elif not result.copied:
        yield "nothing to convert"


def _file_lines(file: ConvertedFile) -> Iterator[str]:
    from ckpt_doctor.core.wording import byte_size, counted, listed

    yield f"{file.target} · {counted(file.tensor_count, 'tensor')}, {byte_size(file.nbytes)}, from {file.source}"
    yield from (f"  {_alias_line(alias)}" for alias in file.aliases[:_SHOWN])
    if len(file.aliases) > _SHOWN:
        rest = sum(alias.nbytes for alias in file.aliases[_SHOWN:])
        yield f"  {counted(len(file.aliases) - _SHOWN, 'more group')} of tensors that shared bytes, {byte_size(rest)}"
    if file.values:
        yield f"  in the metadata: {counted(len(file.values), 'value')} ({listed(file.values)})"
    if file.dropped:
        yield f"  left out: {counted(len(file.dropped), 'value')} ({listed(file.dropped)})"


_SHOWN = 10  # groups of aliases; a whole model may have hundreds


def _alias_line(alias: AliasOutcome) -> str:
    from ckpt_doctor.core.wording import byte_size, listed

    names = listed(alias.names)
    if alias.action == "dropped":
        return f"shared bytes: {names}; only {alias.kept} is written ({byte_size(alias.nbytes)} less)"
    return f"shared bytes: {names}; each has a copy now ({byte_size(alias.nbytes)} more)"
