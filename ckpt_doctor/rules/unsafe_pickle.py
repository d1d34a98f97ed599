"""CKD901."""

from __future__ import annotations

import sys

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import listed

from ._kit.rule import DefectRule
from ._kit.salvage import left_out_of_plain, plain_only

# Not in the standard library of every Python, or not of it at all, but able to run what a pickle says.
_NEVER_HARMLESS = frozenset(
    (
        "__builtin__",
        "builtins",
        "commands",
        "distutils",
        "lib2to3",
        "numpy",
        "pip",
        "pkg_resources",
        "setuptools",
        "test",
        "torch",
    )
)


class UnsafePickle(DefectRule):
    """The pickle in the file names a function or class that a checkpoint has no business with.

    ## What it does
    Reads the pickle as data and compares every global that it names with a list of exact names: those that torch
    allows with `weights_only=True`, and harmless ones that training state contains. Nothing is imported or called.
    Any other name is reported, with its position in the pickle, even if the value is thrown away. The names stand in
    the order in which torch complains about them; the evidence has them all.

    In the state of a training run, such as `training_args.bin`, it is a warning if all of the names look like classes
    of third-party packages or of one's own script. An evaluation does not open these files.

    ## Why is this bad?
    `pickle` calls what the file says: opening it with `weights_only=False` runs that code. With the default of torch
    2.6 and later the load fails: `Weights only load failed … Unsupported global: GLOBAL … was not an allowed global by
    default`.

    ## Example
    A whole module saved by `torch.save(model)`; an object of one's own script beside the tensors.

    ## What to do
    Do not open the file with `weights_only=False` unless you trust whoever wrote it. Ask for a safetensors file, or
    keep the tensors only: with the fix, or with `ckpt-doctor convert FILE --to safetensors --tensors-only`.

    ## Fix safety
    Unsafe: tensors and plain values are kept, a pickled module as its `state_dict()`. Every other object in the file is
    lost; the title of the fix names it. Nothing of the file is run.
    """

    code = "CKD901"
    name = "unsafe-pickle"
    severity = Severity.ERROR
    fix = "unsafe"
    kinds = (DefectKind.UNSAFE_GLOBAL,)
    advice = "Do not load it with weights_only=False unless you trust its source."

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """A warning where the state of a training run holds nothing but classes of other packages."""
        if part.role == "training-state" and _only_foreign_classes(defect):
            return Severity.WARNING
        return self.severity

    def fix_for(self, checkpoint: Checkpoint, part: Part, file: WeightFile, defect: Defect) -> Fix | None:
        """Keep the tensors, if any were listed."""
        if not file.tensors:
            return None
        left_out = left_out_of_plain(file)
        title = "keep tensors and plain values only"
        if left_out:
            title += f", without {listed(f'{name} ({what})' for name, what in left_out.items())}"
        return self.repair(checkpoint, title, plain_only(file, (DefectKind.UNSAFE_GLOBAL,)), unsafe=True)


def _only_foreign_classes(defect: Defect) -> bool:
    found = defect.evidence.get("globals")
    return isinstance(found, (list, tuple)) and bool(found) and all(_is_foreign_class(item) for item in found)


def _is_foreign_class(item: object) -> bool:
    name = item.get("name") if isinstance(item, dict) else None
    if not isinstance(name, str) or name.count(" ") != 1:
        return False
    module, qualified = name.split(" ")
    package = module.partition(".")[0]
    if not package or package in _NEVER_HARMLESS or package in sys.stdlib_module_names:
        return False
    # A class is written with a capital; a method or an attribute of one is not.
    return all(component[:1].isupper() for component in qualified.split("."))
