"""CKD002."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


class LoaderRaised(LoadRule):
    """The loader ended with an exception.

    ## What it does
    Reports the message, the file that it wanted, and the line of the loader's own code where it happened. A call of
    `sys.exit` counts as one.

    ## Why is this bad?
    The evaluation would end in the same way, usually after the base model has been loaded.

    ## Example
    The checkpoint holds `adapter_model.bin`, and the loader opens `adapter_model.safetensors` by name:
    `FileNotFoundError`.

    ## What to do
    `ckpt-doctor inspect` says what lies there and in which format; `ckpt-doctor convert` writes the other one.
    """

    code = "CKD002"
    name = "loader-raised"
    severity = Severity.ERROR
