"""CKD904."""

from __future__ import annotations

import posixpath

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, shell

from ._kit.rule import DefectRule


class ExecutableArchive(DefectRule):
    """The file is a program or a container where weights are expected: TorchScript, tar, 7z and the like.

    ## What it does
    Recognises archives by their content, and TorchScript by the code that it brings along.

    ## Why is this bad?
    TorchScript is code that runs when the model is called. Tar archives are a format of torch before 0.4, and
    `weights_only=True` refuses both: `Cannot use weights_only=True with files saved in the legacy .tar format`, `Cannot
    use weights_only=True with TorchScript archives`. The content of other containers is not judged.

    ## Example
    `torch.jit.save(model, "pytorch_model.bin")`; a checkpoint that was packed for sending and not unpacked.

    ## What to do
    Unpack it and inspect what is inside. For TorchScript, take the tensors out with
    `ckpt-doctor convert FILE --to safetensors --tensors-only`, under the names of the module's own `state_dict()`.
    Nothing of the program is run.
    """

    code = "CKD904"
    name = "executable-archive"
    severity = Severity.ERROR
    kinds = (DefectKind.EXECUTABLE_ARCHIVE,)
    advice = "Do not load it. Unpack it and inspect its files, or get the plain state dict."

    def advice_for(self, checkpoint: Checkpoint, file: WeightFile, defect: Defect) -> str:
        """For TorchScript with tensors, the command that takes them out."""
        if defect.evidence.get("kind") != "torchscript" or not file.tensors:
            return self.advice
        path = checkpoint.path if checkpoint.kind.grain == "file" else posixpath.join(checkpoint.path, file.path)
        command = shell("convert", path, "--to", "safetensors", "--tensors-only")
        count = counted(len(file.tensors) - len(file.outside) or len(file.tensors), "tensor")
        return f"torch.load refuses it by default. To extract its {count} without running it: `{command}`"

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """An error, for whoever opens the file is at risk; a warning for TorchScript that lies beside the weights."""
        return Severity.WARNING if part.auxiliary and "TorchScript" in file.content else self.severity
