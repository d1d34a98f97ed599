"""CKD207."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.actions import Move
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed

from ._kit.rule import Rule

_FOLDER = "adapter"


class AdapterAndModelMixed(Rule):
    """An adapter and a whole model lie in one folder.

    ## What it does
    Reports folders that hold `adapter_model.*` or `adapter_config.json` together with `model*.safetensors` or
    `pytorch_model*.bin`.

    ## Why is this bad?
    Loaders differ in which of the two they take. transformers sees `adapter_config.json`, loads the base model that it
    names, and leaves the whole model in the folder unread; others load the model and leave the adapter out.

    ## Example
    A merged model was saved into the folder of the adapter that it was merged from.

    ## What to do
    Keep the two in separate folders.

    ## Fix safety
    Unsafe: whoever loads the adapter from this folder must be told its new place.

    ## References
    unslothai/unsloth#1061
    """

    code = "CKD207"
    name = "adapter-and-model-mixed"
    severity = Severity.WARNING
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        if checkpoint.kind.loads != "adapter":
            return
        adapters = [file.path for part in checkpoint.parts_with("adapter") for file in part.files]
        models = [file.path for part in checkpoint.parts_with("model") for file in part.files]
        if adapters and models:
            yield self.finding(
                f"The adapter {listed(adapters)} and the whole model {listed(models)} are in the same folder. "
                "transformers loads the adapter on its base model and ignores the whole model; other loaders do the "
                "reverse. Move one of them to another folder.",
                path=models[0],
                evidence={"adapter": adapters, "model": models},
                fix=self.repair(checkpoint, f"move the adapter to {_FOLDER}/", _moves(checkpoint), unsafe=True),
            )


def _moves(checkpoint: Checkpoint) -> list[Move]:
    paths = [file.path for part in checkpoint.parts_with("adapter") for file in part.files]
    paths += [part.config.path for part in checkpoint.parts_with("adapter") if part.config is not None]
    return [Move(path, f"{_FOLDER}/{path}") for path in paths]
