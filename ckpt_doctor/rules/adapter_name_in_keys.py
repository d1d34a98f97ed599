"""CKD307."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted

from ._kit.adapter_view import adapters
from ._kit.repairs import renaming
from ._kit.rule import Rule


class AdapterNameInKeys(Rule):
    """The names of the adapter's tensors contain the adapter's name.

    ## What it does
    Looks for names such as `…q_proj.lora_A.weaver.weight`, where PEFT would have saved `…q_proj.lora_A.weight`.

    ## Why is this bad?
    Who loads such names depends on the reader. PEFT 0.21 restores them if the adapter is loaded under that very name,
    and nothing of them under any other. PEFT 0.17 puts the name in a second time (`lora_A.weaver.weaver.weight`) and
    never restores them, and neither does sentence-transformers. A loader that compares with `model.state_dict()`
    directly restores them under that very name, and only them.

    ## Example
    `torch.save({k: v for k, v in model.state_dict().items() if "lora" in k}, "adapter_model.bin")`.

    ## What to do
    Take the name out, or save with `model.save_pretrained`. It is a warning where the usual loader uses that name:
    `default` in a folder of PEFT, `weaver` and `trigger` in checkpoints of MemGen.

    ## Fix safety
    Safe: names are changed only where nothing collides; no value is touched. Unsafe in checkpoints of MemGen, whose
    loader may be one that compares with `model.state_dict()` and restores only names with the adapter's name.

    ## References
    huggingface/peft#1579
    """

    code = "CKD307"
    name = "adapter-name-in-keys"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            by_adapter: dict[str, list[str]] = {}
            for key in view.keys:
                if key.adapter_name is not None and not key.shared:
                    by_adapter.setdefault(key.adapter_name, []).append(key.name)
            as_saved = {key.name: key.as_saved for key in view.keys if key.adapter_name is not None}
            if len(set(as_saved.values())) < len(as_saved):
                as_saved = {}  # two adapters in one file: nobody can tell which of them is meant
            for adapter, names in sorted(by_adapter.items()):
                named_so = view.part.name == f"{adapter} adapter"  # the layout's loader uses this name
                yield self.finding(
                    f"{counted(len(names), 'name')} of {len(view.file.tensors):,} "
                    f"{'contains' if len(names) == 1 else 'contain'} the adapter's name {adapter} (as in {names[0]}). "
                    f"PEFT 0.21 restores {'it' if len(names) == 1 else 'them'} only if the adapter is loaded under the "
                    f"name {adapter}; PEFT 0.17 and sentence-transformers never do. Remove the name from the keys.",
                    path=view.file.path,
                    tensors=names,
                    evidence={"adapter": adapter, "names": len(names)},
                    severity=Severity.WARNING if named_so or adapter == "default" else None,
                    fix=self.repair(
                        checkpoint,
                        f"remove {adapter} from the names",
                        renaming(view.part, view.file, names, partial(_as_saved, as_saved)),
                        unsafe=named_so,
                    ),
                )


def _as_saved(known: Mapping[str, str], key: str) -> str:
    return known.get(key, key)
