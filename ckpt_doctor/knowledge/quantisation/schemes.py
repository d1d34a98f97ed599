"""The schemes: how the codes of each are named, in which dtype, and which tensors must be beside them."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from . import shapes
from .shapes import ShapeRule, anything


class Need(Enum):
    """When a partner must be there."""

    ALWAYS = 0
    """Beside all codes of the scheme."""
    NESTED = 1
    """Where another partner of this kind is there, or the scheme's first partner holds bytes: scales of scales."""
    SIBLINGS = 2
    """Where the same module of other layers has it, unless the settings differ from module to module."""
    ASYMMETRIC = 3
    """Where compressed-tensors was told ``symmetric: false``; otherwise like siblings."""
    NEVER = 4
    """It may be absent."""


class Partner(NamedTuple):
    """A tensor beside codes. ``endings`` are the forms of its name behind the stem, any of which will do.

    An ending with ``*`` at its end means all that begin so. ``telling`` says that nothing but this scheme uses the
    name, so one without codes has lost them. Under one of ``methods`` it is always there. ``mild`` says that
    transformers 5.24 computes the same without it, and other readers may not.
    """

    endings: tuple[str, ...]
    need: Need = Need.ALWAYS
    shapes: ShapeRule = anything
    telling: bool = False
    methods: frozenset[str] = frozenset()
    mild: bool = False


class Scheme(NamedTuple):
    """One way to store a weight: codes named stem and ``codes``, in one of ``dtypes``.

    ``methods`` are the values of ``quant_method`` under which codes of this kind need their partners although no
    partner of any is there. ``sure`` says that the name and the dtype of the codes tell them from plain weights;
    otherwise a partner, here or in another layer, or the method must. ``title`` is what it is called in a message.
    ``outcome`` says what transformers 5.24 does with codes that lack a partner.
    """

    title: str
    codes: tuple[str, ...]
    dtypes: frozenset[str]
    partners: tuple[Partner, ...]
    outcome: str
    methods: frozenset[str] = frozenset()
    sure: bool = True


_FLOAT8 = frozenset(("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"))
_UINT8 = frozenset(("uint8",))
_INT8 = frozenset(("int8",))
_WORDS = frozenset(("int32", "int16", "int64", "uint32"))
_HALVES = frozenset(("float16", "bfloat16", "float32"))
# DeepSeek's own files say ".scale", Mistral's ".qscale_weight", ComfyUI's ".scale_weight".
_SCALES = (".weight_scale_inv", ".weight_scale", ".weight_scales", ".scale", ".scales", ".scale_weight")
_SILENT = (
    "On a CPU transformers loads such weights without any message, a hundred or more times too large; on a GPU it "
    "multiplies them by uninitialised scales."
)
_RANDOM = (
    "transformers reports the missing tensors as newly initialised and continues; the layer computes NaN or wrong "
    "values."
)
_RAISES = "transformers raises while it converts the weights."

