"""CKD309."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_keys import AdapterKey, base_module

from ._kit.adapter_view import AdapterView, adapters, lies_in, names_in
from ._kit.rule import Rule
from .modules_to_save_missing import automatic_heads

# Names of input and output embeddings: PEFT saves them whole where they are targeted or were resized, and that they
# were resized stands nowhere in the files.
_EMBEDDINGS = frozenset(
    (
        "embed_tokens",
        "wte",
        "word_embeddings",
        "word_embedding",
        "embed_in",
        "embed_out",
        "shared",
        "lm_head",
        "decoder",
    )
) | frozenset(("embeddings", "embedding", "embed", "tok_embeddings", "output", "output_projection", "new_embeddings"))


class BaseWeightsInAdapter(Rule):
    """The adapter file also holds weights of the base model.

    ## What it does
    Looks for tensors without an adapter parameter in their name that neither `bias`, `modules_to_save`, a task's head
    nor saved embeddings explain. The files do not tell if the base has a module outside the adapted ones, such as a
    value head. The message then names both cases, and there is no fix.

    ## Why is this bad?
    PEFT loads them too, and they silently overwrite the base model's weights, also those of a better base or of another
    dtype. The file is larger than it should be, and servers such as vLLM refuse it.

    ## Example
    `base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight` in `adapter_model.safetensors`.

    ## What to do
    Save with `model.save_pretrained`; or drop the tensors, if the base model is the one that was trained on.

    ## Fix safety
    Unsafe: if the base weights were trained as well, dropping them loses that.

    ## References
    vllm-project/vllm#32599
    """

    code = "CKD309"
    name = "base-weights-in-adapter"
    severity = Severity.WARNING
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            # Only a type whose parameters go by module has names that tell base weights from its own.
            if view.kind is None or not view.kind.module_suffixes or view.kind.prompt_learning:
                continue
            if not any(key.parameter is not None for key in view.keys):
                continue
            found = [key for key in view.keys if key.parameter is None and not _explained(key, view)]
            names = [key.name for key in found if _root(key) in _adapted_roots(view)]
            apart = [key.name for key in found if _root(key) not in _adapted_roots(view)]
            if apart:
                yield self.finding(
                    f"{counted(len(apart), 'tensor')} of {len(view.file.tensors):,} ({listed(apart)}) "
                    f"{'belongs' if len(apart) == 1 else 'belong'} to a module that is neither adapted nor named in "
                    "modules_to_save. If the base has such a module, PEFT overwrites it; if not, PEFT drops the "
                    f"tensors silently. {_advice(apart)}",
                    path=view.file.path,
                    tensors=apart,
                    evidence={"tensors": len(apart), "bytes": sum(view.file.by_name[name].nbytes for name in apart)},
                )
            if names:
                tensors = view.file.by_name
                size = sum(tensors[name].nbytes for name in names)
                yield self.finding(
                    f"{counted(len(names), 'tensor')} of {len(view.file.tensors):,} ({size:,} bytes) "
                    f"{'belongs' if len(names) == 1 else 'belong'} to the base model: {listed(names)}. Loading the "
                    "adapter silently overwrites the base model's. Save with save_pretrained, or drop "
                    f"{'it' if len(names) == 1 else 'them'} if the base model itself was not trained.",
                    path=view.file.path,
                    tensors=names,
                    evidence={"tensors": len(names), "bytes": size},
                    fix=self.repair(
                        checkpoint,
                        f"drop {counted(len(names), 'tensor')} of the base model",
                        [Rewrite(view.file.path, without=tuple(names))],
                        unsafe=True,
                    ),
                )


def _root(key: AdapterKey) -> str:
    return base_module(key.module).partition(".")[0]


def _adapted_roots(view: AdapterView) -> set[str]:
    """Where the adapted modules lie in the base: what is elsewhere need not be a part of it at all."""
    return {_root(key) for key in view.keys if key.parameter is not None and not key.shared}


def _advice(names: list[str]) -> str:
    if any("v_head." in name for name in names):
        return "v_head is the value head of TRL's AutoModelForCausalLMWithValueHead: load the adapter with that class."
    return "Load the adapter into the class it was trained in, or add the module to modules_to_save."


def _explained(key: AdapterKey, view: AdapterView) -> bool:
    assert view.kind is not None
    words = key.module.split(".")
    if view.settings.get("bias") not in (None, "none") and words[-1] == "bias":
        return True
    saved = (*names_in(view.settings.get("modules_to_save")), *automatic_heads(view.settings))
    # PEFT wraps every module whose path ends in the given text, also in the middle of a component.
    if any(lies_in(key.module, module) or any(word.endswith(module) for word in words) for module in saved):
        return True
    # A parameter of the type itself under a name that a later version gives it.
    if any(word.startswith(view.kind.prefix) for word in words):
        return True
    module = base_module(key.module).split(".")
    return len(module) > 1 and module[-2] in _EMBEDDINGS
