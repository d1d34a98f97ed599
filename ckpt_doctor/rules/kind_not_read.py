"""CKD113."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint, Unread
from ckpt_doctor.core.defects import Defect
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.weight_names import is_opened_by_name

from ._kit.rule import Rule


class KindNotRead(Rule):
    """Weights of a kind that this tool does not read: nothing is said about their health.

    ## What it does
    Recognises ONNX, HDF5 and Keras, TensorFlow Lite, SavedModel and TensorFlow's checkpoints, NumPy arrays, GGUF and
    GGML, CTranslate2, ncnn, Core ML, PaddlePaddle, MindSpore, Flax, Orbax, programs of torch.export, distributed
    checkpoints, adapters of mlx-lm, joblib files, plain pickles and archives by what they hold, and names them.

    ## Why is this bad?
    It is not: the file may be in perfect order. But what was not judged must not look as if it were. If there is
    nothing else, the exit code is 2.

    ## Example
    `model.onnx` beside `model.safetensors`: the safetensors file is judged, the other one is not.

    ## What to do
    Check the file with its own library. Unpack an archive and inspect what is inside.
    """

    code = "CKD113"
    name = "kind-not-read"
    severity = Severity.NOTE

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        found: dict[tuple[str, str], list[Unread]] = {}
        for item in (*checkpoint.unread, *_files_of_other_kinds(checkpoint)):
            found.setdefault((item.kind, item.reason), []).append(item)
        for (kind, reason), items in sorted(found.items()):
            count = sum(item.files for item in items)
            subject = f"{kind}, not judged" if count == 1 else f"{counted(count, 'file')} not judged ({kind})"
            names = "" if len(items) == 1 else f" {listed(item.path for item in items)}."
            subject = subject[:1].upper() + subject[1:]
            yield self.finding(
                f"{subject}: {reason}.{names}",
                path=items[0].path,
                evidence={"kind": kind, "files": count, "bytes": sum(item.nbytes for item in items)},
            )


def _files_of_other_kinds(checkpoint: Checkpoint) -> Iterator[Unread]:
    for part in checkpoint.parts:
        for file in part.files:
            for defect in file.defects:
                kind = defect.other_kind
                if kind is not None and not is_mistaken(part, file, defect):
                    yield Unread(file.path, kind, file.nbytes, str(defect.evidence["reason"]))


def is_mistaken(part: Part, file: WeightFile, defect: Defect) -> bool:
    """Whether a loader would open a file that is none of weights, or of another kind, by its name, and fail."""
    meant = part.role not in ("file", "extra", "training-state")
    if defect.other_kind is None:
        return True
    return meant or is_opened_by_name(file.path, weights=bool(defect.evidence["weights"]))
