"""Weights of kinds that no reader here reads, and other things that lie beside weights: recognised, and not judged.

Content comes first: magic numbers, the fields of a protobuf, the members of a zip. A name helps only where a format has
no sign of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.weight_file import WeightFile

from . import signatures

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source

WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""What the files of torch and safetensors end in: a file of such a name is meant to be one."""

_SURE_ENDINGS = tuple(ending for ending in WEIGHT_ENDINGS if ending != ".bin")  # which is everybody's

UNPACK = "unpack it and inspect its files"
NOT_READ = "this tool does not read this kind"


class OtherKind(NamedTuple):
    """What a file is: ``kind`` in words, with ``weights`` where such a file holds weights, or may.

    ``reason`` says why nothing was judged.
    """

    kind: str
    weights: bool = True
    reason: str = NOT_READ


_ZIP_OF_WEIGHTS = OtherKind("zip archive of weight files", reason=UNPACK)
_NO_WEIGHTS = "it holds no weights"

_MAGIC = (
    (b"GGUF", OtherKind("GGUF model")),
    (b"lmgg", OtherKind("GGML model")),
    (b"tjgg", OtherKind("GGML model")),
    (b"fmgg", OtherKind("GGML model")),
    (b"\x89HDF\r\n\x1a\n", OtherKind("HDF5 file (Keras?)")),
    (b"\x93NUMPY", OtherKind("NumPy array (.npy)")),
    (b"7767517\n", OtherKind("ncnn model")),
    (b"7767517\r\n", OtherKind("ncnn model")),
)
DISTRIBUTED = OtherKind("DCP data file (torch.distributed.checkpoint)")

# Formats without a magic number, by the endings that their own libraries give.
_NAMED = (
    ((".distcp",), DISTRIBUTED),
    ((".pdparams", ".pdopt", ".pdiparams", ".pdmodel"), OtherKind("PaddlePaddle file")),
    ((".joblib",), OtherKind("joblib file")),
    ((".mindir",), OtherKind("MindSpore model")),
    ((".mlmodel",), OtherKind("Core ML model")),
    ((".tflite",), OtherKind("TensorFlow Lite model")),
    ((".pb",), OtherKind("TensorFlow graph")),
    ((".msgpack",), OtherKind("msgpack file (Flax)")),
    ((".engine", ".plan"), OtherKind("TensorRT engine")),
    ((".ot",), OtherKind("weights of tch-rs (Rust)")),
)
_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
NAMED_ENDINGS = (
    *(ending for endings, _ in _NAMED for ending in endings),
    *_ARCHIVES,
    ".onnx",
    ".model",
    ".param",
    ".index",
)
"""Endings of files that are looked into though their first bytes say nothing."""

_START = re.compile(
    rb"PK\x03\x04|\x80[\x02-\x05]|\x89HDF|\x93NUM|GGUF|lmgg|tjgg|fmgg|7767517|.{4}TFL3|.{3}[\0-\4]\0{4}\{|\x08[\1-\x1f][\x12\x1a\x28\x2a\x3a\x42]|[\1-\x20]\0\0\0",
    re.DOTALL,
)


def begins_like_weights(head: bytes) -> bool:
    """Whether a file that begins with these 16 bytes may hold weights of any kind that has a sign of its own.

    This is asked of every file in a tree, so it only says whether a second look is worth it.
    """
    return _START.match(head) is not None


# The first members of archives that torch.save and torch.jit.save write.
_MEMBER = re.compile(r"[^/]+/(data\.pkl|data/\d+|version|byteorder|\.format_version|\.data/\w+|code/.+|constants\.pkl)")


def begins_as_torch_zip(head: bytes) -> bool:
    """Whether the first member of a zip archive is one that torch writes."""
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length].decode("utf-8", "replace")
    return head.startswith(b"PK\x03\x04") and _MEMBER.fullmatch(name) is not None


def recognise(source: Source, head: bytes, name: str) -> OtherKind | None:
    """What a file is that is neither torch's nor safetensors', where that can be told. Zip archives are not meant."""
    base = name.rpartition("/")[2].lower()
    found = next((kind for magic, kind in _MAGIC if head.startswith(magic)), None)
    if found is not None:
        return found
    if head[4:8] == b"TFL3":
        return OtherKind("TensorFlow Lite model")
    if head[64:68] == b"\xef\xbe\xad\xde" and head[4:8] == b"\2\0\0\0":
        return OtherKind("Core ML weights")
    return (
        _ctranslate2(head)
        or _ncnn_weights(head, base)
        or _protobuf(source, head, base)
        or _leveldb_table(source)
        or _msgpack(head, base)
        or _named(head, base)
    )


