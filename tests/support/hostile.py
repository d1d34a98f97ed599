"""Files that a reader must refuse, as harmless stand-ins: one for each guard.

Where a file could ask for code there is the name of a package that does not exist, and where it could ask for time or
memory it is small, and is read with limits that are smaller still. Whatever program opens one of these files, the worst
that happens is an error.
"""

from __future__ import annotations

import io
import struct
import sys
import tarfile
import types
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from ckpt_doctor.formats.limits import LIMITS, Limits

PACKAGE = "no_such_package_ckpt_doctor"
"""A package that nobody has."""

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
PROTOCOL = b"\x80\x02M\xe9\x03."
SYSTEM = b"\x80\x02}X\r\x00\x00\x00little_endian\x88s."


@dataclass(frozen=True)
class HostileCase:
    """A file, its name, the codes that a report on it must have, and the limits that it is read with."""

    filename: str
    data: bytes
    codes: frozenset[str]
    limits: Limits = LIMITS


def hostile_files() -> dict[str, HostileCase]:
    """Every case by name."""
    cases: dict[str, HostileCase] = {}
    for table in (_names(), _uses(), _streams(), _archives(), _wrappers(), _costly()):
        for name, (filename, data, codes, limits) in table.items():
            assert name not in cases
            cases[name] = HostileCase(filename, data, frozenset(codes.split()), limits)
    return cases


class Row(NamedTuple):
    """What a :class:`HostileCase` is made of."""

    filename: str
    data: bytes
    codes: str
    limits: Limits = LIMITS


Table = dict[str, Row]


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


def foreign() -> bytes:
    """A call of a function of a package that does not exist."""
    return call(PACKAGE, "thing", text("x"))


class Foreign:
    """Pickles as a call of a function of a package that does not exist; see :func:`foreign_package`."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules[PACKAGE].thing, ("x",)


@contextmanager
def foreign_package() -> Iterator[list[str]]:
    """Lets the package exist, so that a :class:`Foreign` can be pickled; gives what its function is called with."""
    calls: list[str] = []

    def thing(given: str) -> str:
        calls.append(given)
        return given

    thing.__module__, thing.__qualname__ = PACKAGE, "thing"
    module = types.ModuleType(PACKAGE)
    module.thing = thing  # type: ignore[attr-defined]
    sys.modules[PACKAGE] = module
    try:
        yield calls
    finally:
        del sys.modules[PACKAGE]


# The cases


def _names() -> Table:
    """Names that must not be looked up."""
    names = {
        "foreign function": foreign(),
        "foreign class": f"c{PACKAGE}\nThing\n".encode(),
        "getattr of another class": call("builtins", "getattr", b"ctorch\nSize\n", text("no_such_attribute")),
        "getattr left alone": b"cbuiltins\ngetattr\n",
        "similar name": call("collections", "OrderedDict2"),
        "longer name": call("torch._utils", "_rebuild_tensor_v2.no_such_attribute"),
        "blank in a name": b"ctorch Size\n\n",
    }
    table = {
        f"{name} in a zip": Row("adapter_model.bin", archive(saved(value)), "CKD901") for name, value in names.items()
    }
    table |= {
        f"{name} in a legacy file": Row("adapter_model.bin", legacy(legacy_saved(names[name])), "CKD901")
        for name in ("foreign function", "foreign class")
    }
    package = f"{PACKAGE}\n".encode()
    by_stack = {
        "dotted name": _short("torch") + _short("no_such_module.thing") + b"\x93" + text("x") + b"\x85R",
        "names from the memo": _short(PACKAGE)
        + b"\x940"
        + _short("thing")
        + b"\x940h\x00h\x01\x93"
        + text("x")
        + b"\x85R",
        "names from protocol 0 strings": f"S'{PACKAGE}'\nS'thing'\n".encode() + b"\x93" + text("x") + b"\x85R",
        "names as numbers": b"K\x01K\x02\x93" + text("x") + b"\x85R",
        "extension code 1": b"\x82\x01",
        "extension code 2": b"\x83\x01\x00",
        "extension code 4": b"\x84\x01\x00\x00\x00",
        "popped INST": b"(" + text("x") + b"i" + package + b"thing\n0N",
        "popped OBJ": b"(c" + package + b"thing\n" + text("x") + b"o0N",
        "popped REDUCE": foreign() + b"0N",
        "NEWOBJ": b"c" + package + b"thing\n" + text("x") + b"\x85\x81",
        "NEWOBJ_EX": b"c" + package + b"thing\n" + text("x") + b"\x85}\x92",
    }
    table |= {name: Row("adapter_model.bin", archive(saved(value)), "CKD901") for name, value in by_stack.items()}
    return table


def _short(value: str) -> bytes:
    """SHORT_BINUNICODE."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


