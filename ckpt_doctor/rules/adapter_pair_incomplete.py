"""CKD302."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed

from ._kit.adapter_view import AdapterView, adapters
from ._kit.rule import Rule

_MAGNITUDE = "lora_magnitude_vector"


class AdapterPairIncomplete(Rule):
    """Adapter parameters that only work together are incomplete.

    ## What it does
    Looks at each adapted module for parameters that come together: `lora_A` with `lora_B`, `hada_w1_a` with
    `hada_w1_b`, `vera_lambda_b` with `vera_lambda_d`, a magnitude vector with its LoRA pair, both factors of a LoKr
    (each in one piece or in two). A VeRA that says `save_projection` needs `vera_A` too: without it, PEFT raises.

    ## Why is this bad?
    The missing half stays at its initialisation. An untrained `lora_B` is zero, so the module behaves like the base
    model; an untrained `lora_A` is random, so it adds noise. PEFT warns of missing keys, or says nothing.

    ## Example
    A filter on the state dict kept `lora_A` and dropped `lora_B`.

    ## What to do
    Save the adapter again from the training run.
    """

    code = "CKD302"
    name = "adapter-pair-incomplete"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            if view.kind is None:
                continue
            missing: list[str] = []
            orphans: list[str] = []
            if _lacks_its_bank(view):
                missing.append(_BANK)
                orphans += [tensor.name for tensor in view.file.tensors]
            for module, parameters in view.modules.items():
                alone = {_MAGNITUDE} if set(parameters) == {_MAGNITUDE} else set()
                for group in (*view.kind.groups, *([(_MAGNITUDE, *view.kind.groups[0])] if alone else [])):
                    there = [parameter for parameter in group if parameter in parameters]
                    if there and len(there) < len(group):
                        present = parameters[there[0]]
                        prefix = present[: len(present) - len(there[0])] if present.endswith(there[0]) else f"{module}."
                        missing += [prefix + parameter for parameter in group if parameter not in parameters]
                        orphans += [parameters[parameter] for parameter in there]
                absent = [half for half in _halves(view) if not _has_half(parameters, half)]
                if absent:
                    there = list(parameters.values())
                    missing += [f"{there[0].rpartition('.')[0]}.{half}" for half in absent]
                    orphans += there
            if missing:
                yield self.finding(
                    f"{counted(len(set(missing)), 'tensor')} "
                    f"{'is' if len(set(missing)) == 1 else 'are'} missing: {listed(sorted(set(missing)))}. The other "
                    "half of each pair is there and does not work alone: the missing half would stay at its "
                    "initialisation. Save the adapter again from the training run.",
                    path=view.file.path,
                    tensors=missing,
                    evidence={"missing": sorted(set(missing))[:20], "present": sorted(set(orphans))[:20]},
                )


_BANK = "base_model.vera_A"


def _lacks_its_bank(view: AdapterView) -> bool:
    """Whether VeRA's shared projection is absent though the configuration says that it was saved: PEFT then raises."""
    if view.kind is None or view.kind.value != "VERA" or view.settings.get("save_projection") is not True:
        return False
    return bool(view.modules) and _BANK not in view.file.by_name


def _halves(view: AdapterView) -> tuple[str, ...]:
    """The factors that every module must have, in one piece or in two."""
    return ("lokr_w1", "lokr_w2") if view.kind is not None and view.kind.value == "LOKR" else ()


def _has_half(parameters: Iterable[str], half: str) -> bool:
    """Whether a factor of a Kronecker product is there, whole or as a product of its own (``lokr_w1_a``)."""
    return any(parameter == half or parameter.startswith(f"{half}_") for parameter in parameters)
