"""Files that try to run code, to mislead or to exhaust a reader: one for every way that is known.

Nothing here is dangerous to keep: a payload would create an empty marker file, which must never appear.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}X\r\x00\x00\x00little_endian\x88s."


@dataclass(frozen=True)
class HostileCase:
    """A file, the name it tries to pass under, and the codes that a report on it must have."""

    filename: str
    data: bytes
    codes: frozenset[str]


def hostile_files(marker: Path) -> dict[str, HostileCase]:
    """Every case by name. ``marker`` is the file that the payloads would create."""
    cases: dict[str, HostileCase] = {}
    payload = f"touch {marker}".encode()
    tables = [make(payload) for make in (_names, _uses, _streams, _archives, _wrappers)]
    for table in (*tables, _bombs()):
        for name, (filename, data, codes) in table.items():
            assert name not in cases
            cases[name] = HostileCase(filename, data, frozenset(codes.split()))
    return cases


Table = dict[str, tuple[str, bytes, str]]


# Parts of pickles


def text(value: str | bytes) -> bytes:
    """BINUNICODE."""
    raw = value.encode() if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(raw)) + raw


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """GLOBAL, a tuple of arguments, REDUCE."""
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def tensor(key: str = "0") -> bytes:
    """A float32 tensor of two elements, as torch writes it."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + b"K\x02tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"K\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    )


def saved(value: bytes) -> bytes:
    """A state dict with one honest tensor, and ``value`` under the key ``extra``."""
    return b"\x80\x02}(" + text("weight") + tensor() + text("extra") + value + b"u."


# Archives


def archive(
    pickle: bytes,
    extra: dict[str, bytes] | None = None,
    *,
    compression: int = zipfile.ZIP_STORED,
    folder: str = "archive",
) -> bytes:
    """A torch archive around ``pickle``, with one storage of 8 bytes and ``extra`` members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file:
        members = {f"{folder}/data.pkl": pickle, f"{folder}/data/0": bytes(8), f"{folder}/version": b"3\n"}
        for name, data in {**members, **(extra or {})}.items():
            file.writestr(zipfile.ZipInfo(name), data, compression)
    return stream.getvalue()


def with_duplicate(pickle: bytes, second: bytes) -> bytes:
    """An archive with two members called data.pkl."""
    data = archive(pickle, {"archive/data.pkk": second})
    return data.replace(b"archive/data.pkk", b"archive/data.pkl")


def with_flags(data: bytes, flags: int) -> bytes:
    """The archive with ``flags`` set in both headers of its first member."""
    changed = bytearray(data)
    central = data.index(b"PK\x01\x02")
    changed[6:8] = struct.pack("<H", flags)
    changed[central + 8 : central + 10] = struct.pack("<H", flags)
    return bytes(changed)


def legacy(pickle: bytes, *, magic: bytes = MAGIC) -> bytes:
    """A file of torch's format before 1.6 around ``pickle``, with the storage ``0`` of two floats."""
    keys = b"\x80\x02](" + text("0") + b"e."
    return magic + PROTOCOL + SYSTEM + pickle + keys + struct.pack("<q", 2) + bytes(8)


def legacy_saved(value: bytes) -> bytes:
    """The pickle of :func:`saved` with the longer storage ids of the legacy format."""
    return saved(value).replace(b"K\x02tQ", b"K\x02NtQ")


# The cases


