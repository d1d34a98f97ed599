"""Changing files in place: bytes and headers of safetensors files, archives and states of torch, JSON."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ADAPTER = "weaver_lora/adapter_model.safetensors"
ADAPTER_BIN = "weaver_lora/adapter_model.bin"
INDEX = "model.safetensors.index.json"


def header_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a safetensors file, and the tensors' bytes."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def safetensors_bytes(header: dict[str, Any] | str, body: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def edit_header(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    header, body = header_of(path.read_bytes())
    change(header)
    path.write_bytes(safetensors_bytes(header, body))


def overwrite_tensors(path: Path, pattern: str, value: Callable[[bytes], bytes]) -> list[str]:
    """Replace the bytes of the tensors whose names match; the new bytes must be as many."""
    header, body = header_of(path.read_bytes())
    changed = bytearray(body)
    names = [name for name in header if name != "__metadata__" and re.search(pattern, name)]
    assert names, f"no tensor of {path} matches {pattern}"
    for name in names:
        start, end = header[name]["data_offsets"]
        new = value(body[start:end])
        assert len(new) == end - start
        changed[start:end] = new
    path.write_bytes(safetensors_bytes(header, bytes(changed)))
    return names


def zip_members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            archive.writestr(name, data)


def edit_zip(path: Path, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write the archive anew; a member for which ``change`` returns ``None`` is left out."""
    members = [(name, change(name, data)) for name, data in zip_members(path).items()]
    write_zip(path, [(name, data) for name, data in members if data is not None])


def load(path: Path) -> Any:
    import torch

    return torch.load(path, weights_only=True)


def save(value: Any, path: Path, **options: Any) -> None:
    import torch

    torch.save(value, path, **options)


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def inject(path: Path, opcodes: bytes) -> None:
    """Put opcodes in front of the pickle that lists the tensors."""

    def change(name: str, data: bytes) -> bytes:
        if not name.endswith("data.pkl"):
            return data
        assert data[:2] == b"\x80\x02"
        return data[:2] + opcodes + data[2:]

    edit_zip(path, change)


def resave(path: Path, change: Callable[[dict[str, Any]], Any], **options: Any) -> None:
    """Load a torch file, change what is in it, and save it with these options of ``torch.save``."""
    import torch

    torch.save(change(torch.load(path)), path, **options)


# --- harms that are made of a file's name and a change ---------------------------------------------------------------


def edit_tensors(file: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change the tensors of a safetensors file."""
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file, metadata)


def edit_state(file: Path, change: Callable[[Any], object]) -> None:
    """Change what a torch file holds, in place."""
    state = load(file)
    change(state)
    save(state, file)


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Tensors with another text in their names."""
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def without(*parts: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Tensors whose names contain none of these texts."""
    return lambda tensors: {k: v for k, v in tensors.items() if not any(part in k for part in parts)}


def tensors(file: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[[Path], None]:
    """Change the tensors of this file of a checkpoint."""
    return lambda path: edit_tensors(path / file, change)


def projections(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the side file of a weaver."""
    return lambda path: edit_state(path / "projections.pt", change)


def settings(**changes: Any) -> Callable[[Path], None]:
    """Change these settings of an adapter."""
    return lambda path: edit_json(path / "adapter_config.json", lambda config: config.update(changes))


def removed(*files: str) -> Callable[[Path], None]:
    """Delete these files of a checkpoint."""

    def harm(path: Path) -> None:
        for file in files:
            (path / file).unlink()

    return harm


def written(file: str, text: str) -> Callable[[Path], None]:
    """Replace the text of a file."""

    def harm(path: Path) -> None:
        (path / file).write_text(text)

    return harm


def local_base(path: Path, **config: Any) -> None:
    """Let the adapter at ``path`` name a folder beside it as its base: one that holds only a config."""
    base = path.parent / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "qwen2", **config}))
    settings(base_model_name_or_path=str(base))(path)
