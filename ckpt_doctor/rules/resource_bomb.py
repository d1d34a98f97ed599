"""CKD903."""

from __future__ import annotations

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from ._kit.rule import DefectRule


class ResourceBomb(DefectRule):
    """Reading the file would take far more time or memory than its size explains.

    ## What it does
    Counts the opcodes, the memo entries, the depth, the declared lengths and the inflated bytes of a pickle, and stops
    at budgets that grow with the size of the file.

    ## Why is this bad?
    Loading it may take more time or memory than the machine has. A file that was not read was not judged.

    ## Example
    A string that declares more bytes than the file has; a compressed member that grows far beyond what weights do.

    ## What to do
    Do not load it. No file that `torch.save` wrote comes near the budgets.
    """

    code = "CKD903"
    name = "resource-bomb"
    severity = Severity.ERROR
    kinds = (DefectKind.RESOURCE_BOMB,)
    advice = "Do not load it: real checkpoints stay far below this limit."

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """An error everywhere: whoever opens the file is at risk."""
        return self.severity