BNB_4BIT = Scheme(
    "bitsandbytes 4 bit",
    (".weight",),
    # bnb_4bit_quant_storage may be a float, so FSDP can shard the bytes.
    _UINT8 | _HALVES,
    (
        Partner((".weight.absmax",), shapes=shapes.bnb_absmax, telling=True),
        Partner((".weight.quant_map",), shapes=shapes.exactly(16), telling=True),
        Partner((".weight.quant_state.bitsandbytes__*",), telling=True),
        Partner((".weight.nested_absmax",), Need.NESTED, shapes.bnb_nested_absmax, telling=True),
        Partner((".weight.nested_quant_map",), Need.NESTED, shapes.exactly(256), telling=True),
    ),
    "transformers raises, or where only the nested scales are absent, loads garbage without any message.",
    frozenset(("bitsandbytes",)),
    sure=False,
)
BNB_8BIT = Scheme(
    "bitsandbytes 8 bit",
    (".weight",),
    _INT8,
    # The first releases write no weight_format, and it loads without one.
    (Partner((".SCB",), shapes=shapes.row, telling=True), Partner((".weight_format",), Need.NEVER)),
    _RAISES,
    frozenset(("bitsandbytes",)),
    sure=False,
)
INT8 = Scheme(
    "int8",
    (".weight",),
    _INT8,
    (
        Partner(_SCALES, shapes=shapes.scale),
        Partner((".weight_zero_point",), Need.ASYMMETRIC, shapes.compressed_zero_point),
        Partner((".input_scale",), Need.SIBLINGS),
    ),
    _RANDOM,
    frozenset(("compressed-tensors", "eetq")),
    sure=False,
)
FLOAT8 = Scheme(
    "float8",
    (".weight",),
    _FLOAT8,
    (
        Partner((*_SCALES, ".qscale_weight"), shapes=shapes.scale),
        Partner((".input_scale", ".activation_scale"), Need.SIBLINGS),
    ),
    _SILENT,
    frozenset(("fp8", "fbgemm_fp8", "compressed-tensors", "modelopt")),
    sure=False,
)
UINT8 = Scheme(
    "uint8",  # BitNet, ModelOpt's NVFP4
    (".weight",),
    _UINT8,
    (
        Partner((".weight_scale",)),
        Partner((".weight_scale_2",), Need.SIBLINGS),
        Partner((".input_scale",), Need.SIBLINGS),
    ),
    _RANDOM,
    frozenset(("bitnet", "modelopt")),
    sure=False,
)
EXPERTS = Scheme(
    "fused experts",
    ("_proj",),
    _FLOAT8 | _INT8 | _UINT8,
    (Partner(("_proj_scale_inv", "_proj_scale", "_proj.weight_scale", "_proj_weight_scale")),),
    _RANDOM,
    sure=False,
)
GPTQ = Scheme(
    "GPTQ or AWQ",
    (".qweight",),
    _WORDS,
    (
        Partner((".scales",), shapes=shapes.gptq_scales),
        Partner(
            (".qzeros", ".scaled_zeros"),
            Need.SIBLINGS,
            shapes.gptq_zeros,
            telling=True,
            methods=frozenset(("gptq", "awq")),
        ),
        Partner((".g_idx",), Need.SIBLINGS, shapes.gptq_group_index, telling=True),
    ),
    _RANDOM,
)
COMPRESSED_PACKED = Scheme(
    "compressed-tensors",
    (".weight_packed",),
    _UINT8 | _WORDS,
    (
        Partner((".weight_scale", ".scale_packed"), shapes=shapes.scale),
        Partner((".weight_zero_point",), Need.ASYMMETRIC, shapes.compressed_zero_point),
        Partner((".weight_shape",), Need.SIBLINGS, shapes.dims, telling=True, mild=True),
        Partner((".weight_global_scale",), Need.SIBLINGS),
        Partner((".input_global_scale",), Need.SIBLINGS),
        Partner((".weight_g_idx",), Need.SIBLINGS),
    ),
    _RANDOM,
)
MXFP4 = Scheme("MXFP4", ("_blocks",), _UINT8, (Partner(("_scales",), shapes=shapes.mxfp4_scales),), _RAISES)
TORCHAO = Scheme(
    "torchao",
    ("_qdata",),
    _UINT8 | _INT8 | _WORDS | _FLOAT8,
    (
        Partner(("_scale", "_scale_and_zero")),
        *(Partner((ending,), Need.SIBLINGS) for ending in ("_zero_point", "_per_tensor_scale", "_act_pre_scale")),
    ),
    _RAISES,
)
QUANTO = Scheme(
    "Quanto",
    (".weight._data", ".weight._data._data"),
    _UINT8 | _INT8 | _FLOAT8 | {"int32"},
    (
        Partner((".weight._scale",), telling=True),
        Partner((".weight._shift",), Need.SIBLINGS, telling=True),
    ),
    "optimum-quanto raises.",
)
HQQ = Scheme(
    "HQQ",
    (".W_q",),
    _UINT8 | _INT8 | _WORDS | _HALVES,
    (
        Partner((".scale", ".scale_q")),
        Partner((".zero", ".zero_q")),
        *(Partner((ending,), Need.SIBLINGS) for ending in (".shape", ".nbits", ".group_size", ".axis", ".packing")),
    ),
    "hqq raises.",
)

SCHEMES = (
    *(GPTQ, COMPRESSED_PACKED, MXFP4, TORCHAO, QUANTO, HQQ),
    *(BNB_4BIT, BNB_8BIT, INT8, FLOAT8, UINT8, EXPERTS),
)
"""All of them. Of those that only a partner or the method tells, the first one that fits counts."""

CODE_ENDINGS = tuple(sorted({ending for scheme in SCHEMES for ending in scheme.codes}))
"""The endings of the names of codes."""
