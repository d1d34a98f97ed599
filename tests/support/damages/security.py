"""CKD9xx: what a hostile file does. Instead of code there is a name of a package that does not exist."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.damages.edits import (
    ADAPTER,
    ADAPTER_BIN,
    INDEX,
    edit_json,
    inject,
    write_zip,
    zip_members,
)
from support.damages.record import Damage, recorder
from support.hostile import foreign

DAMAGES: list[Damage] = []
damage = recorder(DAMAGES)


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
