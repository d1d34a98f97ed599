"""CKD406."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.analysis.tied_embeddings import Place, tied_pair
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import shape

from ._kit.repairs import setting
from ._kit.rule import Rule


class TieFlagContradicts(Rule):
    """The config ties the output matrix to the input embedding, and the file holds two different matrices.

    ## What it does
    With `--deep`, compares the input embedding with the output matrix (`lm_head.weight`) of a model whose `config.json`
    says `"tie_word_embeddings": true`. Two equal matrices are fine.

    ## Why is this bad?
    transformers 4 overwrites the output matrix with the embedding and says nothing: what was trained in it is lost.
    transformers 5 keeps both and warns. Other engines take either of the two.

    ## Example
    A training that unties the embeddings, as a LoRA with `modules_to_save=["lm_head"]` does once it is merged, and a
    config of the base model.

    ## What to do
    If the two were trained apart, set `"tie_word_embeddings": false`. If they were trained as one, find out which of
    them is the newer one and remove the other.

    ## Fix safety
    Unsafe: the fix sets `tie_word_embeddings` to `false`, which is right where both matrices were trained.

    ## References
    hiyouga/LLaMA-Factory#10832, huggingface/transformers#45127
    """

    code = "CKD406"
    name = "tie-flag-contradicts"
    severity = Severity.ERROR
    needs = "headers, and tensor bytes to compare"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        if checkpoint.kind.covers != "model":
            return
        for part in checkpoint.parts_with("model"):
            pair = tied_pair(part)
            if pair is None or part.config is None:
                continue
            digests = _digest(pair.first), _digest(pair.second)
            if None not in digests and digests[0] != digests[1]:
                first, second = pair.first.tensor, pair.second.tensor
                yield self.finding(
                    f"{part.config.path} ties {second.name} to {first.name}, and the two differ in value (both "
                    f"{shape(first.shape)}). transformers 4 overwrites {second.name} without a message, transformers 5 "
                    "keeps both and warns. If both were trained, set tie_word_embeddings to false; otherwise remove "
                    "the matrix that was not trained.",
                    path=pair.second.file.path,
                    tensors=(first.name, second.name),
                    fix=self._untie(checkpoint, part),
                )

    def _untie(self, checkpoint: Checkpoint, part: Part) -> Fix | None:
        data = (part.config.data if part.config is not None else None) or {}
        if "text_config" in data:  # two keys say it
            return None
        actions = setting(part, {"tie_word_embeddings": False})
        return self.repair(checkpoint, "set tie_word_embeddings to false", actions, unsafe=True, deep=True)


def _digest(place: Place) -> str | None:
    scan = (place.file.scans or {}).get(place.tensor.name)
    return None if scan is None else scan.digest
