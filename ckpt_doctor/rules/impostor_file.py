"""CKD103."""

from __future__ import annotations

from ckpt_doctor.checkpoint import DefectKind
from ckpt_doctor.findings import Severity

from .rule import DefectRule


class ImpostorFile(DefectRule):
    """The file bears the name of weights, but it is something else: a web page, JSON, text, an image.

    ## What it does
    Recognises what lies there by its first bytes, whatever its name says.

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
    advice = "Look at what the file says, remove it, and download or save the weights again."