def _uses() -> Table:
    """Known names, used otherwise than a checkpoint does."""
    namespace = b"cargparse\nNamespace\n)\x81"
    other = b"ctorch\nSize\n"
    uses = {
        "SETITEM on an object": namespace + text("a") + text("x") + b"s",
        "SETITEM on a list": b"]" + text("a") + text("x") + b"s",
        "APPEND on an object": namespace + text("x") + b"a",
        "BUILD on a class": b"cargparse\nNamespace\n}" + text("no_such_attribute") + text("x") + b"sb",
        "constructor of an object": call("argparse", "Namespace", text("x")),
        "call of a result": call("builtins", "str", text("a")) + text("x") + b"\x85R",
        "persistent id of another kind": text("storage") + b"Q",
        "persistent id as a line": b"Pstorage\n",
        "reconstructor of another class": call("copyreg", "_reconstructor", other, b"cbuiltins\nobject\n", b"N"),
    }
    return {name: Row("training_args.bin", archive(saved(value)), "CKD901") for name, value in uses.items()}


def _streams() -> Table:
    """Pickles outside a zip archive."""
    number = str(0x1950A86A20F9469CFC6C)
    called_number = b"\x80\x02" + call("builtins", "int", text(number)) + b"."
    named = _short(PACKAGE) + _short("thing") + b"\x93" + text("x") + b"\x85R"
    plain = legacy(legacy_saved(b"N"))
    first_key = b"\x80\x02]("
    return {
        "protocol 0 without magic": Row(
            "adapter_model.bin", f"c{PACKAGE}\nthing\n(S'x'\ntR.".encode(), "CKD901 CKD103"
        ),
        "raw pickle": Row("pytorch_model.bin", b"\x80\x02" + foreign() + b".", "CKD901 CKD103"),
        "raw pickle with protocol 4": Row("pytorch_model.bin", b"\x80\x04" + named + b".", "CKD901 CKD103"),
        "legacy magic made by a call": Row(
            "pytorch_model.bin", legacy(legacy_saved(foreign()), magic=called_number), "CKD901 CKD103"
        ),
        "name in the legacy magic": Row(
            "pytorch_model.bin",
            legacy(legacy_saved(b"N"), magic=b"\x80\x02" + foreign() + b"0" + MAGIC[2:]),
            "CKD901",
        ),
        "name in the legacy list of keys": Row(
            "pytorch_model.bin", plain.replace(first_key, first_key[:2] + foreign() + b"0" + first_key[2:]), "CKD901"
        ),
        "bytes behind a legacy file": Row("pytorch_model.bin", plain + b"more", "CKD902"),
        "second pickle behind the first": Row(
            "pytorch_model.bin", b"\x80\x02N.\x80\x02" + foreign() + b".", "CKD901 CKD902"
        ),
    }


def _archives() -> Table:
    """Archives that say two things. Both of them are plain tensors, or a name of a package that does not exist."""
    first, second = saved(b"N"), saved(text("other"))
    good = archive(first)
    central = good.index(b"PK\x01\x02")
    wrong_crc = bytearray(archive(saved(foreign())))
    at = wrong_crc.index(b"PK\x01\x02")
    wrong_crc[14:18] = wrong_crc[at + 16 : at + 20] = b"\x01\x02\x03\x04"
    between = good[:central] + b"twelve bytes" + good[central:]
    end = between.rindex(b"PK\x05\x06")
    between = between[: end + 16] + struct.pack("<I", central + 12) + between[end + 20 :]
    frame = b"\x80\x04\x95" + struct.pack("<Q", 3) + text("a") + b"."
    member = b"\x80\x02" + foreign() + b"."
    table = {
        "odd member": Row("a.bin", archive(first, {"archive/notes.dat": member}), "CKD901"),
        "other name in the local header": Row(
            "a.bin", good.replace(b"archive/data.pkl", b"archive/data.pkx", 1), "CKD902"
        ),
        "bad checksum of a foreign name": Row("a.bin", bytes(wrong_crc), "CKD901"),
        "two members of one name": Row("a.bin", with_duplicate(first, second), "CKD902"),
        "two members but for case": Row("a.bin", archive(first, {"archive/DATA.PKL": second}), "CKD902"),
        "two folders": Row("a.bin", archive(first, {"other/data.pkl": saved(foreign())}), "CKD901 CKD902"),
        "bytes behind the pickle": Row("a.bin", archive(first + second), "CKD902"),
        "bytes behind the archive": Row("a.bin", good + b"more", "CKD902"),
        "pickle in front of the archive": Row("a.bin", member + good, "CKD901 CKD902"),
        "text in front of the archive": Row("a.bin", b"a line of text\n" + good, "CKD902"),
        "archive behind an archive": Row("a.bin", good + archive(second), "CKD902"),
        "bytes between members and directory": Row("a.bin", between, "CKD902"),
        "frame that is too short": Row("a.bin", archive(frame[:3] + struct.pack("<Q", 900) + frame[11:]), "CKD902"),
        "frame in a frame": Row("a.bin", archive(b"\x80\x04\x95" + struct.pack("<Q", 50) + frame[2:]), "CKD902"),
        "TorchScript": Row("a.pt", archive(first, {"archive/constants.pkl": b"\x80\x02)."}), "CKD904"),
        "TorchScript code": Row("a.pt", archive(first, {"archive/code/__torch__.py": b"pass\n"}), "CKD904"),
    }
    for flag in (0x1, 0x20, 0x40):
        table[f"flag {flag:#x}"] = Row("a.bin", with_flags(good, flag), "CKD902")
    # Unpacked carelessly, they stay where they are unpacked, or need a folder that nobody has.
    leading_out = {
        "parent": "archive/../x",
        "absolute": f"/{PACKAGE}/x",
        "drive": f"Q:/{PACKAGE}/x",
        "backslash": "archive\\..\\x",
    }
    for name, path in leading_out.items():
        # ZipInfo would rewrite some of these names.
        data = archive(first, {"y" * len(path): b"x"}).replace(b"y" * len(path), path.encode())
        table[f"{name} in a member name"] = Row("a.bin", data, "CKD905")
    return table


