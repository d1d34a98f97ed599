"""Which tensors of a damaged file are still whole: what the rules about cut files ask."""

from __future__ import annotations

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.weight_file import WeightFile


def whole_tensors(file: WeightFile) -> tuple[str, ...]:
    """Names of the tensors whose bytes all lie inside the file, in the order of the file."""
    damaged = {name for defect in file.defects if defect.kind is DefectKind.STORAGE_MISSING for name in defect.tensors}
    whole = []
    for tensor in file.tensors:
        span = tensor.byte_range
        if span is not None and tensor.numel and span[1] <= file.nbytes and tensor.name not in damaged:
            whole.append(tensor.name)
    return tuple(whole)
