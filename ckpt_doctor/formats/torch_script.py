"""What only archives of ``torch.jit.save`` hold: source code, constants, and the names of the classes' attributes."""

from __future__ import annotations

from .pickle_modules import Classes, script_classes
from .zip_archive import Archive, folded
from .zip_directory import Member


def classes_of(archive: Archive, folder: str) -> Classes:
    """What the source in the archive says about its classes, as text."""
    prefix = folded(f"{folder}/code/")
    found: dict[str, frozenset[str]] = {}
    left = archive.limits.script_code
    for name, member in archive.by_name.items():
        if not name.startswith(prefix) or not name.endswith(".py") or member.offset is None:
            continue
        left -= max(member.nbytes, member.stored)
        if left < 0:
            break
        module = member.name[len(prefix) : -len(".py")].replace("/", ".")
        text = archive.beginning(member, member.nbytes).decode("utf-8", "replace")
        found.update(script_classes(module, text))
    return found


def is_own_member(archive: Archive, inside: str, member: Member) -> bool:
    """True if a member is one that ``torch.jit.save`` writes and that is no pickle: source, tensors, added files.

    ``inside`` is its name in the folder of the archive. Text reads like a pickle by accident: a line that begins with
    ``c`` names something. With the mark of a pickle of protocol 2 and later in front, it is looked at nevertheless.
    """
    if inside == "constants.pkl":
        return True  # which is read as the pickle that it is
    if inside.startswith(("constants/", "traced_inputs/")):
        return True
    text = inside.startswith("extra/") or (inside.startswith("code/") and inside.endswith(".py"))
    return text and archive.beginning(member, 1) != b"\x80"
