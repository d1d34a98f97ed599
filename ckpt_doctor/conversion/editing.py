"""What else changes while a file is written anew: names, dtypes, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ckpt_doctor.core.defects import DefectKind
from ckpt_doctor.core.dtypes import BY_NAME, DType
from ckpt_doctor.core.errors import ConversionError
from ckpt_doctor.core.weight_file import TensorInfo, WeightFile
from ckpt_doctor.formats.pickle_values import DictNode, TensorNode

from .structure import MAX_DEPTH

PLAIN = object()
"""Stands for the tree of a file that is one dictionary of tensors, which their names describe."""

FLOATS = ("float64", "float32", "float16", "bfloat16")
"""The dtypes that values are cast from and to."""


@dataclass(frozen=True, slots=True)
class Edit:
    """``names`` maps the full names that tensors have to those they get, ``without`` are left out.

    ``dtypes`` maps the names that tensors have to those of the dtypes that their values are cast to, of :data:`FLOATS`.
    A new name differs from the old one in the last key of its path. ``despite`` are the defects that are put up with:
    then nothing but tensors is kept, or with ``plain`` these and the plain values.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()
    dtypes: Mapping[str, str] = field(default_factory=dict)
    despite: tuple[DefectKind, ...] = ()
    plain: bool = False

    @property
    def bare(self) -> bool:
        """True if nothing but the tensors is kept."""
        return bool(self.despite) and not self.plain

    def casts(self, file: WeightFile) -> dict[str, DType]:
        """What tensors are cast to, by the names they will have; only those that change.

        Raises ``ConversionError`` for what is no floating-point number of 16 bits or more.
        """
        found = {}
        for tensor in file.tensors:
            dtype = self.dtypes.get(tensor.name, tensor.dtype.name)
            if dtype == tensor.dtype.name or tensor.name in self.without:
                continue
            if tensor.dtype.name not in FLOATS or dtype not in FLOATS:
                raise ConversionError(f"{tensor.name} is not cast from {tensor.dtype.name} to {dtype}")
            found[self.names.get(tensor.name, tensor.name)] = BY_NAME[dtype]
        return found

    def of_file(self, file: WeightFile) -> WeightFile:
        """The file with its tensors called as they will be, with the dtypes they have."""
        if not self.names and not self.without:
            return file
        kept = tuple(self.of_tensor(tensor) for tensor in file.tensors if tensor.name not in self.without)
        return file._replace(tensors=kept)

    def of_tensor(self, tensor: TensorInfo) -> TensorInfo:
        """The tensor as it will be called."""
        name = self.names.get(tensor.name)
        if name is None:
            return tensor
        path = tensor.path or (tensor.name,)
        prefix = "".join(f"{key}." for key in path[:-1])
        assert name.startswith(prefix), "only the last key of a path changes"
        return tensor._replace(name=name, path=(*path[:-1], name[len(prefix) :]))

    def of_tree(self, root: Any) -> Any:
        """The same in the object that a torch file holds. Shared parts are taken apart, which no loader sees."""
        if root is PLAIN or (not self.names and not self.without):
            return root
        return self._of_node(root, "", 0)

    def _of_node(self, node: Any, prefix: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise ConversionError(f"it contains itself, or is nested more than {MAX_DEPTH} deep")
        kind = type(node)
        if kind is list or kind is tuple:
            return kind(self._of_node(item, f"{prefix}{index}.", depth + 1) for index, item in enumerate(node))
        if kind is not DictNode:
            return node
        changed = DictNode()
        changed.ordered, changed.state = node.ordered, node.state
        flat = iter(node.flat)
        for key, value in zip(flat, flat, strict=True):
            name = f"{prefix}{key}"
            if type(value) is TensorNode:
                if name in self.without:
                    continue
                key = self.names[name][len(prefix) :] if name in self.names else key
            changed.flat += [key, self._of_node(value, f"{name}.", depth + 1)]
        return changed


NO_EDIT = Edit()
"""Everything stays as it is."""
