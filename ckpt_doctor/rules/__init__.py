"""What can be wrong with a checkpoint: one file a rule, and one table that lists them by code.

The table says what each rule is about, and a rule is imported only where a checkpoint has something of that kind: most
checkpoints have no defect, no shards and no scan, and every run pays for what it imports.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint

if TYPE_CHECKING:
    from ._kit.rule import Rule

    RULES: tuple[type[Rule], ...]
    """Every rule, in the order of the codes; imports them all."""


class Topic(Enum):
    """What a checkpoint must have for a rule to have anything to say."""

    ALWAYS = 0
    DEFECTS = 1
    """A file with which its reader found something wrong."""
    TORCH = 2
    """A file in one of torch's formats: only there tensors share or waste bytes."""
    ADAPTERS = 3
    SIDE_FILES = 4
    """A side file, or a part whose entries the layout knows."""
    FOLDERS = 5
    """More than a lone file."""
    SEVERAL_FILES = 6
    """A part of more than one file."""
    SHARDS = 7
    """An index, or a file with a shard's number."""
    SCANS = 8
    """Tensor bytes that were read."""
    LOADS = 9
    """A load into a model: ``verify`` finds these, and no checkpoint by itself has them."""
    CONTRACTS = 10
    """A contract that the checkpoint was held against."""
    UNREAD = 11
    """Something that is, or may hold, weights and was not read."""
    ARCHITECTURES = 12
    """A whole model that was held against its config."""
    SHAPES = 13
    """Such a model, or an adapter whose base model has its config on this machine."""
    BASES = 15
    """An adapter whose base model has its config on this machine."""
    MODELS = 14
    """The weights of a model that are no adapter."""


class Listing(NamedTuple):
    """A line of the table. The name also names the file and the class."""

    code: str
    name: str
    topic: Topic

    def load(self) -> type[Rule]:
        """Import the rule."""
        return _rule(self.name)


@cache
def _rule(name: str) -> type[Rule]:
    module = import_module(f".{name.replace('-', '_')}", __name__)
    rule: type[Rule] = getattr(module, "".join(word.capitalize() for word in name.split("-")))
    return rule


