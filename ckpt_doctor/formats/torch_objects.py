"""The globals that a pickle may name: which are known, and what each makes, as data.

Nothing is ever imported, called or built.
"""

from __future__ import annotations

from ckpt_doctor.core.dtypes import BY_NAME, BY_STORAGE_CLASS
from ckpt_doctor.knowledge.inert_globals import CALLABLES, ENUMS, MAPPINGS, OBJECTS, SEQUENCES
from ckpt_doctor.knowledge.pickle_globals import RENAMED, RENAMED_MODULES, TORCH_ALLOWED, TORCH_IMPORTED
from ckpt_doctor.knowledge.torchao_globals import TORCHAO, TORCHAO_ENUMS

from .pickle_values import Global, OpaqueNode
from .python_makers import PYTHON_MAKERS, Maker, enum_member, opaque, refuse
from .torch_makers import SCRIPT_MAKERS, TORCH_MAKERS, rebuild_on_device, tensor_class


def canonical(name: str) -> str:
    """The name that Python 3 uses for a name that Python 2 wrote; any other name as it is."""
    if name in RENAMED:
        return RENAMED[name]
    module, _, qualified = name.partition(" ")
    return f"{RENAMED_MODULES[module]} {qualified}" if module in RENAMED_MODULES else name


def known_global(name: str) -> Global | None:
    """The global of this exact name, or ``None`` if it is on no list."""
    return _KNOWN.get(canonical(name))


def unsafe_global(name: str) -> Global:
    """A global that is on no list: what it makes stays opaque."""
    return Global(name, "unsafe", SCRIPT_MAKERS.get(name) or opaque(name.replace(" ", "."), "unsafe"))


def default_allows(name: str) -> bool:
    """True if ``torch.load(weights_only=True)`` resolves this name, once the module that it belongs to is imported."""
    return canonical(name) in _DEFAULT


def refused_name(name: str) -> str:
    """A name as torch writes it in ``Unsupported global: GLOBAL …``."""
    return canonical(name).replace(" ", ".", 1).removeprefix("builtins.")


def dtype_class(dtype: OpaqueNode) -> str:
    """The class of a ``numpy.dtype`` that was made of arguments such as ``("f8", False, True)``."""
    args = next((part for label, part in dtype.parts if label == "args"), ())
    code = args[0] if type(args) is tuple and args and type(args[0]) is str else ""
    return f"numpy.dtypes.{_DTYPE_CLASSES.get(code) or _DTYPE_CLASSES.get(code[:1], 'VoidDType')}"


_DTYPE_CLASSES = {
    **{f"f{size}": f"Float{8 * size}DType" for size in (2, 4, 8)},
    **{f"i{size}": f"Int{8 * size}DType" for size in (1, 2, 4, 8)},
    **{f"u{size}": f"UInt{8 * size}DType" for size in (1, 2, 4, 8)},
    **{"f16": "LongDoubleDType", "c8": "Complex64DType", "c16": "Complex128DType", "c32": "CLongDoubleDType"},
    **{"b1": "BoolDType", "O": "ObjectDType", "S": "BytesDType", "U": "StrDType"},
    **{"M": "DateTime64DType", "m": "TimeDelta64DType"},
}
"""The codes of ``numpy.dtype`` in a pickle, or their first letter, and the classes of ``numpy.dtypes``."""


_MAKERS: dict[str, Maker] = {**PYTHON_MAKERS, **TORCH_MAKERS}

_TENSOR_CLASSES = {name for name in TORCH_ALLOWED if name.endswith("Tensor")}


def _table() -> dict[str, Global]:
    table = {}
    objects = OBJECTS | TORCHAO | TORCH_IMPORTED
    roles = (("enum", ENUMS | TORCHAO_ENUMS), ("object", objects), ("callable", CALLABLES), ("mapping", MAPPINGS))
    for role, names in (*roles, ("sequence", SEQUENCES)):
        for name in names:
            dotted = name.replace(" ", ".")
            default = enum_member(dotted) if role == "enum" else refuse if role == "object" else opaque(dotted, role)
            table[name] = Global(name, role, _MAKERS.get(name, default))
    for name in ("torch._tensor _rebuild_from_type", "torch.tensor _rebuild_from_type", "copyreg _reconstructor"):
        table[name] = Global(name, "callable", _MAKERS[name])
    table["torch._utils _rebuild_xla_tensor"] = Global("torch._utils _rebuild_xla_tensor", "torch", rebuild_on_device)
    table["builtins getattr"] = Global("builtins getattr", "getattr", _MAKERS["builtins getattr"])
    for name in TORCH_ALLOWED:
        table[name] = _torch_global(name)
    return table


def _torch_global(name: str) -> Global:
    short = name.rpartition(" ")[2]
    dotted = name.replace(" ", ".")
    if short.endswith("Storage"):
        return Global(name, "storage", refuse, BY_STORAGE_CLASS.get(short, BY_NAME["uint8"]))
    if name.startswith("torch ") and short in BY_NAME:
        return Global(name, "dtype", refuse, BY_NAME[short])
    if name in _TENSOR_CLASSES:
        return Global(name, "torch", tensor_class)
    return Global(name, "torch", _MAKERS.get(name, opaque(dotted, "value")))


_KNOWN = _table()
_DEFAULT = TORCH_ALLOWED | TORCH_IMPORTED | TORCHAO | TORCHAO_ENUMS
