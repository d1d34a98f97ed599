"""CKD503."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule

if TYPE_CHECKING:
    from ckpt_doctor.knowledge.adapter_keys import AdapterKey
    from ckpt_doctor.knowledge.peft_types import PeftType


class EmptyAdapter(Rule):
    """A file of adapter or model weights holds no tensors.

    ## What it does
    Looks for adapter and model files that can be read and have an empty state dict, and for adapter files without a
    single parameter of the `peft_type` that the configuration names. A safetensors file of that kind has
    16 to 40 bytes, a `.bin` file 443 or so.

    ## Why is this bad?
    The adapter loads without an error and does nothing: the evaluation runs on the base model.

    ## Example
    An old Trainer patched `state_dict` before `save_pretrained`, or `save_pretrained(path, state_dict={})` was called.

    ## What to do
    Save the adapter again from the training run.

    ## References
    artidoro/qlora#44
    """

    code = "CKD503"
    name = "empty-adapter"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary or any(entry.required for entry in part.entries):
                continue
            for file in part.files:
                # One shard may hold nothing while another holds something, and a lone file may be about other things.
                other_content = file.values if part.role == "file" else next(part.loaded_tensors, None)
                if file.readable and not file.tensors and not other_content:
                    yield self.finding(
                        f"The file is well-formed but contains no tensors ({file.nbytes:,} bytes). A loader that reads "
                        "it goes on without these weights. Save it again from the training run.",
                        path=file.path,
                        evidence={"bytes": file.nbytes},
                    )
        if next(checkpoint.parts_with("adapter"), None) is None:
            return
        # Imported here because a checkpoint without adapters should not pay for what is known about them.
        from ._kit.adapter_view import adapters

        for view in adapters(checkpoint):
            if view.kind is not None and view.file.tensors and not any(_is_of(key, view.kind) for key in view.keys):
                yield self.finding(
                    f"None of the {counted(len(view.keys), 'tensor')} is a parameter of the configuration's type "
                    f"{view.kind.value} ({listed(key.name for key in view.keys)}): PEFT loads nothing of the adapter. "
                    "Take the weights and the configuration from one save.",
                    path=view.file.path,
                    evidence={"peft_type": view.kind.value, "tensors": len(view.keys)},
                )


def _is_of(key: AdapterKey, kind: PeftType) -> bool:
    """Whether a name holds a parameter of this type, be it one that only a later version gives it."""
    return key.parameter is not None or any(word.startswith(kind.prefix) for word in key.module.split("."))
