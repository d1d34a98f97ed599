"""Damage for copies of healthy fixtures: what each rule must find."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ckpt_doctor
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.results import Report
from support.hostile import foreign
from support.places import HEALTHY

ADAPTER = "weaver_lora/adapter_model.safetensors"
ADAPTER_BIN = "weaver_lora/adapter_model.bin"
INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Damage:
    """How to damage a checkpoint so that the rule of this ``code`` reports it.

    ``make`` builds the damaged checkpoint in an empty folder and returns the path to inspect. ``options`` are those of
    ``Policy``. ``severity`` is what the finding must have. ``locked`` names the healthy fixture against whose contract
    the checkpoint is held, and ``values`` says whether that pins values.
    """

    code: str
    name: str
    make: Callable[[Path], Path]
    options: dict[str, Any] = field(default_factory=dict)
    severity: str = "error"
    locked: str | None = None
    values: bool = False

    @property
    def policy(self) -> Policy:
        return Policy(**self.options)

    def inspect(self, folder: Path) -> Report:
        """The report on what ``make`` builds in ``folder``."""
        path = self.make(folder)
        if self.locked is None:
            return ckpt_doctor.inspect(path, self.policy)
        return ckpt_doctor.inspect_against(
            path, ckpt_doctor.lock(HEALTHY / self.locked, values=self.values), self.policy
        )


DAMAGES: dict[str, list[Damage]] = {}


def damage(
    code: str, fixture: str, *, severity: str = "error", **options: Any
) -> Callable[[Callable[[Path], Path | None]], Callable[[Path], Path | None]]:
    """Register a function that damages the copy of a fixture in place, and may return another path to inspect."""

    def register(harm: Callable[[Path], Path | None]) -> Callable[[Path], Path | None]:
        def make(folder: Path) -> Path:
            copy = folder / Path(fixture).name
            shutil.copytree(HEALTHY / fixture, copy)
            return harm(copy) or copy

        DAMAGES.setdefault(code, []).append(Damage(code, harm.__name__, make, options, severity))
        return harm

    return register


# --- bytes of safetensors and torch files ---------------------------------------------------------------------------


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


# --- CKD1xx: files --------------------------------------------------------------------------------------------------


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


# --- CKD204, 208 ----------------------------------------------------------------------------------------------------


@damage("CKD204", "weaver_safetensors/weaver", severity="warning")
def both_formats_agree(path: Path) -> None:
    from safetensors.torch import load_file

    save(load_file(path / ADAPTER), path / ADAPTER_BIN)


@damage("CKD204", "weaver_safetensors/weaver", severity="warning", deep=True)
def both_formats_differ_in_value(path: Path) -> None:
    from safetensors.torch import load_file

    save({name: tensor + 1 for name, tensor in load_file(path / ADAPTER).items()}, path / ADAPTER_BIN)


@damage("CKD208", "weaver_safetensors/weaver")
def temporary_file_and_no_other(path: Path) -> None:
    (path / ADAPTER).rename(path / (ADAPTER + ".tmp"))


@damage("CKD208", "transformers/sharded_safetensors")
def empty_shard(path: Path) -> None:
    (path / "model-00002-of-00003.safetensors").write_bytes(b"")


@damage("CKD208", "transformers/sharded_safetensors")
def shard_still_incomplete(path: Path) -> None:
    shard = path / "model-00003-of-00003.safetensors"
    shard.rename(path / (shard.name + ".incomplete"))


@damage("CKD208", "transformers/single_safetensors")
def staging_folder(path: Path) -> Path:
    return path.rename(path.parent / "tmp-checkpoint-500")


def two_sets(path: Path, change: Callable[[Any], Any]) -> None:
    """Put what ``change`` makes of all shards into one file beside them."""
    from safetensors.torch import load_file, save_file

    tensors = {}
    for shard in sorted(path.glob("model-*.safetensors")):
        tensors.update(load_file(shard))
    save_file({name: change(tensor) for name, tensor in tensors.items()}, path / "model.safetensors", {"format": "pt"})


@damage("CKD209", "transformers/sharded_safetensors", deep=True)
def single_file_of_an_earlier_save(path: Path) -> None:
    two_sets(path, lambda tensor: tensor + 1)


@damage("CKD209", "transformers/sharded_safetensors")
def single_file_of_another_shape(path: Path) -> None:
    two_sets(path, lambda tensor: tensor[:8].clone())


@damage("CKD209", "transformers/sharded_safetensors", severity="note", deep=True)
def single_file_and_equal_shards(path: Path) -> None:
    two_sets(path, lambda tensor: tensor)


@damage("CKD209", "transformers/sharded_safetensors", severity="note")
def single_file_and_shards_not_compared(path: Path) -> None:
    two_sets(path, lambda tensor: tensor + 1)


@damage("CKD209", "transformers/sharded_safetensors", severity="warning")
def single_file_of_another_dtype(path: Path) -> None:
    two_sets(path, lambda tensor: tensor.half())


# --- CKD4xx: aliasing -----------------------------------------------------------------------------------------------


@damage("CKD401", "weaver_bin/weaver", severity="warning", expect="bin")
def two_names_for_one_storage(path: Path) -> None:
    tensors = load(path / ADAPTER_BIN)
    first, second = [name for name in tensors if "lora_A" in name][:2]
    tensors[second] = tensors[first]
    save(tensors, path / ADAPTER_BIN)


@damage("CKD402", "weaver_bin/weaver", severity="warning", expect="bin")
def view_of_a_large_tensor(path: Path) -> None:
    import torch

    state = load(path / "projections.pt")
    latents = state["prompt_query_latents"].detach()
    large = torch.cat([latents] * 200)
    state["prompt_query_latents"] = large[: len(latents)]
    save(state, path / "projections.pt")


@damage("CKD403", "weaver_bin/weaver", severity="note", expect="bin")
def transposed(path: Path) -> None:
    state = load(path / "projections.pt")
    weight = state["reasoner_to_weaver"]["weight"]
    state["reasoner_to_weaver"]["weight"] = weight.detach().t().contiguous().t()
    save(state, path / "projections.pt")


# --- CKD6xx: values -------------------------------------------------------------------------------------------------


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


# --- CKD7xx: shards -------------------------------------------------------------------------------------------------


@damage("CKD701", "transformers/sharded_safetensors")
def shard_removed(path: Path) -> None:
    (path / "model-00002-of-00003.safetensors").unlink()


@damage("CKD701", "transformers/sharded_bin")
def bin_shard_removed(path: Path) -> None:
    (path / "pytorch_model-00003-of-00003.bin").unlink()


@damage("CKD701", "transformers/sharded_safetensors")
def shard_and_index_removed(path: Path) -> None:
    (path / "model-00001-of-00003.safetensors").unlink()
    (path / INDEX).unlink()


@damage("CKD702", "transformers/sharded_safetensors")
def listed_in_the_wrong_shard(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        mapping = index["weight_map"]
        name = next(iter(mapping))
        mapping[name] = next(shard for shard in sorted(set(mapping.values())) if shard != mapping[name])

    edit_json(path / INDEX, change)


@damage("CKD702", "transformers/sharded_safetensors")
def listed_and_nowhere(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        index["weight_map"]["model.layers.9.mlp.up_proj.weight"] = "model-00001-of-00003.safetensors"
        index["metadata"]["total_size"] += 4096

    edit_json(path / INDEX, change)


@damage("CKD703", "transformers/sharded_safetensors", severity="warning")
def key_not_listed(path: Path) -> None:
    edit_json(path / INDEX, lambda index: index["weight_map"].popitem())


@damage("CKD704", "transformers/sharded_safetensors")
def one_name_in_two_shards(path: Path) -> None:
    _repeat_a_tensor(path, lambda data: data[::-1])


@damage("CKD704", "transformers/sharded_safetensors", deep=True)
def equal_copies_in_two_shards(path: Path) -> None:
    _repeat_a_tensor(path, lambda data: data)


def _repeat_a_tensor(path: Path, value: Callable[[bytes], bytes]) -> None:
    source, body = header_of((path / "model-00001-of-00003.safetensors").read_bytes())
    name, entry = next((name, entry) for name, entry in source.items() if name != "__metadata__")
    start, end = entry["data_offsets"]
    target = path / "model-00002-of-00003.safetensors"
    header, other = header_of(target.read_bytes())
    header[name] = {**entry, "data_offsets": [len(other), len(other) + end - start]}
    target.write_bytes(safetensors_bytes(header, other + value(body[start:end])))


@damage("CKD705", "transformers/sharded_safetensors", severity="warning")
def total_size_wrong(path: Path) -> None:
    edit_json(path / INDEX, lambda index: index["metadata"].update(total_size=12345))


@damage("CKD705", "transformers/sharded_safetensors", severity="warning")
def total_size_absent(path: Path) -> None:
    edit_json(path / INDEX, lambda index: index.pop("metadata"))


@damage("CKD706", "transformers/sharded_safetensors")
def index_of_five_shards(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        mapping = index["weight_map"]
        for number, name in enumerate(mapping):
            mapping[name] = f"model-{number % 5 + 1:05d}-of-00005.safetensors"

    edit_json(path / INDEX, change)


@damage("CKD706", "transformers/single_safetensors", severity="warning")
def index_beside_a_single_file(path: Path) -> None:
    header, _ = header_of((path / "model.safetensors").read_bytes())
    names = [name for name in header if name != "__metadata__"]
    mapping = {name: f"model-{number % 2 + 1:05d}-of-00002.safetensors" for number, name in enumerate(names)}
    (path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": mapping}))


@damage("CKD707", "transformers/sharded_safetensors")
def index_cut(path: Path) -> None:
    (path / INDEX).write_text((path / INDEX).read_text()[:200])


@damage("CKD707", "transformers/sharded_safetensors")
def index_without_map(path: Path) -> None:
    (path / INDEX).write_text('{"metadata": {"total_size": 1}}')


# --- CKD9xx: security. Instead of code there is a name of a package that does not exist. -----------------------------


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


@damage("CKD901", "weaver_bin/weaver", expect="bin")
def pickle_calls_a_function(path: Path) -> None:
    inject(path / ADAPTER_BIN, foreign() + b"0")


@damage("CKD902", "weaver_bin/weaver", expect="bin")
def member_twice(path: Path) -> None:
    import warnings

    members = list(zip_members(path / ADAPTER_BIN).items())
    pickle = next(item for item in members if item[0].endswith("data.pkl"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        write_zip(path / ADAPTER_BIN, [*members, pickle])


@damage("CKD902", "weaver_bin/weaver", expect="bin")
def data_after_the_archive(path: Path) -> None:
    with (path / ADAPTER_BIN).open("ab") as file:
        file.write(b"trailing" * 10)


@damage("CKD903", "weaver_bin/weaver", expect="bin")
def memo_index_beyond_the_pickle(path: Path) -> None:
    inject(path / ADAPTER_BIN, b"]r\x00\x00\x01\x000")


@damage("CKD904", "weaver_bin/weaver", expect="bin")
def tar_archive(path: Path) -> None:
    import io
    import tarfile

    data = (path / ADAPTER_BIN).read_bytes()
    with tarfile.open(path / ADAPTER_BIN, "w") as archive:
        member = tarfile.TarInfo("storages")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))


@damage("CKD905", "weaver_bin/weaver", expect="bin")
def member_outside(path: Path) -> None:
    members = list(zip_members(path / ADAPTER_BIN).items())
    write_zip(path / ADAPTER_BIN, [*members, ("archive/../outside", b"x")])


@damage("CKD905", "transformers/sharded_safetensors")
def shard_outside(path: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        index["weight_map"]["lm_head.weight"] = "../outside.safetensors"

    edit_json(path / INDEX, change)


@damage("CKD905", "weaver_safetensors/weaver", severity="note")
def link_outside(path: Path) -> None:
    (path / ADAPTER).replace(path.parent / "blob")
    (path / ADAPTER).symlink_to("../../blob")