# Who makes what a pickled estimator consists of, and makes nothing else of it. Compiled where it is asked: few runs do.
_HARMLESS = (
    r"(numpy(\._?core(\.\w+)?)? (_reconstruct|scalar|ndarray|dtype|_frombuffer|\w+\d+|bool_?))"
    r"|numpy\.(random|ma)\.\w+ \w+"
    # Of these only classes, and what their own pickles call: a function of theirs may open or evaluate something.
    r"|(sklearn|scipy|pandas|xgboost|lightgbm)(\.\w+)* ([A-Z]\w*|newObj|_unpickle_block|_new_Index|__pyx_unpickle_\w+"
    r"|[a-z]{3}_(matrix|array))"
    r"|joblib\.numpy_pickle(_compat)? \w+"
    r"|torch\.distributed\.checkpoint(\.\w+)* \w+|torch\.serialization _get_layout|pathlib (Pure)?(Posix|Windows)?Path"
    r"|(collections|datetime|decimal|uuid|fractions) \w+"
    r"|copy_?reg (_reconstructor|__newobj__)"
    r"|_codecs encode"
    r"|(builtins|__builtin__) (set|frozenset|list|dict|tuple|slice|range|complex|bytearray|bytes|object|int|float|str)"
)


def plain_pickle(file: WeightFile, base: str) -> OtherKind | None:
    """What a pickle that torch did not write is, where its names are those of data; ``None`` where they may be others.

    A file that is named like torch's own is meant to be loaded by torch, and is judged as that.
    """
    base = base.lower()
    if base.endswith(WEIGHT_ENDINGS) or file.is_known or file.has_defect(*_NEVER_PLAIN):
        return None
    names = [
        str(entry["name"])
        for defect in file.defects
        if defect.kind is DefectKind.UNSAFE_GLOBAL
        for entry in defect.evidence.get("globals", ())
    ]
    if not all(re.fullmatch(_HARMLESS, name) for name in names):
        return None
    if any(name.startswith("torch.distributed.checkpoint.metadata ") for name in names):
        return OtherKind("DCP metadata (torch.distributed.checkpoint)")
    if any(name.startswith("joblib.") for name in names):
        return OtherKind("joblib file")
    if base.endswith((".pdparams", ".pdopt")):
        return OtherKind("PaddlePaddle file")
    return OtherKind("plain pickle", weights=bool(names or file.tensors))


_NEVER_PLAIN = (DefectKind.RESOURCE_BOMB, DefectKind.PATH_ESCAPE, DefectKind.EXECUTABLE_ARCHIVE)


def of_archive(names: Sequence[str]) -> OtherKind | None:
    """What a zip archive with these members is, where it is none of torch's own."""
    ends = {name.rpartition("/")[2] for name in names}
    if names and all(name.endswith(".npy") for name in names):
        return OtherKind("NumPy archive")
    if "model.weights.h5" in ends and "config.json" in ends:
        return OtherKind("Keras model")
    if ends & {"archive_format", "serialized_exported_program.json", "model_weights_config.json"}:
        return OtherKind("torch.export program")
    if any(name.partition("/")[0].endswith(".dist-info") for name in names):
        return None
    if any(name.endswith((".safetensors", ".bin", ".pt", ".pth", ".th", ".ckpt", ".h5")) for name in names):
        return _ZIP_OF_WEIGHTS
    return None


def _ctranslate2(head: bytes) -> OtherKind | None:
    """CTranslate2's ``model.bin``: a version, then the name of a specification with its length and a zero byte."""
    version, length = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:6], "little")
    name = head[6 : 6 + length]
    if 0 < version < 100 and 4 < length < 100 and name[-5:] == b"Spec\0" and name[:-1].isalnum():
        return OtherKind("CTranslate2 model")
    return None


_NCNN_FLAGS = (b"\x47\x6b\x30\x01", b"\x38\x4b\x0d\x00", b"\x56\xc0\x02\x00")


def _ncnn_weights(head: bytes, base: str) -> OtherKind | None:
    named = base.endswith((".ncnn.bin", ".param.bin"))
    return OtherKind("ncnn model") if named or (head[:4] in _NCNN_FLAGS and base.endswith(".bin")) else None


