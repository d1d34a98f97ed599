"""CKD316."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.embeddings import OUTPUT_EMBEDDINGS

from ._kit.model_view import ModelView, absent, judged_models
from ._kit.rule import Rule

_VALUE_HEAD = "v_head."


class HeadMissing(Rule):
    """The head of the class in `architectures` is in no file, or has another number of labels.

    ## What it does
    Looks for what the class has beyond its base model: `score` of a sequence classifier, `lm_head` of a language model
    whose `config.json` does not tie it. Compares the rows of a classifier with the number of labels (`id2label`; two
    where it is absent). A value head (`v_head`) in a language model is a note. So is a missing head where the names
    show that the base model alone was saved.

    ## Why is this bad?
    `from_pretrained` makes a new head of random values and goes on: a reward model or classifier then answers by
    chance. Another number of labels is a size mismatch, which it refuses.

    ## Example
    `LlamaForSequenceClassification` with `value_head.weight` in place of `score.weight`.

    ## What to do
    Give the head the name that the class has, correct `id2label`, or load the file as the class that it was saved from.

    ## References
    OpenRLHF/OpenRLHF#1039, hiyouga/LLaMA-Factory#4379
    """

    code = "CKD316"
    name = "head-missing"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for model in judged_models(checkpoint):
            yield from self._missing(model)
            yield from self._labels(model)
            yield from self._value_head(model)

    def _missing(self, model: ModelView) -> Iterator[Finding]:
        gone = [item for item in model.fit.missing if item.head]
        if not gone:
            return
        others = [name for name in model.fit.unmatched if not name.startswith(_VALUE_HEAD)]
        instead = (
            f" {listed(others)} {'is' if len(others) == 1 else 'are'} there, and the class ignores it."
            if others
            else ""
        )
        tied = all(name.endswith(OUTPUT_EMBEDDINGS) for item in gone for name in item.names)
        flag = f" If the embeddings are tied, set `tie_word_embeddings` to true in {model.config}." if tied else ""
        yield self.finding(
            f"The head of {model.fit.cls} is missing: {absent(gone)} in no file.{instead} from_pretrained makes a "
            "new head of random values. Give the tensors the names of the class, or name the class that was saved in "
            f"{model.config}.{flag}",
            path=model.path,
            tensors=[name for item in gone for name in item.names],
            evidence={"class": model.fit.cls, "unknown": others[:20]},
            severity=Severity.NOTE if model.fit.bare else None,
        )

    def _labels(self, model: ModelView) -> Iterator[Finding]:
        wrong = [item for item in model.fit.misshapen if is_of_labels(item.field)]
        if wrong:
            first = wrong[0]
            labels = next(size for size in first.expected if size is not None)
            yield self.finding(
                f"{first.name} has {counted(first.shape[0], 'row')}, and {model.config} gives "
                f"{counted(labels, 'label')}: from_pretrained refuses the file. Give `id2label` in {model.config} "
                "one entry for each row.",
                path=first.file,
                tensors=[item.name for item in wrong],
                evidence={"rows": first.shape[0], "labels": labels},
            )

    def _value_head(self, model: ModelView) -> Iterator[Finding]:
        heads = [name for name in model.fit.unmatched if name.startswith(_VALUE_HEAD)]
        if heads:
            yield self.finding(
                f"{counted(len(heads), 'tensor')} of a value head ({listed(heads)}) "
                f"{'is' if len(heads) == 1 else 'are'} in the file. {model.fit.cls} ignores them; TRL's "
                "AutoModelForCausalLMWithValueHead reads them. Load the model with that class if you need the value "
                "head.",
                path=model.path,
                tensors=heads,
                severity=Severity.NOTE,
            )


def is_of_labels(field: str | None) -> bool:
    """Whether a setting is the number of labels."""
    return field is not None and field.rpartition(".")[2] == "num_labels"
