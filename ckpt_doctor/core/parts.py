"""The words for what a checkpoint consists of: adapters, models, side files, and the JSON files beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from .nothing import NOTHING
from .weight_file import TensorInfo, WeightFile

if TYPE_CHECKING:
    # A lone file needs none of these.
    from .architecture import Architecture
    from .entries import Entry


class ConfigFile(NamedTuple):
    """A JSON file beside the weights. ``data`` is ``None`` if ``error`` says why it could not be read."""

    path: str
    data: Mapping[str, Any] | None
    error: str | None = None
    unreadable: bool = False


IndexFormat = Literal["safetensors", "torch"]
"""The format of the shards of an index, by the name of the index."""


class ShardIndex(NamedTuple):
    """A ``*.index.json``: which tensor lies in which file.

    ``weight_map`` maps tensor names to file names in the index's own folder; names that would leave the folder stand
    in ``escaping`` and are never opened. ``error`` says why the file could not be read as an index; then the map is
    empty. ``unreadable`` is set where the operating system refused, rather than the content. ``total_size`` is the
    value in ``metadata``, in bytes, or ``None`` if it is absent or not a number.
    """

    path: str
    format: IndexFormat
    weight_map: Mapping[str, str] = NOTHING
    total_size: int | None = None
    error: str | None = None
    escaping: tuple[str, ...] = ()
    unreadable: bool = False

    @property
    def shards(self) -> frozenset[str]:
        """The files it names, without those that would leave its folder."""
        return frozenset(self.weight_map.values()).difference(self.escaping)


class Tokenizer(NamedTuple):
    """A tokenizer beside an adapter or a model.

    ``length`` is the number of its tokens, and ``highest`` the highest number that a token of those that were added to
    it has; ``None`` if that is not known.
    """

    length: int | None
    highest: int | None = None


class Adapter(NamedTuple):
    """The properties that only an adapter has.

    ``secondary`` marks one that is only next to the adapter that was asked for. ``nested_from`` is the folder where
    a loader would look, if the adapter lies in a folder below that one. ``base_config`` is the ``config.json`` of its
    base model, where that is on this machine.
    """

    secondary: bool = False
    nested_from: str | None = None
    base_config: Mapping[str, Any] | None = None


class Part(NamedTuple):
    """One loadable unit of a checkpoint: an adapter, a model, a side file.

    ``role`` is ``adapter``, ``model``, ``file`` (a lone weight file), ``training-state`` (optimizer and the like),
    ``extra`` (weight files that no loader of the layout asks for), or for a side file any other word, such as
    ``projections``, ``latents`` or ``trigger-head``.
    ``files`` are all weight files of the unit, in every format that is there; ``active`` names those that the
    ecosystem's own loader would read. ``expected_files`` are the names,
    relative to the checkpoint, under which a loader would look for them, the preferred one first. ``config`` is the
    ``adapter_config.json`` or ``config.json``, and ``config_expected`` where one must lie.
    ``complete_entries`` says that ``entries`` lists all. ``tokenizer`` is the one beside a model, or beside an adapter
    whose embedding has other rows than its base. ``adapter`` is what only an adapter of a folder has, and
    ``architecture`` is there once a whole model was held against its config.
    """

    name: str
    role: str
    directory: str = ""
    files: tuple[WeightFile, ...] = ()
    active: tuple[str, ...] = ()
    expected_files: tuple[str, ...] = ()
    config: ConfigFile | None = None
    config_expected: str | None = None
    indexes: tuple[ShardIndex, ...] = ()
    entries: tuple[Entry, ...] = ()
    complete_entries: bool = False
    required: bool = True
    tokenizer: Tokenizer | None = None
    adapter: Adapter | None = None
    architecture: Architecture | None = None

    @property
    def secondary(self) -> bool:
        """True if this is an adapter that is only next to the one that was asked for."""
        return self.adapter is not None and self.adapter.secondary

    @property
    def preferred(self) -> tuple[WeightFile, ...]:
        """The files that a loader would read: the active ones, or where none is named those that come first."""
        if self.active:
            return tuple(file for file in self.files if file.path in self.active)
        return self.files[:1]

    @property
    def auxiliary(self) -> bool:
        """True if no evaluation reads this: training state, or unrelated files."""
        return self.role in ("training-state", "extra")

    @property
    def beside(self) -> bool:
        """True if this is a side file: one that a loader must read beside an adapter or a model."""
        return self.role not in ("adapter", "model", "file") and not self.auxiliary

    @property
    def loaded_tensors(self) -> Iterator[TensorInfo]:
        """The tensors that a load of this unit awaits: those of the preferred files."""
        for file in self.preferred:
            yield from file.tensors

    @property
    def readable(self) -> bool:
        """True if the tensors of the preferred files are all known."""
        return bool(self.preferred) and all(file.readable for file in self.preferred)