def _names(payload: bytes) -> Table:
    """Names that must not be looked up."""
    system = call("posix", "system", text(payload))
    names = {
        "posix system": system,
        "os system": call("os", "system", text(payload)),
        "nt system": call("nt", "system", text(payload)),
        "subprocess Popen": call("subprocess", "Popen", text(payload)),
        "builtins eval": call("builtins", "eval", text(b"__import__('os').system('" + payload + b"')")),
        "python 2 eval": call("__builtin__", "eval", text(b"1")),
        "runpy": call("runpy", "_run_code", text(b"1"), b"}"),
        "torch load": call("torch.storage", "_load_from_bytes", b"C\x01."),
        "torch hub": call("torch.hub", "load", text("a/b"), text("c")),
        "numpy runstring": call("numpy.testing._private.utils", "runstring", text(b"1"), b"}"),
        "partial": call("functools", "partial", b"cposix\nsystem\n", text(payload)),
        "attrgetter": call("operator", "attrgetter", text("system")),
        "getattr of a module": call("builtins", "getattr", b"ctorch\nSize\n", text("__class__")),
        "getattr left alone": b"cbuiltins\ngetattr\n",
        "similar name": call("collections", "OrderedDict2"),
        "prefix of a name": call("torch._utils", "_rebuild_tensor_v2.__globals__"),
        "blank in a name": b"ctorch Size\n\n",
    }
    table = {
        f"{name} in a zip": ("adapter_model.bin", archive(saved(value)), "CKD901") for name, value in names.items()
    }
    table |= {
        f"{name} in a legacy file": ("adapter_model.bin", legacy(legacy_saved(names[name])), "CKD901")
        for name in ("posix system", "builtins eval")
    }
    by_stack = {
        "dotted name": b"\x8c\x05torch\x8c\x17serialization.os.system\x93" + text(payload) + b"\x85R",
        "names from the memo": b"\x8c\x05posix\x940\x8c\x06system\x940h\x00h\x01\x93" + text(payload) + b"\x85R",
        "names from protocol 0 strings": b"S'posix'\nS'system'\n\x93" + text(payload) + b"\x85R",
        "names as numbers": b"K\x01K\x02\x93" + text(payload) + b"\x85R",
        "extension code 1": b"\x82\x01",
        "extension code 2": b"\x83\x01\x00",
        "extension code 4": b"\x84\x01\x00\x00\x00",
        "popped INST": b"(" + text(payload) + b"iposix\nsystem\n0N",
        "popped OBJ": b"(cposix\nsystem\n" + text(payload) + b"o0N",
        "popped REDUCE": system + b"0N",
        "NEWOBJ": b"cposix\nsystem\n" + text(payload) + b"\x85\x81",
        "NEWOBJ_EX": b"cposix\nsystem\n" + text(payload) + b"\x85}\x92",
    }
    table |= {name: ("adapter_model.bin", archive(saved(value)), "CKD901") for name, value in by_stack.items()}
    return table


def _uses(payload: bytes) -> Table:
    """Known names, used in a way that could do harm."""
    namespace = b"cargparse\nNamespace\n)\x81"
    uses = {
        "SETITEM on an object": namespace + text("a") + text(payload) + b"s",
        "SETITEM on a list": b"]" + text("a") + text(payload) + b"s",
        "APPEND on an object": namespace + text(payload) + b"a",
        "BUILD on a class": b"cargparse\nNamespace\n}" + text("__init__") + text(payload) + b"sb",
        "constructor of an object": call("accelerate.state", "PartialState", text(payload)),
        "call of a result": call("builtins", "str", text("a")) + text(payload) + b"\x85R",
        "persistent id of another kind": text("storage") + b"Q",
        "persistent id as a line": b"Pposix\n",
        "reconstructor of an unknown class": call(
            "copyreg", "_reconstructor", b"cposix\nsystem\n", b"cbuiltins\nobject\n", b"N"
        ),
    }
    return {name: ("training_args.bin", archive(saved(value)), "CKD901") for name, value in uses.items()}


