"""Tensor bytes to :class:`~ckpt_doctor.checkpoint.TensorScan`: what ``--deep`` adds. Imports numpy: import it late."""

from .run import bytes_to_scan, scan

__all__ = ["bytes_to_scan", "scan"]
