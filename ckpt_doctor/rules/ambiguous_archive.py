"""CKD902."""

from __future__ import annotations

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from ._kit.rule import DefectRule


class AmbiguousArchive(DefectRule):
    """Two programs can read two different things from this file.

    ## What it does
    Reads the zip archive through its central directory and through the headers in front of each member. It reports
    members of one name, names that differ between the two, encryption flags, members that overlap, and data before,
    after or between the members. Data after the end of a pickle counts too, and so does a file that is two formats at
    once.

    ## Why is this bad?
    The tool may have judged other bytes than a loader reads: programs differ in which of the two they take.
    `torch.save` never writes such a file.

    ## Example
    Two members of one name, left by a script that updates members in place; bytes that were appended to the file.

    ## What to do
    Do not load it. Get the file again from a source that you trust, best as safetensors.
    """

    code = "CKD902"
    name = "ambiguous-archive"
    severity = Severity.ERROR
    kinds = (DefectKind.AMBIGUOUS_ARCHIVE,)
    advice = "torch.save never writes such a file. Do not load it; get it again from a source that you trust."

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """An error everywhere: whoever opens the file is at risk."""
        return self.severity