def _streams(payload: bytes) -> Table:
    """Pickles outside a zip archive."""
    system = call("posix", "system", text(payload))
    number = str(0x1950A86A20F9469CFC6C)
    return {
        "protocol 0 without magic": (
            "adapter_model.bin",
            b"cposix\nsystem\n(S'" + payload + b"'\ntR.",
            "CKD901 CKD103",
        ),
        "raw pickle": ("pytorch_model.bin", b"\x80\x02" + system + b".", "CKD901 CKD103"),
        "raw pickle with protocol 4": (
            "pytorch_model.bin",
            b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text(payload) + b"\x85R.",
            "CKD901 CKD103",
        ),
        "legacy magic made by a call": (
            "pytorch_model.bin",
            legacy(legacy_saved(system), magic=b"\x80\x02" + call("builtins", "int", text(number)) + b"."),
            "CKD901",
        ),
        "code in the legacy magic": (
            "pytorch_model.bin",
            legacy(legacy_saved(b"N"), magic=b"\x80\x02" + system + b"0" + MAGIC[2:]),
            "CKD901",
        ),
        "code in the legacy list of keys": (
            "pytorch_model.bin",
            legacy(legacy_saved(b"N")).replace(b"\x80\x02](", b"\x80\x02" + system + b"0]("),
            "CKD901",
        ),
        "bytes behind a legacy file": ("pytorch_model.bin", legacy(legacy_saved(b"N")) + b"more", "CKD902"),
        "second pickle behind the first": ("pytorch_model.bin", b"\x80\x02N.\x80\x02" + system + b".", "CKD901 CKD902"),
    }


def _archives(payload: bytes) -> Table:
    """Archives that readers disagree about."""
    system = call("posix", "system", text(payload))
    honest, evil = saved(b"N"), saved(system)
    good = archive(honest)
    central = good.index(b"PK\x01\x02")
    wrong_crc = bytearray(archive(evil))
    at = wrong_crc.index(b"PK\x01\x02")
    wrong_crc[14:18] = wrong_crc[at + 16 : at + 20] = b"\x01\x02\x03\x04"
    hidden = good[:central] + b"hidden bytes" + good[central:]
    end = hidden.rindex(b"PK\x05\x06")
    hidden = hidden[: end + 16] + struct.pack("<I", central + 12) + hidden[end + 20 :]
    frame = b"\x80\x04\x95" + struct.pack("<Q", 3) + text("a") + b"."
    table = {
        "odd member": ("a.bin", archive(honest, {"archive/notes.dat": b"\x80\x02" + system + b"."}), "CKD901"),
        "other name in the local header": (
            "a.bin",
            good.replace(b"archive/data.pkl", b"archive/data.pkx", 1),
            "CKD902",
        ),
        "bad checksum of an evil pickle": ("a.bin", bytes(wrong_crc), "CKD901"),
        "two members of one name": ("a.bin", with_duplicate(honest, evil), "CKD902"),
        "two members but for case": ("a.bin", archive(honest, {"archive/DATA.PKL": evil}), "CKD902"),
        "two folders": ("a.bin", archive(honest, {"other/data.pkl": evil}), "CKD901 CKD902"),
        "bytes behind the pickle": ("a.bin", archive(honest + evil), "CKD902"),
        "bytes behind the archive": ("a.bin", good + b"more", "CKD902"),
        "pickle in front of the archive": ("a.bin", b"\x80\x02" + system + b"." + good, "CKD901 CKD902"),
        "text in front of the archive": ("a.bin", b"#!/bin/sh\n" + good, "CKD902"),
        "archive behind an archive": ("a.bin", good + archive(evil), "CKD902"),
        "bytes between members and directory": ("a.bin", hidden, "CKD902"),
        "frame that is too short": ("a.bin", archive(frame[:3] + struct.pack("<Q", 900) + frame[11:]), "CKD902"),
        "frame in a frame": ("a.bin", archive(b"\x80\x04\x95" + struct.pack("<Q", 50) + frame[2:]), "CKD902"),
        "TorchScript": ("a.pt", archive(honest, {"archive/constants.pkl": b"\x80\x02)."}), "CKD904"),
        "TorchScript code": ("a.pt", archive(honest, {"archive/code/__torch__.py": b"import os"}), "CKD904"),
    }
    for flag in (0x1, 0x20, 0x40):
        table[f"flag {flag:#x}"] = ("a.bin", with_flags(good, flag), "CKD902")
    escapes = {"parent": "archive/../../x", "absolute": "/etc/x", "drive": "C:/x", "backslash": "archive\\..\\x"}
    for name, member in escapes.items():
        # ZipInfo would rewrite some of these names.
        data = archive(honest, {"y" * len(member): b"x"}).replace(b"y" * len(member), member.encode())
        table[f"{name} in a member name"] = ("a.bin", data, "CKD905")
    return table