def _protobuf(source: Source, head: bytes, base: str) -> OtherKind | None:
    """ONNX, SavedModel, MindSpore, SentencePiece: told apart by the numbers and types of their fields."""
    if head[:1] not in (b"\x08", b"\x0a", b"\x12", b"\x3a"):
        return None
    fields = list(_fields(source, 64))
    numbers = {number for number, _, _ in fields}
    if not fields:
        return None
    if head[:1] == b"\x0a":
        return _of_messages(source, fields, base)
    # onnx.proto: ir_version 1, producer 2 and 3, domain 4, model_version 5, graph 7, opset_import 8 …
    known = numbers <= {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
    if known and (1, 0) in [(number, kind) for number, kind, _ in fields] and {7, 8} & numbers:
        return OtherKind("ONNX model")
    if base.endswith(".onnx"):
        return OtherKind("ONNX model")
    if base == "saved_model.pb":
        return OtherKind("TensorFlow SavedModel")
    return OtherKind("Core ML model") if base.endswith(".mlmodel") else None


def _of_messages(source: Source, fields: list[tuple[int, int, int]], base: str) -> OtherKind | None:
    """A file that is one message after the other, by what the first of them holds."""
    first = source.read_at(fields[0][2], 256)
    length = first[1] if len(first) > 1 else 0
    behind = first[2 + length : 3 + length]
    if first[:1] == b"\x0a" and length < 128:
        if behind == b"\x15":  # a piece and its score
            return OtherKind("SentencePiece model", weights=False, reason=_NO_WEIGHTS)
        if behind == b"\x12" and base.endswith(".ckpt"):  # a name and its tensor
            return OtherKind("MindSpore checkpoint")
    return OtherKind("ONNX model") if base.endswith(".onnx") else None


def _fields(source: Source, limit: int) -> Iterator[tuple[int, int, int]]:
    """Number, wire type and offset of the content of the outermost fields; none where the bytes are no protobuf."""
    found: list[tuple[int, int, int]] = []
    position = 0
    while position < source.size and len(found) < limit:
        piece = source.read_at(position, 20)
        tag, used = _varint(piece)
        value, more = _varint(piece[used:])
        number, kind = tag >> 3, tag & 7
        if not used or not number or kind not in (0, 1, 2, 5) or (kind in (0, 2) and not more):
            return
        start = position + used + (more if kind == 2 else 0)
        found.append((number, kind, start))
        position = start + {0: more, 1: 8, 2: value, 5: 4}[kind]
    yield from found


def _varint(data: bytes) -> tuple[int, int]:
    """A number and how many bytes it takes; none where there is none."""
    value = 0
    for index, byte in enumerate(data[:10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, index + 1
    return 0, 0


_TABLE_MAGIC = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # leveldb's table format, which TensorFlow's checkpoints use


def _leveldb_table(source: Source) -> OtherKind | None:
    if source.size > 48 and source.read_at(source.size - 8, 8) == _TABLE_MAGIC:
        return OtherKind("TensorFlow checkpoint")
    return None


def _msgpack(head: bytes, base: str) -> OtherKind | None:
    if not base.endswith(".msgpack") and b"params" not in head[:16]:
        return None
    is_map = 0x81 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)
    return OtherKind("msgpack file (Flax)") if is_map else None


def is_named_like_torch(name: str) -> bool:
    """Whether a file is called as those of torch and safetensors are."""
    return name.lower().endswith(WEIGHT_ENDINGS)


def archive(kind: str) -> OtherKind:
    """An archive or compressed file under a name of its own: what is inside may be weights."""
    return OtherKind(kind.removeprefix("a ").removeprefix("an "), reason=UNPACK)


def _named(head: bytes, base: str) -> OtherKind | None:
    if signatures.text_kind(head) is not None:
        return None
    return next((kind for endings, kind in _NAMED if base.endswith(endings)), None)


def unless_meant_for_torch(file: WeightFile) -> WeightFile:
    """The file, or where it is binary, unknown and not called like torch's own: one of another kind.

    A text under any name is what a failed download leaves, and so are zero bytes.
    """
    if not file.defects or any(d.kind is not DefectKind.IMPOSTOR or d.other_kind for d in file.defects):
        return file
    (defect, *_) = file.defects
    if file.content in _TEXTS or "zero_bytes" in defect.evidence or file.path.lower().endswith(_SURE_ENDINGS):
        return file
    kind = "file of no known kind" if file.content == "unknown" else file.content.removeprefix("a ").removeprefix("an ")
    return as_file(file.nbytes, file.path, OtherKind(kind, weights=False, reason="this tool does not read it"))


def unless_cut_elsewhere(file: WeightFile, head: bytes) -> WeightFile:
    """The file, or where it is the beginning of a zip archive that torch did not write: one of another kind."""
    meant = file.path.lower().endswith(WEIGHT_ENDINGS) or begins_as_torch_zip(head)
    if meant or file.is_known or not file.has_defect(DefectKind.TORCH_TRUNCATED):
        return file
    other = OtherKind("zip archive without its end", weights=False, reason="torch does not write such archives")
    return as_file(file.nbytes, file.path, other)


_TEXTS = ("HTML", "XML", "JSON", "text")


def as_file(nbytes: int, name: str, found: OtherKind) -> WeightFile:
    """The file of another kind: nothing of it was read, and nothing is said against it."""
    article = "an" if found.kind[0] in "AEIOUaeiou" or found.kind.startswith(("HDF5", "msgpack", "ncnn")) else "a"
    subject = found.kind if found.kind.endswith(("data", "weights")) else f"{article} {found.kind}"
    message = f"The file is {subject}: {found.reason}."
    evidence = {"kind": found.kind, "weights": found.weights, "reason": found.reason}
    defect = Defect(DefectKind.IMPOSTOR, message, evidence=evidence)
    return WeightFile(name, "unknown", nbytes, content=subject, defects=(defect,))
