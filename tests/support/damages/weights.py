"""CKD1xx: files that are cut off, empty, under another name, or not what they seem."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from support.damages.edits import (
    ADAPTER,
    ADAPTER_BIN,
    INDEX,
    edit_header,
    edit_zip,
    header_of,
    load,
    resave,
    safetensors_bytes,
    save,
)
from support.damages.record import Damage, recorder

DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)


@damage("CKD101", "weaver_safetensors/weaver")
def lfs_pointer(path: Path) -> None:
    (path / ADAPTER).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0d' * 32}\nsize 18432\n")


@damage("CKD102", "weaver_safetensors/weaver")
def no_bytes(path: Path) -> None:
    (path / "projections.pt").write_bytes(b"")


@damage("CKD102", "weaver_safetensors/weaver")
def only_zero_bytes(path: Path) -> None:
    (path / ADAPTER).write_bytes(bytes((path / ADAPTER).stat().st_size))


@damage("CKD103", "weaver_safetensors/weaver")
def html_page(path: Path) -> None:
    (path / ADAPTER).write_text("<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>401</body></html>\n")


@damage("CKD103", "transformers/single_safetensors")
def json_error(path: Path) -> None:
    (path / "model.safetensors").write_text('{"error": "Entry not found"}')


@damage("CKD104", "weaver_safetensors/weaver")
def cut_at_the_end(path: Path) -> None:
    data = (path / ADAPTER).read_bytes()
    (path / ADAPTER).write_bytes(data[:-100])


@damage("CKD104", "weaver_safetensors/weaver")
def bytes_appended(path: Path) -> None:
    with (path / ADAPTER).open("ab") as file:
        file.write(b"more")


@damage("CKD104", "weaver_safetensors/weaver")
def cut_inside_the_header(path: Path) -> None:
    data = (path / ADAPTER).read_bytes()
    (path / ADAPTER).write_bytes(data[:60])


@damage("CKD105", "weaver_safetensors/weaver")
def unknown_dtype(path: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        next(entry for name, entry in header.items() if name != "__metadata__")["dtype"] = "F33"

    edit_header(path / ADAPTER, change)


@damage("CKD105", "weaver_safetensors/weaver")
def overlapping_ranges(path: Path) -> None:
    def change(header: dict[str, Any]) -> None:
        entries = [entry for name, entry in header.items() if name != "__metadata__"]
        same = next(entry for entry in entries[1:] if entry["shape"] == entries[0]["shape"])
        same["data_offsets"] = entries[0]["data_offsets"]

    edit_header(path / ADAPTER, change)


@damage("CKD105", "weaver_safetensors/weaver")
def header_is_no_json(path: Path) -> None:
    _, body = header_of((path / ADAPTER).read_bytes())
    (path / ADAPTER).write_bytes(safetensors_bytes('{"a": ', body))


@damage("CKD106", "weaver_bin/weaver", expect="bin")
def zip_without_directory(path: Path) -> None:
    data = (path / ADAPTER_BIN).read_bytes()
    (path / ADAPTER_BIN).write_bytes(data[: len(data) * 2 // 3])


@damage("CKD106", "weaver_bin/weaver", expect="bin")
def legacy_pickle_cut(path: Path) -> None:
    save(load(path / ADAPTER_BIN), path / ADAPTER_BIN, _use_new_zipfile_serialization=False)
    data = (path / ADAPTER_BIN).read_bytes()
    (path / ADAPTER_BIN).write_bytes(data[:300])


@damage("CKD107", "weaver_bin/weaver", expect="bin")
def record_absent(path: Path) -> None:
    edit_zip(path / ADAPTER_BIN, lambda name, data: None if name.endswith("data/3") else data)


@damage("CKD107", "weaver_bin/weaver", expect="bin")
def record_too_short(path: Path) -> None:
    edit_zip(path / ADAPTER_BIN, lambda name, data: data[:-8] if name.endswith("data/0") else data)


@damage("CKD107", "weaver_bin/weaver", expect="bin")
def legacy_storage_cut(path: Path) -> None:
    save(load(path / ADAPTER_BIN), path / ADAPTER_BIN, _use_new_zipfile_serialization=False)
    data = (path / ADAPTER_BIN).read_bytes()
    (path / ADAPTER_BIN).write_bytes(data[:-16])


@damage("CKD108", "weaver_bin/weaver")
def bin_renamed(path: Path) -> None:
    (path / ADAPTER_BIN).rename(path / ADAPTER)


@damage("CKD108", "transformers/single_safetensors")
def safetensors_renamed(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


@damage("CKD108", "transformers/single_safetensors", severity="warning")
def lone_file_renamed(path: Path) -> Path:
    return (path / "model.safetensors").rename(path / "weights.pt")


@damage("CKD109", "transformers/single_safetensors", severity="note")
def without_metadata(path: Path) -> None:
    edit_header(path / "model.safetensors", lambda header: header.pop("__metadata__"))


@damage("CKD110", "weaver_bin/weaver", severity="warning", expect="bin")
def legacy_format(path: Path) -> None:
    save(load(path / ADAPTER_BIN), path / ADAPTER_BIN, _use_new_zipfile_serialization=False)


@damage("CKD112", "weaver_safetensors/weaver", ignore=("CKD112",), fail_on="never")
def link_to_nowhere(path: Path) -> None:
    (path / ADAPTER).unlink()
    (path / ADAPTER).symlink_to("/nonexistent/adapter_model.safetensors")


@damage("CKD112", "weaver_safetensors/weaver")
def fifo_in_place_of_weights(path: Path) -> None:
    (path / "projections.pt").unlink()
    os.mkfifo(path / "projections.pt")


@damage("CKD112", "transformers/sharded_safetensors")
def index_link_loops(path: Path) -> None:
    (path / INDEX).unlink()
    (path / INDEX).symlink_to(INDEX)


@damage("CKD113", "peft/lora", severity="note")
def weights_of_another_kind_beside_an_adapter(path: Path) -> None:
    (path / "model.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")


@damage("CKD115", "weaver_bin/weaver", severity="warning")
def arguments_in_the_place_of_weights(path: Path) -> Path:
    import torch

    torch.save({"learning_rate": 0.1}, path / "projections.pt")
    return path / "projections.pt"


@damage("CKD114", "weaver_bin/weaver", expect="bin")
def date_among_the_weights(path: Path) -> None:
    import datetime

    resave(path / ADAPTER_BIN, lambda state: {**state, "saved": datetime.date(2026, 1, 1)})


@damage("CKD114", "weaver_bin/weaver", expect="bin")
def pickle_protocol_4(path: Path) -> None:
    resave(path / ADAPTER_BIN, dict, pickle_protocol=4)


@damage("CKD116", "weaver_bin/weaver", expect="bin")
def saved_while_a_tensor_was_offloaded(path: Path) -> None:
    resave(path / ADAPTER_BIN, lambda state: {**state, next(iter(state)): next(iter(state.values())).to("meta")})
