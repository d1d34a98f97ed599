"""CKD114."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import Refusal, WeightFile
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.packages import package_of

from ._kit.rule import Rule
from ._kit.salvage import left_out_of_plain, plain_only

# What somebody must not load at all, or cannot read, is the subject of another rule.
_OTHER_RULES = (
    DefectKind.UNSAFE_GLOBAL,
    DefectKind.EXECUTABLE_ARCHIVE,
    DefectKind.RESOURCE_BOMB,
    DefectKind.TORCH_TRUNCATED,
    DefectKind.IMPOSTOR,
)

# PEFT and transformers open these with weights_only=True.
_OPENED_BY_NAME = re.compile(r"(adapter_model|pytorch_model(-\d+-of-\d+)?)(\.[\w-]+)?\.bin")

_ALLOWED_BY_NAME = ("name", "type")


class DefaultLoadRefuses(Rule):
    """`torch.load` refuses the file by default, although nothing in it is dangerous.

    ## What it does
    Compares every name in the pickle with those that `torch.load(weights_only=True)`, the default since torch 2.6,
    allows, and notes containers and opcodes that it refuses. Nothing is loaded. Names that no loader should be given
    are CKD901 instead. Names that torch or torchao allow once they are imported (DTensor, nested tensors, quantised
    tensors) are no finding.

    An error for `adapter_model.bin` and `pytorch_model*.bin` where PEFT or transformers would open that very file; a
    note in the state of a training run, which its trainer may open in another way.

    ## Why is this bad?
    `torch.load(path)` fails with `Weights only load failed … Unsupported global: GLOBAL numpy._core.multiarray.scalar
    was not an allowed global by default`. One number of numpy among the weights is enough.

    ## Example
    `torch.save({"model": model.state_dict(), "best": numpy.float64(0.93), "args": args}, path)`.

    | in the file | does `add_safe_globals` help? |
    |---|---|
    | `numpy.float64(…)`, `numpy.array(…)` | yes: the function, `numpy.dtype`, and the class of each dtype |
    | `frozenset`, `range`, `slice`, `datetime`, `pathlib.Path`, `Decimal`, `UUID` | yes |
    | `argparse.Namespace`, `SimpleNamespace` | yes, and whatever stands in them |
    | omegaconf's `DictConfig`, `ListConfig` | yes, with omegaconf, all of its classes and `typing.Any` |
    | configurations and enums of transformers, accelerate, peft, trl, deepspeed | yes, with that package |
    | enums pickled by Python 3.11 | no: they need `getattr`, which would allow everything |
    | `defaultdict`, Lightning's `AttributeDict`, `deque` | no, unless they are empty |
    | pickle protocol 4 or 5, bytes in protocol 3, integers of more than 255 bytes | no |
    | float8 or uint16 in the format from before torch 1.6 | no: torch does not read it in any way |

    ## What to do
    Save plain values: `float(x)`, `str(path)`, `dict(d)`, `vars(args)`. For a file that you trust and cannot save
    again, allow the names that the message lists, or keep the tensors and plain values only.

    ## Fix safety
    Unsafe: numpy scalars, paths, sets and configurations become the plain values that they stand for. Values without a
    plain form are dropped; the title of the fix names them.

    ## References
    pytorch/pytorch#137394
    """

    code = "CKD114"
    name = "default-load-refuses"
    severity = Severity.WARNING
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            for file in part.files:
                if file.refusals and not file.has_defect(*_OTHER_RULES):
                    yield self._report(checkpoint, part, file)

    def _report(self, checkpoint: Checkpoint, part: Part, file: WeightFile) -> Finding:
        names = list(dict.fromkeys(refusal.name for refusal in file.refusals))
        hopeless = _hopeless(file.refusals)
        allowed = [name for name in names if name not in hopeless]
        left_out = left_out_of_plain(file)
        title = "keep tensors and plain values only"
        if left_out:
            title += f", without {listed(f'{name} ({what})' for name, what in left_out.items())}"
        fix = self.repair(checkpoint, title, plain_only(file), unsafe=True) if file.tensors else None
        return self.finding(
            _message(file, part, names, allowed, hopeless),
            path=file.path,
            evidence={
                "names": names,
                "add_safe_globals": allowed if not hopeless else [],
                "not_helped": hopeless,
                "packages": sorted({package for name in names if (package := package_of(name))}),
            },
            severity=_severity(part, file),
            fix=fix,
        )


def _severity(part: Part, file: WeightFile) -> Severity:
    if part.role == "training-state":
        return Severity.NOTE
    opened = _OPENED_BY_NAME.fullmatch(file.path.rpartition("/")[2]) and file in part.preferred
    return Severity.ERROR if opened and part.role in ("adapter", "model", "file") else Severity.WARNING


def _hopeless(refusals: Sequence[Refusal]) -> list[str]:
    """What stays refused even where it is allowed by name."""
    return list(dict.fromkeys(refusal.name for refusal in refusals if refusal.cause not in _ALLOWED_BY_NAME))


def _message(file: WeightFile, part: Part, names: list[str], allowed: list[str], hopeless: list[str]) -> str:
    causes = {refusal.cause for refusal in file.refusals}
    parts = [f"torch.load refuses the file by default (weights_only=True): it stops at {_first(file.refusals)}."]
    if _severity(part, file) is Severity.ERROR:
        parts.append(f"{_READERS[part.role]} that way.")
    if len(names) > 1:
        parts.append(f"It refuses {counted(len(names), 'name')} in all, in this order: {listed(names, 20)}.")
    parts.append("Nothing in the file is dangerous.")
    if "opcode" in causes:
        parts.append("No list of allowed names helps: save the file again with torch.save and its default protocol, 2.")
    elif "storage" in causes:
        parts.append("No version of torch reads this in the format from before 1.6. Save it in the current format.")
    elif hopeless:
        parts.append(
            f"add_safe_globals does not help against {listed(hopeless, 20)}: save plain dictionaries, lists and values."
        )
    else:
        needed = sorted({package for name in allowed if (package := package_of(name))})
        needs = f" (needs {listed(needed, 20)})" if needed else ""
        call = f"torch.serialization.add_safe_globals([{', '.join(allowed) if len(allowed) <= _SHOWN else '…'}])"
        parts.append(f"Save plain values, or allow {'it' if len(allowed) == 1 else 'them'} with {call}{needs}.")
    return " ".join(parts)


_READERS = {
    "adapter": "PEFT opens it",
    "model": "transformers opens it",
    "file": "PEFT and transformers open a file of this name",
}
_SHOWN = 3  # names in a call that a message writes out


def _first(refusals: Sequence[Refusal]) -> str:
    first = refusals[0]
    if first.cause == "opcode":
        return f"the pickle opcode {first.name} (byte {first.position:,}), which no pickle of protocol 2 has"
    return f"{first.name} (byte {first.position:,})"
