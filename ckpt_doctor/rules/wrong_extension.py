"""CKD108."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Move, Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile

from ._kit.rule import Rule

# Names under which PEFT and transformers look for weights; both choose their reader by the ending of the name.
_READ_BY_NAME = ("adapter_model.", "model", "pytorch_model")
_TORCH_ENDINGS = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".th")


class WrongExtension(Rule):
    """The file's name says one format and its content is the other.

    ## What it does
    Compares the content with the name. A safetensors file must not be called `.bin`, `.pt`, `.pth` or `.ckpt`, and
    what `torch.save` wrote must not be called `.safetensors`.

    ## Why is this bad?
    PEFT and transformers choose their reader by the name: safetensors then says `header too large`
    (`HeaderTooLarge`) or `invalid JSON in header`, torch says `invalid load key` or `Weights only load failed`. So it
    is an error for `adapter_model.*`, `model*` and `pytorch_model*`, and a warning for other names.

    ## Example
    `mv adapter_model.bin adapter_model.safetensors` instead of a conversion.

    ## What to do
    Rename the file to what it is, or convert it to what its name says.

    ## Fix safety
    Safe: the file is renamed, not changed; where a loader is expected that opens exactly this name, it is converted
    instead, and the original is kept as a backup. There is no fix where the other name is taken, where an index names
    the file, or where a loader asks for exactly this name, as it does for side files.

    ## References
    huggingface/safetensors#414
    """

    code = "CKD108"
    name = "wrong-extension"
    severity = Severity.WARNING
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for file in part.files:
                if file.readable and _contradicts(file):
                    yield self._report(checkpoint, policy, part, file)

    def _report(self, checkpoint: Checkpoint, policy: Policy, part: Part, file: WeightFile) -> Finding:
        base = file.path.rpartition("/")[2]
        by_name = base.lower().startswith(_READ_BY_NAME)
        is_safetensors = file.is_safetensors
        content = "safetensors" if is_safetensors else "a torch file"
        advice = "Loaders that choose their reader by the name will fail. " if by_name else ""
        fix = None
        target = _better_name(checkpoint, part, file)
        wanted = policy.expected_format(checkpoint.kind) if part.role in ("adapter", "model") else "any"
        if target is not None and wanted != "any" and file.path.endswith(f".{wanted}"):
            target = None  # under the better name, the loader would not find it (CKD201)
            fix = self.repair(
                checkpoint,
                f"convert it to {wanted}",
                [Rewrite(file.path, format=wanted, shared="clone")],
                expect=policy.expect,
            )
            advice += "Convert it to what its name says."
        elif target is not None:
            advice += f"Rename it to {target}, or convert it to what its name says."
        else:
            advice += "Convert it to what its name says: a loader that looks for this name would not find it renamed."
        if target is not None:
            folder = file.path.removesuffix(base)
            fix = self.repair(checkpoint, f"rename to {target}", [Move(file.path, folder + target)])
        return self.finding(
            f"The content is {content}, but the name ends in .{base.rpartition('.')[2]}. {advice}",
            path=file.path,
            evidence={"format": file.format, "rename_to": target},
            severity=Severity.ERROR if by_name else self.severity,
            fix=fix,
        )


def _contradicts(file: WeightFile) -> bool:
    name = file.path.lower()
    return name.endswith(_TORCH_ENDINGS) if file.is_safetensors else name.endswith(".safetensors")


def _better_name(checkpoint: Checkpoint, part: Part, file: WeightFile) -> str | None:
    """The base name that the content asks for, or ``None`` where a rename would do harm."""
    if part.role not in ("adapter", "model", "file"):
        return None
    folder, slash, base = file.path.rpartition("/")
    if any(base in index.weight_map.values() for index in part.indexes):
        return None
    stem = base.rpartition(".")[0]
    if file.is_safetensors:
        target = stem.replace("pytorch_model", "model", 1) + ".safetensors"
    else:
        # transformers looks for model.safetensors, but for pytorch_model.bin.
        renamed = "pytorch_" + stem if stem == "model" or stem.startswith("model-") else stem
        target = renamed + ".bin"
    wanted = folder + slash + target
    taken = {item.path for item in checkpoint.files} | {other.path for other in checkpoint.others}
    return None if wanted in taken else target
