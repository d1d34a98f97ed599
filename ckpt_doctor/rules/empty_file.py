"""CKD102."""

from __future__ import annotations

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.findings import Severity

from ._kit.rule import DefectRule


class EmptyFile(DefectRule):
    """The file has 0 bytes, or holds nothing but zero bytes.

    ## What it does
    Looks for files without content. A file of the right size in which every byte is zero counts as empty too.

    ## Why is this bad?
    Nothing can be loaded: safetensors says `header too small`, torch says `EOFError: Ran out of input`.

    ## Example
    The disk or the quota was full when the checkpoint was saved. A file of zeros is what a crash leaves where the
    file system had reserved the space but not written the data.

    ## What to do
    Copy the file again from where it was saved, or save it again. Check the free space first.
    """

    code = "CKD102"
    name = "empty-file"
    severity = Severity.ERROR
    kinds = (DefectKind.EMPTY,)
    advice = "The content is lost. Copy the file again or save it again, and check the free disk space."