@cache  # they take seconds to make
def _bombs() -> Table:
    """Files that would take all memory or all time."""
    laughs = (
        b"\x80\x02]("
        + b"]q\x00"
        + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(40))
    )
    name = text("n" * 100_000) + b"q\x00"
    names = b"\x80\x02}" + name + b"}" + b"h\x00}" * 400 + b"s" * 401 + b"."
    encode = (
        b"\x80\x02c_codecs\nencode\nq\x00"
        + text("x" * 200_000)
        + text("latin1")
        + b"\x86q\x01]("
        + b"h\x00h\x01R" * 100_000
    )
    pairs = (
        b"\x80\x02}q\x00("
        + b"NN" * 50_000
        + b"u](ccollections\nOrderedDict\nq\x01h\x00\x85q\x02"
        + b"h\x01h\x02R" * 100_000
    )
    declared = struct.pack("<Q", 1 << 43)
    raw: dict[str, bytes] = {
        "memo index of two billion": b"\x80\x02Nr\xff\xff\xff\x7f.",
        "memo index in text": b"\x80\x02Np99999999999\n.",
        "marks in marks": b"\x80\x02" + b"(" * 500_000 + b".",
        "lists in lists": b"\x80\x02" + b"]" * 300_000 + b"a" * 299_999 + b".",
        "tuples in tuples": b"\x80\x02N" + b"\x85" * 900_000 + b".",
        "string of terabytes": b"\x80\x04\x8d" + declared + b"x.",
        "bytes of terabytes": b"\x80\x04\x8e" + declared + b"x.",
        "bytearray of terabytes": b"\x80\x05\x96" + declared + b"x.",
        "number of many digits": b"\x80\x02I" + b"9" * 900_000 + b"\n.",
        "lists that contain each other": laughs + b"e.",
        "long names in long names": names,
        "copies of dictionaries": pairs + b"e.",
    }
    table = {name: ("pytorch_model.bin", data, "CKD903") for name, data in raw.items()}
    table |= {f"{name} in a zip": ("pytorch_model.bin", archive(raw[name]), "CKD903") for name in raw}
    table["encodings of one string"] = ("pytorch_model.bin", archive(encode + b"e."), "CKD903")
    deflated = zipfile.ZIP_DEFLATED
    table["opcodes by inflation"] = (
        "a.bin",
        archive(b"\x80\x02" + b"N0" * 15_000_000 + b"N.", compression=deflated),
        "CKD903",
    )
    bomb = archive(bytes(200 << 20), compression=deflated)
    table["inflation"] = ("a.bin", bomb, "CKD903")
    central = bomb.index(b"PK\x01\x02")
    lying = bytearray(bomb)
    lying[22:26] = lying[central + 24 : central + 28] = struct.pack("<I", 1000)
    table["inflation that denies it"] = ("a.bin", bytes(lying), "CKD903")
    return table


def _wrappers(payload: bytes) -> Table:
    """Containers that some loader opens."""
    evil = b"\x80\x02" + call("posix", "system", text(payload)) + b"."
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        info = tarfile.TarInfo("pickle")
        info.size = len(evil)
        file.addfile(info, io.BytesIO(evil))
    packed = zlib.compressobj(wbits=31)
    return {
        "tar": ("a.bin", stream.getvalue(), "CKD904"),
        "7z": ("a.bin", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24) + evil, "CKD904"),
        "gzip": ("a.bin", packed.compress(evil) + packed.flush(), "CKD904"),
    }
