"""CKD308."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.adapter_keys import base_module

from ._kit.adapter_view import AdapterView, adapters, lies_in, names_in, names_module, wraps_parameters
from ._kit.repairs import setting
from ._kit.rule import Rule


class AdapterKeysOutsideConfig(Rule):
    """The adapter holds weights of modules that its configuration does not name.

    ## What it does
    Compares the modules of per-module adapter tensors with `target_modules`, where that is a list. A regular
    expression, `all-linear` and an absent list are not judged; nor are `modules_to_save`, trainable tokens, shared
    banks and `target_parameters`.

    ## Why is this bad?
    PEFT creates adapters only for the modules that the configuration names. The tensors of the others are dropped
    silently when the adapter is loaded.

    ## Example
    `target_modules: ["q_proj"]` beside tensors of `q_proj` and `v_proj`.

    ## What to do
    Put the modules into `target_modules`, if they were trained; or find out which of the two files is of another run.
    Adapters of parameters, such as those of fused experts, belong to `target_parameters`, and the file does not hold
    the parameters' names.

    ## Fix safety
    Unsafe: whether the configuration or the weights are right is not in the files. There is no fix where parameters
    rather than modules were adapted.
    """

    code = "CKD308"
    name = "adapter-keys-outside-config"
    severity = Severity.ERROR
    needs = "headers and configs"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for view in adapters(checkpoint):
            targets = names_in(view.settings.get("target_modules"))
            # With ensure_weight_tying PEFT also saves the adapter of the module that is tied to a target, and
            # target_parameters wrap modules that need not be named anywhere.
            exempt = view.settings.get("ensure_weight_tying") or view.settings.get("target_parameters")
            if view.kind is None or not targets or "all-linear" in targets or exempt:
                continue
            outside = [
                key.name for key in view.keys if _is_outside(key.module, key.parameter, key.shared, targets, view)
            ]
            if outside:
                paths = {key.module for key in view.keys if key.name in set(outside)}
                wrapped = sorted({base_module(path) for path in paths if wraps_parameters(path, paths)})
                modules = sorted({_entry(base_module(path)) for path in paths})
                advice = (
                    f"{listed(wrapped)} {'has' if len(wrapped) == 1 else 'have'} adapted parameters: list these in "
                    "target_parameters, or take both files from one run."
                    if wrapped
                    else "Add the modules to the configuration, or take both files from one run."
                )
                yield self.finding(
                    f"{counted(len(outside), 'tensor')} of {len(view.file.tensors):,} belong to modules "
                    f"({listed(modules)}) that target_modules [{listed(targets, 8)}] does not name: PEFT drops them "
                    f"silently. {advice}",
                    path=view.file.path,
                    tensors=outside,
                    evidence={"modules": modules[:20], "target_modules": sorted(targets)[:20]},
                    fix=self.repair(
                        checkpoint,
                        f"add {listed(modules)} to target_modules",
                        () if wrapped else setting(view.part, {"target_modules": sorted({*targets, *modules})}),
                        unsafe=True,
                    ),
                )


def _entry(path: str) -> str:
    """What names a module in ``target_modules``: its last word, or its whole path where that is only a number."""
    last = path.rpartition(".")[2]
    return path if last.isdecimal() else last


def _is_outside(module: str, parameter: str | None, shared: bool, targets: tuple[str, ...], view: AdapterView) -> bool:
    if parameter is None or shared or not module or "trainable_tokens" in parameter:
        return False
    if any(names_module(module, target) for target in targets):
        return False
    # IA3 and others list some of their modules apart; a nested parameter is named with its module in front.
    listed_elsewhere = (
        *names_in(view.settings.get("feedforward_modules")),
        *names_in(view.settings.get("modules_to_save")),
    )
    return not any(lies_in(f"{module}.", name) for name in listed_elsewhere)
