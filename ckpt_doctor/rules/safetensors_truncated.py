"""CKD104."""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from ._kit.rule import DefectRule
from ._kit.salvage import salvaging


class SafetensorsTruncated(DefectRule):
    """The safetensors file is shorter or longer than its own header says.

    ## What it does
    Compares the length that follows from the header with the length of the file.

    ## Why is this bad?
    The file does not load: `SafetensorError: Error while deserializing header: incomplete metadata, file not fully
    covered` (older versions: `MetadataIncompleteBuffer`), or `InvalidHeaderLength` where the header itself is cut.

    ## Example
    A download or an upload that stopped half-way; a copy onto a full disk; two writers on one file.

    ## What to do
    Copy or download the file again and compare the sizes. If no other copy exists, the tensors that lie wholly inside
    the file can be kept.

    ## Fix safety
    Unsafe: the salvaged file lacks the tensors that were cut off, so a model loaded from it is incomplete.

    ## References
    lyogavin/airllm#137
    """

    code = "CKD104"
    name = "safetensors-truncated"
    severity = Severity.ERROR
    fix = "unsafe"
    kinds = (DefectKind.SAFETENSORS_TRUNCATED,)
    advice = "Copy or download the file again and compare the sizes."

    def fix_for(self, checkpoint: Checkpoint, part: Part, file: WeightFile, defect: Defect) -> Fix | None:
        """Keep the whole tensors, if there are any."""
        actions = salvaging(checkpoint, file)
        return self.repair(checkpoint, "salvage the tensors that are whole", actions, unsafe=True)
