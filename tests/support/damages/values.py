"""CKD6xx: values that no training leaves."""

from __future__ import annotations

from pathlib import Path

from support.damages.edits import (
    ADAPTER,
    ADAPTER_BIN,
    load,
    overwrite_tensors,
    save,
    zip_members,
)
from support.damages.record import Damage, recorder

DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)


@damage("CKD601", "weaver_safetensors/weaver", deep=True)
def one_nan(path: Path) -> None:
    overwrite_tensors(
        path / ADAPTER, r"layers\.1\..*q_proj\.lora_B", lambda data: data[:8] + b"\0\0\xc0\x7f" + data[12:]
    )


@damage("CKD601", "weaver_safetensors/weaver", deep=True)
def infinite_projection(path: Path) -> None:
    state = load(path / "projections.pt")
    state["weaver_to_reasoner"]["bias"].data[3] = float("-inf")
    save(state, path / "projections.pt")


@damage("CKD602", "weaver_safetensors/weaver", deep=True)
def lora_b_of_zeros(path: Path) -> None:
    overwrite_tensors(path / ADAPTER, "lora_B", lambda data: bytes(len(data)))


@damage("CKD603", "weaver_bin/weaver", expect="bin", deep=True)
def flipped_bit(path: Path) -> None:
    record = next(data for name, data in zip_members(path / ADAPTER_BIN).items() if name.endswith("data/5"))
    data = bytearray((path / ADAPTER_BIN).read_bytes())
    data[data.index(record) + 20] ^= 0x10
    (path / ADAPTER_BIN).write_bytes(bytes(data))


@damage("CKD604", "weaver_safetensors/weaver", severity="warning", deep=True)
def projection_of_zeros(path: Path) -> None:
    state = load(path / "projections.pt")
    state["reasoner_to_weaver"]["weight"].data.zero_()
    save(state, path / "projections.pt")
