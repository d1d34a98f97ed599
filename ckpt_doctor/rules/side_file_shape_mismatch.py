"""CKD504."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.entries import meant
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.wording import listed, shape

from ._kit.rule import Rule


class SideFileShapeMismatch(Rule):
    """Shapes of projections, latents and adapter cannot belong together.

    ## What it does
    The entries of a MemGen checkpoint share sizes: the hidden sizes of weaver and reasoner, the lengths of the
    latents. So do those of a team's own layout whose dimensions have names. This rule checks the number of dimensions
    of each entry and that every size is the same wherever it occurs: among the entries, against the inputs of the
    adapter's `lora_A`, against the `config.json` of a base model that lies on this machine, and against the
    checkpoint's own `config.json`.

    ## Why is this bad?
    `load_state_dict` raises `size mismatch`. Latents that are assigned through `.data` are accepted in any shape and
    fail in the middle of a forward pass, or not at all.

    ## Example
    `prompt_query_latents` of shape `[8, 48]` beside projections into a weaver of hidden size 32.

    ## What to do
    Find out which file is of another run, and take all files from one save.
    """

    code = "CKD504"
    name = "side-file-shape-mismatch"
    severity = Severity.ERROR
    needs = "headers and configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        sizes: dict[str, dict[int, list[str]]] = {}
        owner: dict[str, str] = {}
        for known in checkpoint.known_sizes:
            sizes.setdefault(known.dim, {}).setdefault(known.size, []).append(known.source)
        for part in checkpoint.parts:
            for path, name, actual, dims in _entries(part):
                owner[name] = path
                if len(actual) != len(dims) or any(
                    isinstance(dim, int) and size != dim for size, dim in zip(actual, dims, strict=False)
                ):
                    wanted = ", ".join(str(dim) for dim in dims)
                    yield self.finding(
                        f"{name} has the shape {shape(actual)}, but a loader expects [{wanted}]. The file comes from "
                        "another model or version: take all files from one save.",
                        path=path,
                        tensors=[name],
                        evidence={"shape": list(actual), "expected": [str(dim) for dim in dims]},
                    )
                    continue
                for size, dim in zip(actual, dims, strict=True):
                    if isinstance(dim, str):
                        sizes.setdefault(dim, {}).setdefault(size, []).append(name)
        for dim, by_size in sizes.items():
            involved = [name for names in by_size.values() for name in names if name in owner]
            if len(by_size) > 1 and involved:
                votes = sorted(by_size.items(), key=lambda item: (-len(item[1]), item[0]))
                stated = "; ".join(f"{size} in {listed(dict.fromkeys(names), 3)}" for size, names in votes)
                odd = [name for _, names in votes[1:] for name in names if name in owner] or involved
                yield self.finding(
                    f"The {dim} differs between tensors: {stated}. They come from different models: take the adapter "
                    "and its side files from one save.",
                    path=owner[odd[0]],
                    tensors=odd,
                    evidence={"dimension": dim, "sizes": {str(size): sorted(set(names)) for size, names in votes}},
                )


def _entries(part: Part) -> Iterator[tuple[str, str, tuple[int, ...], tuple[str | int, ...]]]:
    """Path, name, shape and expected dimensions of the part's known entries."""
    if not part.entries:
        return
    for file in part.preferred:
        entries = meant((tensor.name for tensor in file.tensors), part.entries)
        for tensor in file.tensors:
            entry = entries.get(tensor.name)
            if entry is not None and entry.dims is not None:
                yield file.path, tensor.name, tensor.shape, entry.dims
