"""CKD304."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import counted

from ._kit.repairs import renaming
from ._kit.rule import Rule

# torch.compile, FSDP, activation checkpointing and Lightning's Fabric put these anywhere in a name; nobody calls a
# module so by hand.
_INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_ADAPTER_ROOT = "base_model.model."


class WrapperPrefix(Rule):
    """The names still carry the prefix of a wrapper around the model.

    ## What it does
    Looks for `_orig_mod.` (`torch.compile`), `_fsdp_wrapped_module.` (FSDP), `_checkpoint_wrapped_module.` and
    `_forward_module.` (Lightning's Fabric) anywhere in a name, and for a leading `module.` (`DataParallel`,
    `DistributedDataParallel`) where every name has it.

    ## Why is this bad?
    The unwrapped model has no parameters of these names. `load_state_dict` raises `Unexpected key(s) in state_dict:
    "module.…"`; transformers and PEFT skip the tensors and go on with random or base weights.

    ## Example
    `torch.save(ddp_model.state_dict(), "pytorch_model.bin")` instead of `ddp_model.module.state_dict()`.

    ## What to do
    Strip the prefix, or save from the unwrapped model.

    ## Fix safety
    Safe where PEFT or transformers reads the file: names are changed only where nothing collides, and no value is
    touched. Unsafe for a file without a configuration beside it, and for side files: their loader may wrap the model
    first (`DataParallel`) and want the prefix.

    ## References
    karpathy/nanoGPT#325
    """

    code = "CKD304"
    name = "wrapper-prefix"
    severity = Severity.ERROR
    fix = "safe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts:
            if part.auxiliary:
                continue
            for file in part.files:
                found = _wrapped([tensor.path or (tensor.name,) for tensor in file.tensors], part)
                bare = [_bare(tensor.path or (tensor.name,), found, part) for tensor in file.tensors]
                ambiguous = len(set(bare)) < len(bare)
                known = _loader_is_known(part)
                for prefix, names in found.items():
                    yield self.finding(
                        f"{counted(len(names), 'name')} of {len(file.tensors):,} "
                        f"{'has' if len(names) == 1 else 'have'} the wrapper's prefix {prefix} (as in "
                        f"{names[0]}). A model without the wrapper has no such parameters. "
                        + (
                            "Loaders skip them. Strip the prefix, or save from the unwrapped model."
                            if known
                            else "Strip the prefix if your loader does not wrap the model before it loads the file."
                        ),
                        path=file.path,
                        tensors=names,
                        evidence={"prefix": prefix, "tensors_in_file": len(file.tensors)},
                        severity=Severity.WARNING if checkpoint.kind.grain == "file" else None,
                        fix=self.repair(
                            checkpoint,
                            f"strip {prefix} from the names",
                            () if ambiguous else renaming(part, file, names, partial(_stripped, prefix, part)),
                            unsafe=not known,
                        ),
                    )


def _loader_is_known(part: Part) -> bool:
    """Whether PEFT or transformers reads this, which want no prefix.

    A file by itself may be meant for a loader that wraps the model first, as programs around ``DataParallel`` do.
    """
    return part.role in ("adapter", "model") and part.config is not None


def _bare(path: tuple[str, ...], prefixes: Iterable[str], part: Part) -> tuple[str, ...]:
    """A path without any of the prefixes."""
    key = path[-1]
    for prefix in prefixes:
        key = _stripped(prefix, part, key)
    return (*path[:-1], key)


def _stripped(prefix: str, part: Part, key: str) -> str:
    if prefix == "module.":
        root = _ADAPTER_ROOT if part.role == "adapter" and key.startswith(_ADAPTER_ROOT) else ""
        return root + key.removeprefix(root).removeprefix(prefix)
    return f".{key}".replace(f".{prefix}", ".").removeprefix(".")


def _wrapped(paths: list[tuple[str, ...]], part: Part) -> dict[str, list[str]]:
    """Prefix to the full names that carry it."""
    found: dict[str, list[str]] = {}
    for path in paths:
        # Keys of nested dicts are one component each: a dict entry called "module" is not a prefix.
        for wrapper in _INNER:
            if any(f".{wrapper}." in f".{key}" for key in path):
                found.setdefault(f"{wrapper}.", []).append(".".join(path))
    bare = [path[-1].removeprefix(_ADAPTER_ROOT if part.role == "adapter" else "") for path in paths]
    if paths and all(key.startswith("module.") for key in bare):
        found["module."] = [".".join(path) for path in paths]
    return found
