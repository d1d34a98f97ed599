"""CKD318."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ckpt_doctor.analysis.architecture.segments import renamed
from ckpt_doctor.core.actions import Action
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted

from ._kit.model_view import ModelView, judged_models
from ._kit.repairs import renaming
from ._kit.rule import Rule


class PathSegmentOff(Rule):
    """Every name has one part of its path too much, or too little, for the class in `architectures`.

    ## What it does
    If most names in a whole model are not those of its class, tests if all names fit once one part of the path is
    removed or inserted, such as `language_model`. Names that transformers converts by itself are left alone.

    ## Why is this bad?
    `from_pretrained` matches none of the tensors, logs a long list of unused and newly initialised weights, and returns
    a model of random values.

    ## Example
    `model.language_model.layers.0.…` beside `"architectures": ["LlamaForCausalLM"]`, whose layers are
    `model.layers.0.…`: the text model of a multimodal one, saved under the wrapper's names.

    ## What to do
    Rename the tensors, or name the class in `config.json` whose names these are.

    ## Fix safety
    Safe: only names change, none collides, and without the change nothing would be loaded.

    ## References
    unslothai/unsloth#5816, vllm-project/vllm#48019
    """

    code = "CKD318"
    name = "path-segment-off"
    severity = Severity.ERROR
    needs = "headers and configs"
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for model in judged_models(checkpoint):
            segment = model.fit.segment
            if segment is None:
                continue
            name = next((name for name in model.fit.unmatched if renamed(name, segment) != name), None)
            if name is None:
                continue
            count = len(model.fit.unmatched)
            verbs = ("name has", "names have") if segment.inserted else ("name lacks", "names lack")
            yield self.finding(
                f"{counted(count, *verbs)} the part {segment.word!r}, such as "
                f"{name}: {model.fit.cls} in {model.config} has {renamed(name, segment)}. from_pretrained loads none "
                f"of them. {'Remove it from' if segment.inserted else 'Insert it into'} the names, or name the "
                f"class with these names in {model.config}.",
                path=model.path,
                tensors=model.fit.unmatched,
                evidence={"segment": segment.word, "position": segment.position, "inserted": segment.inserted},
                fix=self.repair(checkpoint, f"rename {counted(count, 'tensor')}", _renaming(model)),
            )


def _renaming(model: ModelView) -> tuple[Action, ...]:
    """Rename in every file; nothing where one index would have to be written for several files."""
    segment = model.fit.segment
    if segment is None or len(model.part.preferred) > 1:
        return ()
    better = partial(renamed, segment=segment)
    file = model.part.preferred[0]
    # The other names are those of the class already.
    names = [name for name in model.fit.unmatched if better(name) != name]
    return renaming(model.part, file, names, better)
