"""What can be wrong with a checkpoint: one file a rule, and one table that lists them by code."""

from __future__ import annotations

from .adapter_and_model_mixed import AdapterAndModelMixed
from .adapter_config_missing import AdapterConfigMissing
from .adapter_weights_missing import AdapterWeightsMissing
from .all_zero_tensor import AllZeroTensor
from .ambiguous_archive import AmbiguousArchive
from .bin_and_safetensors import BinAndSafetensors
from .checksum_mismatch import ChecksumMismatch
from .double_peft_prefix import DoublePeftPrefix
from .duplicate_across_shards import DuplicateAcrossShards
from .empty_adapter import EmptyAdapter
from .empty_file import EmptyFile
from .executable_archive import ExecutableArchive
from .file_unreadable import FileUnreadable
from .format_metadata_missing import FormatMetadataMissing
from .impostor_file import ImpostorFile
from .index_key_absent import IndexKeyAbsent
from .index_metadata_wrong import IndexMetadataWrong
from .index_unreadable import IndexUnreadable
from .key_missing import KeyMissing
from .lfs_pointer import LfsPointer
from .nested_adapter_dir import NestedAdapterDir
from .non_contiguous import NonContiguous
from .non_finite import NonFinite
from .path_escape import PathEscape
from .resource_bomb import ResourceBomb
from .rule import Rule
from .safetensors_header_invalid import SafetensorsHeaderInvalid
from .safetensors_truncated import SafetensorsTruncated
from .save_interrupted import SaveInterrupted
from .shard_key_unlisted import ShardKeyUnlisted
from .shard_missing import ShardMissing
from .shared_storage import SharedStorage
from .side_file_missing import SideFileMissing
from .side_file_shape_mismatch import SideFileShapeMismatch
from .stale_index import StaleIndex
from .storage_missing import StorageMissing
from .torch_legacy_format import TorchLegacyFormat
from .torch_zip_truncated import TorchZipTruncated
from .unsafe_pickle import UnsafePickle
from .untrained_adapter import UntrainedAdapter
from .view_of_larger_storage import ViewOfLargerStorage
from .weights_format_mismatch import WeightsFormatMismatch
from .wrapper_prefix import WrapperPrefix
from .wrong_extension import WrongExtension
from .zero_size_tensor import ZeroSizeTensor

RULES: tuple[type[Rule], ...] = (
    LfsPointer,
    EmptyFile,
    ImpostorFile,
    SafetensorsTruncated,
    SafetensorsHeaderInvalid,
    TorchZipTruncated,
    StorageMissing,
    WrongExtension,
    FormatMetadataMissing,
    TorchLegacyFormat,
    FileUnreadable,
    WeightsFormatMismatch,
    SideFileMissing,
    NestedAdapterDir,
    BinAndSafetensors,
    AdapterConfigMissing,
    AdapterWeightsMissing,
    AdapterAndModelMixed,
    SaveInterrupted,
    KeyMissing,
    WrapperPrefix,
    DoublePeftPrefix,
    SharedStorage,
    ViewOfLargerStorage,
    NonContiguous,
    ZeroSizeTensor,
    EmptyAdapter,
    SideFileShapeMismatch,
    NonFinite,
    UntrainedAdapter,
    ChecksumMismatch,
    AllZeroTensor,
    ShardMissing,
    IndexKeyAbsent,
    ShardKeyUnlisted,
    DuplicateAcrossShards,
    IndexMetadataWrong,
    StaleIndex,
    IndexUnreadable,
    UnsafePickle,
    AmbiguousArchive,
    ResourceBomb,
    ExecutableArchive,
    PathEscape,
)
"""Every rule, in the order of the codes."""
