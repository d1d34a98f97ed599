"""CKD201."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ckpt_doctor.analysis.aliasing import alias_groups
from ckpt_doctor.analysis.sharding import indexed_shards
from ckpt_doctor.core.actions import Action, Rewrite, SetAside, TargetFormat, WriteIndex
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted
from ckpt_doctor.knowledge.weight_names import converted_index, converted_name

from ._kit.rule import Rule

_ENDINGS = {"safetensors": ".safetensors", "bin": ".bin"}


class WeightsFormatMismatch(Rule):
    """The weights are in one format and the loader that will read them expects the other.

    ## What it does
    Looks at the weight files of adapters and models. With `--expect safetensors` each must be there as
    `.safetensors`, with `--expect bin` as `.bin`; `--expect any` accepts both. Without the option, MemGen weaver and
    trigger directories expect safetensors and all other checkpoints accept either. Side files such as
    `projections.pt` are never meant.

    ## Why is this bad?
    A loader that opens `adapter_model.safetensors` by name raises `FileNotFoundError`, usually after the base model
    has been loaded, or goes on with weights that were never trained.

    ## Example
    `weaver/weaver_lora/adapter_model.bin` was saved with `safe_serialization=False`; the evaluation opens
    `adapter_model.safetensors`.

    ## What to do
    Convert the file, or make the loader take both. `ckpt-doctor fix` replaces the original by the converted file;
    `ckpt-doctor convert` leaves both, and CKD204 then says so.

    ## Fix safety
    Safe: the converted file holds the same values, and the original is kept as a backup.

    ## References
    sshh12/multi_token#12
    """

    code = "CKD201"
    name = "weights-format-mismatch"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        expected = policy.expected_format(checkpoint.kind)
        if expected == "any":
            return
        ending = _ENDINGS[expected]
        for part in checkpoint.parts_with("adapter", "model"):
            named = [file for file in part.files if file.path.endswith(tuple(_ENDINGS.values()))]
            if not named or any(file.path.endswith(ending) for file in named):
                continue
            file = named[0]
            wanted = next((name for name in part.expected_files if name.endswith(ending)), f"a {ending} file")
            found = "." + file.path.rpartition(".")[2]
            shared = [name for item in named for group in alias_groups(item) for name in group.names]
            count = sum(len(item.tensors) for item in named)
            actions = _conversion(part, named, expected)
            # What was asked for here has to be asked for there, too.
            fix = self.repair(checkpoint, f"convert to {expected}", actions, expect=policy.expect)
            if fix is None:
                obstacle = "Mend what is wrong with the file itself first."
            elif shared:
                obstacle = f"{counted(len(shared), 'tensor')} of {count:,} share storage (see CKD401)."
            else:
                obstacle = f"The {counted(count, 'tensor')} share no storage, so the file can be converted."
            yield self.finding(
                f"{found} where {ending} is expected: a loader that opens {wanted} by name will not find it. "
                f"{obstacle}",
                path=file.path,
                evidence={"expected": expected, "found": found, "files": [item.path for item in part.files]},
                fix=fix,
            )


def _conversion(part: Part, files: list[WeightFile], expected: TargetFormat) -> tuple[Action, ...]:
    """Write the files and their index in the other format; the old ones go."""
    actions: list[Action] = [
        Rewrite(file.path, _renamed(file.path, converted_name, expected), format=expected, shared="clone")
        for file in files
    ]
    for shards in indexed_shards(part):
        index = shards.index
        target = _renamed(index.path, converted_index, expected)
        if target != index.path:
            weight_map = {name: _renamed(shard, converted_name, expected) for name, shard in index.weight_map.items()}
            total = sum(tensor.nbytes for file in shards.present.values() for tensor in file.tensors)
            actions += [WriteIndex(target, weight_map, total, like=index.path), SetAside(index.path)]
    return tuple(actions)


def _renamed(path: str, better: Callable[[str, TargetFormat], str], expected: TargetFormat) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{better(name, expected)}"
