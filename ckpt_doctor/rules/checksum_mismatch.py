"""CKD603."""

from __future__ import annotations

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.findings import Severity

from ._kit.rule import DefectRule


class ChecksumMismatch(DefectRule):
    """The bytes in the archive are not those that were written: the CRC32 disagrees.

    ## What it does
    With `--deep`, computes the CRC32 of every record of a torch file and compares it with the one that `torch.save`
    stored. A stored value of 0 means that none was computed. The record that lists the tensors is checked always.
    safetensors files hold no checksums.

    ## Why is this bad?
    torch is built without this check: a flipped bit loads silently, and the model is a little wrong, or very.

    ## Example
    A failing disk, a bad memory module, an upload that was resumed at the wrong position.

    ## What to do
    Copy or download the file again, and compare SHA-256 sums with the source. Check the machine if it happens twice.

    ## References
    pytorch/pytorch#126952
    """

    code = "CKD603"
    name = "checksum-mismatch"
    severity = Severity.ERROR
    needs = "tensor bytes"
    kinds = (DefectKind.CHECKSUM,)
    advice = "torch loads it without an error. Copy or download the file again."