TABLE = (
    Listing("CKD001", "tensor-not-restored", Topic.LOADS),
    Listing("CKD002", "loader-raised", Topic.LOADS),
    Listing("CKD003", "parameter-not-covered", Topic.LOADS),
    Listing("CKD004", "shape-mismatch", Topic.LOADS),
    Listing("CKD005", "naive-load-matches-nothing", Topic.LOADS),
    Listing("CKD006", "adapter-without-effect", Topic.LOADS),
    Listing("CKD007", "forward-not-finite", Topic.LOADS),
    Listing("CKD008", "value-changed-by-cast", Topic.LOADS),
    Listing("CKD010", "adapter-settings-differ", Topic.LOADS),
    Listing("CKD011", "not-judged", Topic.LOADS),
    Listing("CKD101", "lfs-pointer", Topic.DEFECTS),
    Listing("CKD102", "empty-file", Topic.DEFECTS),
    Listing("CKD103", "impostor-file", Topic.DEFECTS),
    Listing("CKD104", "safetensors-truncated", Topic.DEFECTS),
    Listing("CKD105", "safetensors-header-invalid", Topic.DEFECTS),
    Listing("CKD106", "torch-zip-truncated", Topic.DEFECTS),
    Listing("CKD107", "storage-missing", Topic.DEFECTS),
    Listing("CKD108", "wrong-extension", Topic.ALWAYS),
    Listing("CKD109", "format-metadata-missing", Topic.ALWAYS),
    Listing("CKD110", "torch-legacy-format", Topic.TORCH),
    Listing("CKD112", "file-unreadable", Topic.ALWAYS),
    Listing("CKD113", "kind-not-read", Topic.UNREAD),
    Listing("CKD114", "default-load-refuses", Topic.TORCH),
    Listing("CKD115", "no-tensors", Topic.ALWAYS),
    Listing("CKD116", "tensor-without-values", Topic.TORCH),
    Listing("CKD201", "weights-format-mismatch", Topic.FOLDERS),
    Listing("CKD202", "side-file-missing", Topic.SIDE_FILES),
    Listing("CKD203", "nested-adapter-dir", Topic.ADAPTERS),
    Listing("CKD204", "bin-and-safetensors", Topic.SEVERAL_FILES),
    Listing("CKD205", "adapter-config-missing", Topic.ADAPTERS),
    Listing("CKD206", "adapter-weights-missing", Topic.ADAPTERS),
    Listing("CKD207", "adapter-and-model-mixed", Topic.ADAPTERS),
    Listing("CKD208", "save-interrupted", Topic.ALWAYS),
    Listing("CKD209", "two-sets-of-weights", Topic.SEVERAL_FILES),
    Listing("CKD213", "model-config-missing", Topic.MODELS),
    Listing("CKD301", "key-missing", Topic.SIDE_FILES),
    Listing("CKD302", "adapter-pair-incomplete", Topic.ADAPTERS),
    Listing("CKD303", "layer-gap", Topic.FOLDERS),
    Listing("CKD304", "wrapper-prefix", Topic.ALWAYS),
    Listing("CKD305", "double-peft-prefix", Topic.ADAPTERS),
    Listing("CKD306", "peft-prefix-absent", Topic.ADAPTERS),
    Listing("CKD307", "adapter-name-in-keys", Topic.ADAPTERS),
    Listing("CKD308", "adapter-keys-outside-config", Topic.ADAPTERS),
    Listing("CKD309", "base-weights-in-adapter", Topic.ADAPTERS),
    Listing("CKD310", "modules-to-save-missing", Topic.ADAPTERS),
    Listing("CKD311", "unexpected-key", Topic.SIDE_FILES),
    Listing("CKD314", "quantised-partner-missing", Topic.MODELS),
    Listing("CKD315", "adapter-module-not-in-base", Topic.BASES),
    Listing("CKD316", "head-missing", Topic.ARCHITECTURES),
    Listing("CKD317", "experts-incomplete", Topic.ARCHITECTURES),
    Listing("CKD318", "path-segment-off", Topic.ARCHITECTURES),
    Listing("CKD320", "parameter-missing", Topic.ARCHITECTURES),
    Listing("CKD401", "shared-storage", Topic.TORCH),
    Listing("CKD402", "view-of-larger-storage", Topic.TORCH),
    Listing("CKD403", "non-contiguous", Topic.TORCH),
    Listing("CKD404", "tied-key-dropped", Topic.MODELS),
    Listing("CKD406", "tie-flag-contradicts", Topic.SCANS),
    Listing("CKD501", "rank-mismatch", Topic.ADAPTERS),
    Listing("CKD502", "zero-size-tensor", Topic.FOLDERS),
    Listing("CKD503", "empty-adapter", Topic.ALWAYS),
    Listing("CKD504", "side-file-shape-mismatch", Topic.SIDE_FILES),
    Listing("CKD505", "dora-magnitude-mismatch", Topic.ADAPTERS),
    Listing("CKD506", "config-unreadable", Topic.FOLDERS),
    Listing("CKD507", "config-unknown-keys", Topic.ADAPTERS),
    Listing("CKD508", "base-path-unusable", Topic.ADAPTERS),
    Listing("CKD509", "dtype-surprise", Topic.FOLDERS),
    Listing("CKD510", "tokenizer-exceeds-embedding", Topic.ARCHITECTURES),
    Listing("CKD513", "shape-contradicts-config", Topic.SHAPES),
    Listing("CKD514", "rope-forms-disagree", Topic.MODELS),
    Listing("CKD518", "embedding-resized", Topic.BASES),
    Listing("CKD601", "non-finite", Topic.SCANS),
    Listing("CKD602", "untrained-adapter", Topic.SCANS),
    Listing("CKD603", "checksum-mismatch", Topic.DEFECTS),
    Listing("CKD604", "all-zero-tensor", Topic.SCANS),
    Listing("CKD701", "shard-missing", Topic.SHARDS),
    Listing("CKD702", "index-key-absent", Topic.SHARDS),
    Listing("CKD703", "shard-key-unlisted", Topic.SHARDS),
    Listing("CKD704", "duplicate-across-shards", Topic.SHARDS),
    Listing("CKD705", "index-metadata-wrong", Topic.SHARDS),
    Listing("CKD706", "stale-index", Topic.SHARDS),
    Listing("CKD707", "index-unreadable", Topic.SHARDS),
    Listing("CKD851", "contract-tensor-missing", Topic.CONTRACTS),
    Listing("CKD852", "contract-tensor-unexpected", Topic.CONTRACTS),
    Listing("CKD853", "contract-shape-differs", Topic.CONTRACTS),
    Listing("CKD854", "contract-dtype-differs", Topic.CONTRACTS),
    Listing("CKD855", "contract-values-differ", Topic.CONTRACTS),
    Listing("CKD856", "contract-config-differs", Topic.CONTRACTS),
    Listing("CKD857", "contract-layout-differs", Topic.CONTRACTS),
    Listing("CKD858", "contract-not-checked", Topic.CONTRACTS),
    Listing("CKD901", "unsafe-pickle", Topic.DEFECTS),
    Listing("CKD902", "ambiguous-archive", Topic.DEFECTS),
    Listing("CKD903", "resource-bomb", Topic.DEFECTS),
    Listing("CKD904", "executable-archive", Topic.DEFECTS),
    Listing("CKD905", "path-escape", Topic.ALWAYS),
)
"""One line for each rule, in the order of the codes."""


def rules_for(checkpoint: Checkpoint) -> Iterator[type[Rule]]:
    """The rules that can have something to say about this checkpoint, in the order of the codes."""
    topics = _topics(checkpoint)
    return (listing.load() for listing in TABLE if listing.topic in topics)


def _topics(checkpoint: Checkpoint) -> set[Topic]:
    files = checkpoint.files
    bases = any(part.adapter is not None and part.adapter.base_config for part in checkpoint.parts)
    architectures = any(part.architecture is not None for part in checkpoint.parts)
    found = {
        Topic.ALWAYS: True,
        Topic.DEFECTS: any(file.defects for file in files),
        Topic.TORCH: any(file.is_torch_save for file in files),
        Topic.ADAPTERS: any(checkpoint.parts_with("adapter")),
        Topic.SIDE_FILES: any(part.beside or part.entries for part in checkpoint.parts),
        Topic.FOLDERS: checkpoint.kind.grain != "file",
        Topic.SEVERAL_FILES: any(len(part.files) > 1 for part in checkpoint.parts),
        Topic.SHARDS: any(part.indexes for part in checkpoint.parts) or any("-of-" in file.path for file in files),
        Topic.SCANS: any(file.scans is not None for file in files),
        Topic.LOADS: False,
        Topic.UNREAD: bool(checkpoint.unread) or any(file.defects for file in files),
        Topic.CONTRACTS: checkpoint.comparison is not None,
        Topic.ARCHITECTURES: architectures,
        Topic.BASES: bases,
        Topic.SHAPES: architectures or bases,
        Topic.MODELS: any(checkpoint.parts_with("model")),
    }
    return {topic for topic, there in found.items() if there}


def __getattr__(name: str) -> Any:
    if name != "RULES":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return tuple(listing.load() for listing in TABLE)
