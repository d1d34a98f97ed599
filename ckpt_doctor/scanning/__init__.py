"""Tensor bytes to :class:`~ckpt_doctor.core.weight_file.TensorScan`: what ``--deep`` adds. It imports numpy."""

from .run import bytes_to_scan, scan

__all__ = ["bytes_to_scan", "scan"]
