"""What a file is, by its first bytes: the kinds of content that are recognised in order to be refused by name.

The signatures are those that the formats' own specifications give; file extensions play no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt_doctor.sources.source import Source


HEAD = 4096
"""Bytes from the start of a file that the functions here want to see, or all of it where it is shorter."""

_TAR_BLOCK = 512
_END_OF_DIRECTORY = b"PK\x05\x06"
_ZIP_TAIL = 22 + 0xFFFF  # the end-of-central-directory record and the longest comment
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_SIZE = 20

# Containers: what is in them is not what stands in the file.
_CONTAINERS = (
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"BZh", "bzip2 data"),
    (b"Rar!\x1a\x07", "a rar archive"),
    (b"\x04\x22\x4d\x18", "lz4 data"),
    (b"\x5d\x00\x00", "lzma data"),
    (b"\x1f\x9d", "compress (.Z) data"),
    (b"MSCF\x00\x00\x00\x00", "a cabinet archive"),
    (b"!<arch>\n", "an ar archive"),
)

_OTHERS = (
    (b"GGUF", "a GGUF model"),
    (b"lmgg", "a GGML model"),
    (b"tjgg", "a GGJT model"),
    (b"fmgg", "a GGMF model"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x7fELF", "an ELF program or library"),
    (b"\xfe\xed\xfa\xce", "a Mach-O program or library"),
    (b"\xfe\xed\xfa\xcf", "a Mach-O program or library"),
    (b"\xce\xfa\xed\xfe", "a Mach-O program or library"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program or library"),
    (b"\xca\xfe\xba\xbe", "a Java class or Mach-O library"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"%PDF-", "a PDF document"),
    (b"SQLite format 3\x00", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1\x00\x00", "an Arrow file"),
    (b"Obj\x01", "an Avro file"),
    (b"\x00asm", "a WebAssembly module"),
)

_LFS_POINTERS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")


def container(head: bytes) -> str | None:
    """Name of the archive or compressed stream that ``head`` begins, if it is one. Zip archives are not meant."""
    if is_tar(head):
        return "a tar archive"
    return _first(head, _CONTAINERS)


def other_binary(head: bytes) -> str | None:
    """Name of a known kind of file that holds no torch or safetensors weights."""
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    # Two letters are not enough: a Windows program has zero bytes soon after them, a text has none.
    if head.startswith(b"MZ") and b"\0" in head[:64]:
        return "a Windows program or library"
    return _first(head, _OTHERS)


def _first(head: bytes, table: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((name for signature, name in table if head.startswith(signature)), None)


def is_tar(head: bytes) -> bool:
    """True if a tar archive begins here: the header block carries a checksum of itself, with or without ``ustar``."""
    block = head[:_TAR_BLOCK]
    if len(block) < _TAR_BLOCK or not any(block):
        return False
    stored = _tar_number(block[148:156])
    # The checksum is taken with its own field filled with spaces; some old programs summed signed bytes.
    field = 8 * 0x20
    unsigned = sum(block[:148]) + sum(block[156:]) + field
    if stored is None or stored == unsigned:
        return stored is not None
    return stored == unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])


def _tar_number(field: bytes) -> int | None:
    """A number of a tar header, read as liberally as the most liberal reader does: Python's own ``tarfile``.

    That takes signs, ``0o``, underscores and blanks in octal digits, and binary numbers behind a first byte of 0x80 or
    0xff.
    """
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number - 256 ** (len(field) - 1) if field[0] == 0xFF else number
    try:
        return int(field.split(b"\0", 1)[0].decode("ascii").strip() or "0", 8)
    except ValueError:
        return None


def is_lfs_pointer(head: bytes) -> bool:
    """True if this is the small text that git-lfs keeps in a repository instead of a large file."""
    return head.startswith(_LFS_POINTERS)


def lfs_fields(head: bytes) -> dict[str, str]:
    """The ``oid`` and ``size`` lines of a git-lfs pointer, as far as they are there."""
    lines = (line.partition(" ") for line in head.decode("utf-8", "replace").splitlines()[1:])
    return {key: value.strip() for key, _, value in lines if key in ("oid", "size")}


def text_kind(head: bytes) -> str | None:
    """``HTML``, ``XML``, ``JSON`` or ``text``, or ``None`` if ``head`` is not text."""
    text = _as_text(head)
    if text is None:
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")) or "<html" in start[:1024]:
        return "HTML"
    if start.startswith(("<?xml", "<")):
        return "XML"
    if start.startswith(("{", "[")):
        return "JSON"
    return "text"


def excerpt(head: bytes, limit: int = 60) -> str:
    """The first words of a text, on one line and printable."""
    words = " ".join((_as_text(head) or "").lstrip("\ufeff").split())
    return words if len(words) <= limit else words[: limit - 3] + "..."


def _as_text(head: bytes) -> str | None:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in head:
        return None
    else:
        encoding = "utf-8"
    for cut in range(4):  # the end of ``head`` may split a character
        try:
            text = head[: len(head) - cut].decode(encoding)
        except UnicodeDecodeError:
            continue
        printable = all(char.isprintable() or char in "\t\n\r\f\x1b\ufeff" for char in text)
        return text if text and printable else None
    return None


def ends_as_zip(source: Source) -> bool:
    """True if a zip archive ends where the file ends, whatever stands in front: that is where its readers look.

    The four bytes of its end record may turn up in any weights, so what they point to must be there as well: the
    central directory right in front of them, or the locator of a zip64 archive.
    """
    start = max(0, source.size - _ZIP_TAIL - _ZIP64_LOCATOR_SIZE)
    tail = source.read_at(start, source.size - start)
    position = tail.rfind(_END_OF_DIRECTORY)
    while position >= 0:
        record = tail[position : position + 22]
        if len(record) == 22:
            if tail[max(0, position - _ZIP64_LOCATOR_SIZE) : position].startswith(_ZIP64_LOCATOR):
                return True
            directory = start + position - int.from_bytes(record[12:16], "little")
            if 0 <= directory < start + position and source.read_at(directory, 4) == b"PK\x01\x02":
                return True
        position = tail.rfind(_END_OF_DIRECTORY, 0, position)
    return False
