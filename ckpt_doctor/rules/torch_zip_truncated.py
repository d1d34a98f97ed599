"""CKD106."""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from ._kit.rule import DefectRule
from ._kit.salvage import salvaging


class TorchZipTruncated(DefectRule):
    """The torch file is cut off or damaged: its list of tensors cannot be read.

    ## What it does
    Reads the directory at the end of the zip archive and the pickle that lists the tensors. Files of the format before
    torch 1.6, which is a plain pickle stream, are read too.

    ## Why is this bad?
    The file does not load: `PytorchStreamReader failed reading zip archive: failed finding central directory`,
    `invalid header or archive is corrupted`, `unexpected EOF`, `Ran out of input`, `pickle data was truncated`.

    ## Example
    The central directory is the last thing that `torch.save` writes: a job that was killed while saving leaves a file
    without one. A download that stopped looks the same.

    ## What to do
    Copy or download the file again and compare the sizes; else use an earlier checkpoint.

    ## Fix safety
    Unsafe: the salvaged file lacks every tensor that was cut off, so a model loaded from it is incomplete.

    ## References
    CompVis/stable-diffusion#93
    """

    code = "CKD106"
    name = "torch-zip-truncated"
    severity = Severity.ERROR
    fix = "unsafe"
    kinds = (DefectKind.TORCH_TRUNCATED,)
    advice = "Copy or download the file again and compare the sizes, or use an earlier checkpoint."

    def fix_for(self, checkpoint: Checkpoint, part: Part, file: WeightFile, defect: Defect) -> Fix | None:
        """Keep the whole tensors, if there are any."""
        actions = salvaging(checkpoint, file)
        return self.repair(checkpoint, "salvage the tensors that are whole", actions, unsafe=True)
