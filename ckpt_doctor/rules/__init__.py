"""What can be wrong with a checkpoint: one file a rule, and one table that lists them by code."""

from __future__ import annotations

from .adapter_and_model_mixed import AdapterAndModelMixed
from .adapter_config_missing import AdapterConfigMissing
from .adapter_keys_outside_config import AdapterKeysOutsideConfig
from .adapter_name_in_keys import AdapterNameInKeys
from .adapter_pair_incomplete import AdapterPairIncomplete
from .adapter_weights_missing import AdapterWeightsMissing
from .all_zero_tensor import AllZeroTensor
from .ambiguous_archive import AmbiguousArchive
from .base_path_unusable import BasePathUnusable
from .base_weights_in_adapter import BaseWeightsInAdapter
from .bin_and_safetensors import BinAndSafetensors
from .checksum_mismatch import ChecksumMismatch
from .config_unknown_keys import ConfigUnknownKeys
from .config_unreadable import ConfigUnreadable
from .dora_magnitude_mismatch import DoraMagnitudeMismatch
from .double_peft_prefix import DoublePeftPrefix
from .dtype_surprise import DtypeSurprise
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
from .layer_gap import LayerGap
from .lfs_pointer import LfsPointer
from .modules_to_save_missing import ModulesToSaveMissing
from .nested_adapter_dir import NestedAdapterDir
from .non_contiguous import NonContiguous
from .non_finite import NonFinite
from .path_escape import PathEscape
from .peft_prefix_absent import PeftPrefixAbsent
from .rank_mismatch import RankMismatch
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
from .unexpected_key import UnexpectedKey
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
    AdapterPairIncomplete,
    LayerGap,
    WrapperPrefix,
    DoublePeftPrefix,
    PeftPrefixAbsent,
    AdapterNameInKeys,
    AdapterKeysOutsideConfig,
    BaseWeightsInAdapter,
    ModulesToSaveMissing,
    UnexpectedKey,
    SharedStorage,
    ViewOfLargerStorage,
    NonContiguous,
    RankMismatch,
    ZeroSizeTensor,
    EmptyAdapter,
    SideFileShapeMismatch,
    DoraMagnitudeMismatch,
    ConfigUnreadable,
    ConfigUnknownKeys,
    BasePathUnusable,
    DtypeSurprise,
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