def _costly() -> Table:
    """Files that take more than their limits allow, which are those of a toy."""
    pairs = [b"](h" + bytes([index]) + b"h" + bytes([index]) + b"eq" + bytes([index + 1]) for index in range(8)]
    called = b"h\x00h\x01R" * 100
    declared = struct.pack("<Q", 2000)
    deep, wide, long = Limits(depth=10), Limits(visits=50), Limits(declared=1000)
    wordy, exact = Limits(characters=1000), Limits(digits=40)
    rows: dict[str, tuple[bytes, Limits]] = {
        "memo index beyond the pickle": (b"\x80\x02Nr\xff\x00\x00\x00.", LIMITS),
        "memo index in text": (b"\x80\x02Np255\n.", LIMITS),
        "marks in marks": (b"\x80\x02" + b"(" * 20 + b".", deep),
        "lists in lists": (b"\x80\x02" + b"]" * 20 + b"a" * 19 + b".", deep),
        "tuples in tuples": (b"\x80\x02N" + b"\x85" * 20 + b".", deep),
        "string longer than the file": (b"\x80\x04\x8d" + declared + b"x.", long),
        "short string longer than the file": (b"\x80\x02X" + declared[:4] + b"x.", long),
        "bytes longer than the file": (b"\x80\x04\x8e" + declared + b"x.", long),
        "bytearray longer than the file": (b"\x80\x05\x96" + declared + b"x.", long),
        "number of many digits": (b"\x80\x02I" + b"9" * 50 + b"\n.", exact),
        "long number of many digits": (b"\x80\x02L" + b"9" * 50 + b"L\n.", exact),
        "lists that contain each other": (b"\x80\x02](]q\x00" + b"".join(pairs) + b"e.", wide),
        "long names in long names": (
            b"\x80\x02}" + text("n" * 100) + b"q\x00}" + b"h\x00}" * 20 + b"s" * 21 + b".",
            wordy,
        ),
        "copies of dictionaries": (
            b"\x80\x02}q\x00("
            + b"NN" * 50
            + b"u](ccollections\nOrderedDict\nq\x01h\x00\x85q\x02"
            + b"h\x01h\x02R" * 20
            + b"e.",
            wordy,
        ),
        "encodings of one string": (
            b"\x80\x02c_codecs\nencode\nq\x00" + text("x" * 200) + text("latin1") + b"\x86q\x01](" + called + b"e.",
            wordy,
        ),
    }
    table = {name: Row("pytorch_model.bin", data, "CKD903", limits) for name, (data, limits) in rows.items()}
    table |= {
        f"{name} in a zip": Row("pytorch_model.bin", archive(data), "CKD903", limits)
        for name, (data, limits) in rows.items()
    }
    deflated = zipfile.ZIP_DEFLATED
    opcodes = archive(b"\x80\x02" + b"N0" * 500 + b"N.", compression=deflated)
    zeros = archive(bytes(5000), compression=deflated)
    central = zeros.index(b"PK\x01\x02")
    short = bytearray(zeros)
    short[22:26] = short[central + 24 : central + 28] = struct.pack("<I", 500)
    small = Limits(inflated=1000, inflation=2)
    table["opcodes by inflation"] = Row("a.bin", opcodes, "CKD903", Limits(opcodes=100))
    table["most opcodes"] = Row("a.bin", opcodes, "CKD903", Limits(most_opcodes=100))
    table["most visits"] = Row("a.bin", archive(saved(b"N")), "CKD903", Limits(most_visits=2))
    table["inflation"] = Row("a.bin", zeros, "CKD903", small)
    table["inflation to more than is declared"] = Row("a.bin", bytes(short), "CKD903", small)
    table["inflation of a large pickle"] = Row("a.bin", zeros, "CKD903", Limits(pickle=1000))
    table["pickle that is too long"] = Row("a.bin", archive(saved(b"N")), "CKD903", Limits(pickle=50))
    return table


def _wrappers() -> Table:
    """Containers around a pickle."""
    pickle = b"\x80\x02" + foreign() + b"."
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        info = tarfile.TarInfo("pickle")
        info.size = len(pickle)
        file.addfile(info, io.BytesIO(pickle))
    packed = zlib.compressobj(wbits=31)
    return {
        "tar": Row("a.bin", stream.getvalue(), "CKD904"),
        "7z": Row("a.bin", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24) + pickle, "CKD904"),
        "gzip": Row("a.bin", packed.compress(pickle) + packed.flush(), "CKD904"),
    }
