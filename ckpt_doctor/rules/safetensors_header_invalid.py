"""CKD105."""

from __future__ import annotations

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.findings import Severity

from ._kit.rule import DefectRule


class SafetensorsHeaderInvalid(DefectRule):
    """The header of the safetensors file breaks the rules of the format.

    ## What it does
    Checks the header's length, its JSON, and for each tensor the dtype, the shape and the byte range. A name that
    occurs twice, ranges that overlap, and bytes that belong to no tensor are all refused by the format.

    ## Why is this bad?
    Loaders refuse the file (`HeaderTooLarge`, `header too large`, `InvalidHeaderDeserialization`, `invalid JSON in
    header`, `InvalidOffset`, `TensorInvalidInfo`), or two of them read different values from it.

    ## Example
    A tool that edited the header without moving the data; a file written by hand; a download that was resumed at the
    wrong position.

    ## What to do
    Save the file again with the safetensors library, or download it again.
    """

    code = "CKD105"
    name = "safetensors-header-invalid"
    severity = Severity.ERROR
    kinds = (DefectKind.SAFETENSORS_HEADER,)
    advice = "Save the file again with the safetensors library, or download it again."
