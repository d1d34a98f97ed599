"""CKD107."""

from __future__ import annotations

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.findings import Severity

from ._kit.rule import DefectRule


class StorageMissing(DefectRule):
    """The file lists a tensor whose bytes are absent, or fewer than the tensor needs.

    ## What it does
    Looks up the record behind every tensor of a torch file and compares its length with what the tensor declares:
    its shape, its strides and its offset.

    ## Why is this bad?
    torch stops with `PytorchStreamReader failed locating file data/12: file not found`, with `setStorage: sizes …
    are out of bounds`, or with `unexpected EOF, expected 8 more bytes. The file might be corrupted.`

    ## Example
    An archive that was unpacked and packed again without one of its members; a file of the old format whose last
    storages were cut off.

    ## What to do
    Copy or download the file again. The other tensors of the file can still be read.
    """

    code = "CKD107"
    name = "storage-missing"
    severity = Severity.ERROR
    kinds = (DefectKind.STORAGE_MISSING,)
    advice = "Copy or download the file again, or save it again from the training run."
