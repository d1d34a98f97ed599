"""CKD602."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import TensorInfo, TensorScan
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule


class UntrainedAdapter(Rule):
    """The adapter's zero-initialised half is still zero everywhere: it changes nothing.

    ## What it does
    With `--deep`, looks at the parameters that PEFT initialises to zero: `lora_B` for LoRA, and its counterpart for
    other types. All of them zero means that no training step has reached the adapter. Types that do not start at zero
    are left alone. It is a warning if the file has other trained tensors, and for a further adapter in the folder; it
    is a note for a MemGen trigger that its `config.json` says is not active.

    ## Why is this bad?
    It loads without an error, and the evaluation measures the base model.

    ## Example
    The optimizer was built before the adapter was added; the adapter was frozen (`requires_grad=False`,
    `inference_mode=True`); the checkpoint was saved before the first step; ZeRO-3 or FSDP parameters were not
    gathered.

    ## What to do
    Check in the training run that `lora_B` changes after one step (`model.print_trainable_parameters()`), and train
    again. There is nothing to repair in the file.

    ## References
    tloen/alpaca-lora#357
    """

    code = "CKD602"
    name = "untrained-adapter"
    severity = Severity.ERROR
    needs = "tensor bytes"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("adapter"):
            finding = self._judge(checkpoint, part) if part.readable else None
            if finding is not None:
                yield finding

    def _judge(self, checkpoint: Checkpoint, part: Part) -> Finding | None:
        peft_type, prefix, zero_init = _initialisation(part)
        scans = _scans(part)
        if not zero_init or scans is None:
            return None
        tensors = [tensor for tensor in part.loaded_tensors if tensor.numel]
        judged = [tensor.name for tensor in tensors if _ends_in(tensor.name, zero_init)]
        if not judged or not all(scans[name].zero for name in judged):
            return None
        # Whatever else was trained and saved has an effect of its own: heads, embeddings, biases.
        besides = [tensor.name for tensor in tensors if not _belongs_to(tensor, prefix)]
        message = f"All {counted(len(judged), 'zero-initialised tensor')} of the {peft_type} adapter "
        message += f"({listed(judged)}) are still zero: no training reached them, and the base model is unchanged. "
        if besides:
            message += f"Only the {counted(len(besides), 'other tensor')} in the file ({listed(besides)}) can matter. "
        severity = Severity.WARNING if besides or part.secondary else self.severity
        if _waits_for_its_stage(checkpoint, part):
            severity = Severity.NOTE
            message += "MemGen trains the weaver before the trigger, and this trigger is not active yet."
        else:
            message += "Check that the optimizer was given the adapter's parameters, and train again."
        return self.finding(
            message,
            path=part.preferred[0].path,
            tensors=judged,
            evidence={"peft_type": peft_type, "zero": len(judged), "other_tensors": len(besides)},
            severity=severity,
        )


def _waits_for_its_stage(checkpoint: Checkpoint, part: Part) -> bool:
    """Whether this is the trigger of a MemGen checkpoint whose ``config.json`` says that it is not in use."""
    if checkpoint.kind.trainer != "MemGen" or not part.name.startswith("trigger"):
        return False
    data = (checkpoint.config.data if checkpoint.config is not None else None) or {}
    return data.get("trigger_active") is False


def _initialisation(part: Part) -> tuple[str, str, tuple[str, ...]]:
    """The adapter's type, the mark of its parameters' names, and the suffixes of those that start at zero."""
    from ckpt_doctor.knowledge.peft_types import PEFT_TYPES

    data = part.config.data if part.config is not None and part.config.data is not None else {}
    name = data.get("peft_type")
    if name is None and any(".lora_B." in tensor.name for tensor in part.loaded_tensors):
        name = "LORA"
    known = PEFT_TYPES.get(name) if isinstance(name, str) else None
    if known is None:
        return "", "", ()
    # VeRA's frozen banks bear the shorter prefix; without their trained vectors they do nothing either.
    return known.value, known.prefix.removesuffix("lambda_"), known.zero_init


def _ends_in(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a name ends in one of these parameters; ``*`` in them stands for a number."""
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, f"*.{suffix}") for suffix in suffixes)


def _scans(part: Part) -> dict[str, TensorScan] | None:
    """The scans of all tensors that loaders would read, or ``None`` where one is missing."""
    scans: dict[str, TensorScan] = {}
    for file in part.preferred:
        if file.scans is None:
            return None
        scans.update(file.scans)
    return scans if all(tensor.name in scans for tensor in part.loaded_tensors if tensor.numel) else None


def _belongs_to(tensor: TensorInfo, prefix: str) -> bool:
    words = tensor.name.split(".")
    if "base_layer" in words:
        # A targeted embedding is saved with the base model's own weight, which is no training result.
        return True
    return words[-1] != "bias" and any(word.startswith(prefix) for word in words)
