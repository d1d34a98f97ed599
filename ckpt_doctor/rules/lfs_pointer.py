"""CKD101."""

from __future__ import annotations

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.findings import Severity

from ._kit.rule import DefectRule


class LfsPointer(DefectRule):
    """The file is a Git LFS pointer; the weights were never downloaded.

    ## What it does
    Recognises the three lines of text that Git LFS leaves instead of a large file: `version`, `oid`, `size`.

    ## Why is this bad?
    A file of about 130 bytes bears the name of the weights, so everything that only looks at names is satisfied.
    safetensors then says `header too large`; torch says `invalid load key, 'v'` or `Weights only load failed`.

    ## Example
    `git clone` of a model repository on a machine without `git-lfs`.

    ## What to do
    Run `git lfs install && git lfs pull` in the clone, or download the file from the hub again.

    ## References
    microsoft/OmniParser#34
    """

    code = "CKD101"
    name = "lfs-pointer"
    severity = Severity.ERROR
    kinds = (DefectKind.LFS_POINTER,)
    advice = "Run `git lfs pull` in the clone, or download the file again."
