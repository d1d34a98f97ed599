"""CKD401."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.aliasing import AliasGroup, alias_groups
from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import byte_size, counted, listed, shell
from ckpt_doctor.knowledge.embeddings import EMBEDDINGS

from ._kit.rule import Rule, is_impossible


class SharedStorage(Rule):
    """Several tensors of the file are views of the same bytes.

    ## What it does
    Groups the tensors of a torch file whose bytes overlap. It tells the groups, how many bytes they take on disk, and
    how many they would take if each had its own.

    ## Why is this bad?
    safetensors refuses such a state dict: `RuntimeError: Some tensors share memory, this will lead to duplicate memory
    on disk and potential differences when loading them again`. That is why people save with
    `safe_serialization=False` and end up with a `.bin` that a later loader does not look for. Code that changes one
    of the tensors in place changes the others too.

    If only the input and output embeddings are tied, the model is as its config asks: a note.

    ## Example
    A model whose reasoner, weaver and trigger are one base model, saved as a whole state dict: every base tensor is
    there three times by name and once in bytes. An adapter of it, saved on its own, shares nothing.

    ## What to do
    Save the adapter alone, with `PeftModel.save_pretrained`, or convert with a copy for each name.

    ## Fix safety
    Safe: every name keeps its values; only the file grows.

    ## References
    huggingface/safetensors#202, huggingface/safetensors#304
    """

    code = "CKD401"
    name = "shared-storage"
    severity = Severity.WARNING
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                # Each tensor of a safetensors file has its own bytes, or the header is invalid (CKD105).
                groups = () if file.is_safetensors else alias_groups(file)
                if groups:
                    yield self._report(checkpoint, policy, part, file, groups)

    def _report(
        self, checkpoint: Checkpoint, policy: Policy, part: Part, file: WeightFile, groups: tuple[AliasGroup, ...]
    ) -> Finding:
        names = [name for group in groups for name in group.names]
        unique = sum(group.unique_nbytes for group in groups)
        apparent = sum(group.apparent_nbytes for group in groups)
        tied = all(_only_embeddings(group) for group in groups)
        if len(groups) == 1:
            grouping = f"{counted(len(names), 'tensor')} are views of the same bytes: "
        else:
            grouping = f"{counted(len(names), 'tensor')} in {len(groups):,} groups share bytes, such as "
        message = (
            f"{grouping}{' = '.join(groups[0].names[:3])}{' = …' if len(groups[0].names) > 3 else ''}. "
            f"They take {byte_size(unique)}, and {byte_size(apparent)} if each has its own. "
            "safetensors' save_file refuses a state dict that shares memory."
        )
        if tied:
            message += " Only the input and output embeddings are tied, as the model's config asks."
        return self.finding(
            f"{message}{_adapter_remark(checkpoint, file, groups)}",
            path=file.path,
            tensors=names,
            evidence={
                "groups": [list(group.names) for group in groups[:20]],
                "group_count": len(groups),
                "unique_bytes": unique,
                "apparent_bytes": apparent,
                "identical": all(group.identical for group in groups),
                "safetensors_refuses": True,
            },
            severity=Severity.NOTE if tied else self.severity,
            fix=None if tied else self._fix(checkpoint, policy, part, file),
        )

    def _fix(self, checkpoint: Checkpoint, policy: Policy, part: Part, file: WeightFile) -> Fix | None:
        actions = (Rewrite(file.path, shared="clone"),)
        if is_impossible(checkpoint, actions[0]):
            return None
        convertible = part.role in ("adapter", "model", "file") and policy.expected_format(checkpoint.kind) != "bin"
        if convertible:
            command = shell("convert", checkpoint.path, "--to", "safetensors", "--shared", "clone")
            return Fix("convert, with a copy for each name", "safe", command, actions)
        command = shell("fix", checkpoint.path, "--select", self.code)
        return Fix("rewrite it with a copy for each name", "safe", command, actions)


def _only_embeddings(group: AliasGroup) -> bool:
    return group.identical and all(name.endswith(EMBEDDINGS) for name in group.names)


def _adapter_remark(checkpoint: Checkpoint, file: WeightFile, groups: tuple[AliasGroup, ...]) -> str:
    """What can be said in favour of the adapter: people save everything as ``.bin`` because of the base's aliases."""
    for part in checkpoint.parts_with("adapter"):
        if part.readable and all(not alias_groups(item) for item in part.preferred):
            paths = listed(item.path for item in part.preferred)
            return f" The adapter itself ({paths}) shares nothing and can be a safetensors file."
    # In a whole state dict each module of the model lists the adapter again; within one of them nothing is shared.
    by_module: dict[str, set[str]] = {}
    for tensor in file.tensors:
        if ".lora_" in tensor.name:
            by_module.setdefault(tensor.name.partition(".")[0], set()).add(tensor.name)
    alone = [
        module
        for module, names in by_module.items()
        if all(len(names.intersection(group.names)) < 2 for group in groups)
    ]
    if not alone:
        return ""
    module = "weaver" if "weaver" in alone else alone[0]
    return (
        f" The {counted(len(by_module[module]), 'LoRA tensor')} of {module} share nothing with each other: saved "
        "alone, with save_pretrained, the adapter can be a safetensors file."
    )
