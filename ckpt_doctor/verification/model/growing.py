"""A base whose embedding has other rows than the adapter: resized where ``AutoPeftModel`` does it, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.parts import Part, Tokenizer
from ckpt_doctor.knowledge.adapter_keys import base_module, parse_all
from ckpt_doctor.knowledge.embeddings import embedding_rows, makes_up, rows_needed
from ckpt_doctor.layouts.tokenizer import CONFIG_NAME
from ckpt_doctor.rules.embedding_resized import EmbeddingResized, resized_message
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.isolation import run


class Growth(NamedTuple):
    """The rows of the base's embedding and of the adapter's ``tensors``, and the tokenizer beside the adapter, if any.

    ``file`` is the adapter's.
    """

    base: int
    adapter: int
    tensors: tuple[str, ...]
    file: str
    tokenizer: Tokenizer | None

    @property
    def happens(self) -> bool:
        """True if ``AutoPeftModel`` resizes the base to what the adapter needs."""
        length = None if self.tokenizer is None else self.tokenizer.length
        return length is not None and makes_up(length, self.adapter, self.base, dict.fromkeys(self.tensors, 0))

    def apply(self, model: Any) -> Any:
        """The model as ``AutoPeftModel`` hands it to the adapter."""
        if self.happens and self.tokenizer is not None:
            model.resize_token_embeddings(self.tokenizer.length, mean_resizing=False)
        return model

    @property
    def line(self) -> str:
        """The change that was made, for the report."""
        return (
            f"base resized from {self.base:,} to {self.tokenizer.length if self.tokenizer else 0:,} token embeddings, "
            "the length of the tokenizer in the adapter's folder: AutoPeftModel does that, PeftModel.from_pretrained "
            "alone raises an error"
        )

    def finding(self) -> Finding:
        """CKD518."""
        length = None if self.tokenizer is None else self.tokenizer.length
        message = resized_message(self.tensors, self.adapter, self.base, self.tokenizer)
        evidence = {"rows": self.adapter, "base": self.base, "tokenizer": length}
        return EmbeddingResized().finding(message, path=self.file, tensors=self.tensors, evidence=evidence)


def growth(model: Any, part: Part, folder: Path) -> Growth | None:
    """What the embedding of ``model`` would have to become for the adapter in ``part``; ``None`` if it fits."""
    found = embedding_rows(part.loaded_tensors)
    base = _rows(model)
    wanted = rows_needed(part, base) if base is not None else None
    if base is None or wanted is None or (found and _fit(model, found)):
        return None
    return Growth(base, wanted, tuple(found), part.preferred[0].path, _tokenizer(folder))


def _rows(model: Any) -> int | None:
    try:
        weight = getattr(model.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):  # no model of text
        return None
    return int(weight.shape[0]) if weight is not None and weight.dim() == 2 else None


def _fit(model: Any, found: dict[str, int]) -> bool:
    """True if the model has each of these with as many rows, whatever its input embedding has."""
    live = dict(model.named_parameters(remove_duplicate=False))
    modules = {name: base_module(parse_all([name], None)[0].module).removesuffix(".weight") for name in found}
    places = {name: live.get(f"{module}.weight") for name, module in modules.items()}
    return all(place is not None and place.shape[0] == found[name] for name, place in places.items())


def _tokenizer(folder: Path) -> Tokenizer | None:
    if not (folder / CONFIG_NAME).is_file():
        return None
    transformers = require("transformers")
    outcome = run(
        lambda: len(
            transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        )
    )
    return Tokenizer(outcome.result if outcome.error is None else None)
