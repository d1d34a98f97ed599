"""CKD904."""

from __future__ import annotations

from ckpt_doctor.checkpoint import Defect, DefectKind, Part, WeightFile
from ckpt_doctor.findings import Severity

from .rule import DefectRule


class ExecutableArchive(DefectRule):
    """The file is a program or a container where weights are expected: TorchScript, tar, 7z and the like.

    ## What it does
    Recognises archives by their content, and TorchScript by the code that it brings along.

    ## Why is this bad?
    TorchScript is code that runs when the model is called. Tar archives are a format of torch before 0.4, and
    `weights_only=True` refuses both: `Cannot use weights_only=True with files saved in the legacy .tar format`,
    `Cannot use weights_only=True with TorchScript archives`. What other
    containers hold is not looked at.

    ## Example
    `torch.jit.save(model, "pytorch_model.bin")`; a checkpoint that was packed for sending and not unpacked.

    ## What to do
    Unpack it and inspect what is inside. For TorchScript, save the state dict from a machine where running the model
    does no harm.
    """

    code = "CKD904"
    name = "executable-archive"
    severity = Severity.ERROR
    kinds = (DefectKind.EXECUTABLE_ARCHIVE,)
    advice = "Do not load it: unpack it and inspect what is inside, or get the plain state dict."

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """An error, for whoever opens the file is at risk; a warning for TorchScript that lies beside the weights."""
        return Severity.WARNING if part.auxiliary and "TorchScript" in file.content else self.severity
