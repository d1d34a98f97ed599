"""CKD103."""

from __future__ import annotations

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile

from ._kit.rule import DefectRule
from .kind_not_read import is_mistaken


class ImpostorFile(DefectRule):
    """The file bears the name of weights, but it is something else: a web page, JSON, text, an image.

    ## What it does
    Recognises the content by its first bytes, not by its name. It is an error if the content is text, a web page, XML
    or JSON, or if a loader would open the file by its name. Weights of another kind under another name are CKD113.

    ## Why is this bad?
    Nothing can be loaded. torch says `invalid load key, '<'`, safetensors says `header too large` or
    `invalid header length`.

    ## Example
    A download that needed a login saved the login page as `adapter_model.bin`; a mirror answered with
    `{"error": "Entry not found"}`.

    ## What to do
    Open the file in a text editor to see what the server said, then download it again.
    """

    code = "CKD103"
    name = "impostor-file"
    severity = Severity.ERROR
    kinds = (DefectKind.IMPOSTOR,)
    advice = "A loader that opens it by this name fails. Download or save the weights again."

    def concerns(self, part: Part, file: WeightFile, defect: Defect) -> bool:
        """See :meth:`DefectRule.concerns`."""
        return is_mistaken(part, file, defect)

    def statement(self, defect: Defect) -> str:
        """See :meth:`DefectRule.statement`."""
        return defect.message.partition(": this tool")[0]

    def advice_for(self, checkpoint: Checkpoint, file: WeightFile, defect: Defect) -> str:
        """See :meth:`DefectRule.advice_for`."""
        if file.content in _TEXTS:
            return "Look at what the file says, remove it, and download or save the weights again."
        if defect.other_kind is not None and defect.evidence["weights"]:
            return (
                f"A loader that opens it by this name fails. If the {defect.other_kind} is wanted, give it the name "
                "that its own library uses; then save or download the weights that belong here."
            )
        return self.advice


_TEXTS = ("HTML", "XML", "JSON", "text")
