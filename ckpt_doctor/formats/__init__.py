"""Bytes to :class:`~ckpt_doctor.core.weight_file.WeightFile`: headers only, chosen by content, executing nothing."""

from .config_file import read_config
from .recognise import read_weight_file
from .shard_index import read_shard_index

__all__ = ["read_config", "read_shard_index", "read_weight_file"]
