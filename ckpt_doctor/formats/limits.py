"""What reading one file may cost: a value that whoever opens a file hands down to its readers.

No reader looks its limits up anywhere else, so that each can be tried with limits of its own: behind small ones, a file
of a few bytes shows what happens at the end of large ones.
"""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """The limits of all readers. Lengths are in bytes, of what is in the file unless something else is said.

    A pickle may take ``opcodes`` operations, ``visits`` to the values in it and ``characters`` of text that is made,
    each of them more for a larger file and never more than the number with ``most`` (see ``Budget.for_stored``).
    ``depth`` is that of containers and of open marks, and ``json_depth`` that of JSON.
    """

    opcodes: int = 1_000_000
    most_opcodes: int = 64_000_000
    visits: int = 250_000
    most_visits: int = 16_000_000
    characters: int = 16_000_000
    depth: int = 1000
    declared: int = 1 << 30
    """A declared length above this that the file cannot hold is no mere sign of a file cut short."""
    digits: int = 4300
    """Of a number written in decimal: Python's own limit, since converting takes quadratic time."""

    pickle: int = 1 << 30
    """Of one pickle, inflated, and of all pickles that follow each other in a file."""
    pickles: int = 100
    """How many pickles of a stream that is not torch's are judged."""
    inflated: int = 32 << 20
    """Of a compressed pickle of few bytes, inflated."""
    inflation: int = 32
    """How many times a compressed pickle may grow, where that is more."""
    directory: int = 1 << 30
    """Of a zip archive's central directory: 64 bytes each for sixteen million members."""

    side_piece: int = 1 << 16
    """Of each member that has no business in a checkpoint, inflated, at first."""
    side_total: int = 16 << 20
    """Of all these members together, inflated, where they read like pickles that go on."""
    side_opcodes: int = 2_000_000
    """For all of these members together."""
    word: int = 100
    """Of a member that holds one word, such as a version."""
    script_code: int = 64 << 20
    """Of the source in a TorchScript archive, which tells its parameters from its other tensors."""
    second_format: int = 16 << 20
    """How far a safetensors file is read as a pickle."""

    exact_zeros: int = 64 << 20
    """Up to this size every byte is looked at before a file counts as all zero."""

    header: int = 100_000_000
    """Of a safetensors header: the crate refuses longer ones (``MAX_HEADER_SIZE``)."""
    rank: int = 1024
    """Dimensions of a tensor in a safetensors header; torch and numpy stop at 64."""
    config_file: int = 16 << 20
    """Of a config; real ones have a few thousand."""
    index_file: int = 256 << 20
    """Of a shard index; one of 100,000 tensors takes about 10 million."""
    json_depth: int = 200
    """Levels of objects and lists in a config or an index; real ones have fewer than ten."""


LIMITS = Limits()
"""What a checkpoint is read with."""
