"""The fixes that take what is safe and whole out of a file: its plain values, or the tensors before a cut."""

from __future__ import annotations

from ckpt_doctor.analysis.salvage import whole_tensors
from ckpt_doctor.core.actions import Action, Rewrite
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import CUT_SHORT, DefectKind
from ckpt_doctor.core.weight_file import OpaqueValue, WeightFile
from ckpt_doctor.knowledge.inert_globals import PLAIN_FORMS


def plain_only(file: WeightFile, despite: tuple[DefectKind, ...] = ()) -> tuple[Action, ...]:
    """Keep the tensors of a torch file and its plain values, and no object of any class."""
    return (Rewrite(file.path, despite=despite, plain=True),)


def left_out_of_plain(file: WeightFile) -> dict[str, str]:
    """What :func:`plain_only` leaves out: names, each with what it is."""
    left = dict.fromkeys(file.outside, "a tensor beside the module's state dict")
    if len(left) == len(file.tensors):
        left = {}
    prefixes = {".".join(tensor.path[:length]) for tensor in file.tensors for length in range(1, len(tensor.path))}
    opaque: list[str] = []
    for name, value in file.values.items():
        inside = any(name.startswith(f"{outer}.") for outer in opaque[-1:])
        if type(value) is not OpaqueValue or value.type_name in PLAIN_FORMS or name in prefixes or inside:
            continue
        if value.type_name.startswith("torch.") and value.type_name.count(".") == 1:
            continue  # a dtype
        opaque.append(name)
        left[name] = value.type_name
    return left


def salvaging(checkpoint: Checkpoint, file: WeightFile) -> tuple[Action, ...]:
    """Write the tensors of a cut file that are whole into a file beside it; nothing if there are none, or it is there.

    A name of its own, so that no loader takes what is incomplete for the whole.
    """
    target = f"{file.path}.salvaged.safetensors"
    taken = {item.path for item in checkpoint.files} | {other.path for other in checkpoint.others}
    whole = frozenset(whole_tensors(file))
    if not whole or target in taken:
        return ()
    cut = tuple(tensor.name for tensor in file.tensors if tensor.name not in whole)
    return (
        Rewrite(file.path, target, format="safetensors", without=cut, shared="clone", despite=CUT_SHORT, keeps=True),
    )
