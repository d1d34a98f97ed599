"""Searching by content, and what is named because it was not judged."""

from __future__ import annotations

import json
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from ckpt_doctor import inspect
from ckpt_doctor.cli.inspect import command
from ckpt_doctor.gate import decide
from ckpt_doctor.layouts import find, loose, survey

HEALTHY = Path(__file__).parents[2] / "fixtures" / "healthy"
MODEL = HEALTHY / "transformers" / "single_safetensors"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)))


def weights(path: Path, **options: object) -> Path:
    torch.save({"w": torch.arange(6.0), "b": torch.ones(3)}, path, **options)  # type: ignore[arg-type]
    return path


def message(number: int, body: bytes) -> bytes:
    """A field of a protobuf that holds another message; shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(body)]) + body


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"\0" * 40)


def packed(path: Path, mode: str) -> None:
    inside = path.parent / "weights.th"
    weights(inside)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        archive.add(inside, "weights.th")
    inside.unlink()


ONNX = b"\x08\x0a" + message(2, b"maker") + message(7, message(1, b"node")) + message(8, b"\x10\x15")
PIECES = message(1, message(1, b"<unk>") + b"\x15\0\0\0\0\x18\x02") * 3
MINDSPORE = message(1, message(1, b"fc.weight") + message(2, message(2, b"Float32"))) * 3
TABLE = b"\0" * 60 + b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
CTRANSLATE2 = struct.pack("<IH", 6, 16) + b"TransformerSpec\0" + bytes(50)

KINDS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "model.onnx": ("ONNX model", lambda path: path.write_bytes(ONNX)),
    "no_ending": ("ONNX model", lambda path: path.write_bytes(ONNX)),
    "tf_model.h5": ("HDF5 file (Keras?)", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90))),
    "m.tflite": ("TensorFlow Lite model", lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(90))),
    "m.gguf": ("GGUF model", lambda path: path.write_bytes(b"GGUF\3\0\0\0" + bytes(90))),
    "a.npz": ("NumPy archive", lambda path: zipped(path, "w.npy", "b.npy")),
    "a.npy": ("NumPy array (.npy)", lambda path: path.write_bytes(b"\x93NUMPY\1\0v\0{'descr': '<f4'}" + bytes(90))),
    "m.keras": ("Keras model", lambda path: zipped(path, "metadata.json", "config.json", "model.weights.h5")),
    "m.pt2": ("torch.export program", lambda path: zipped(path, "m/data/weights/weight_0", "m/archive_format")),
    "ppo.zip": ("zip archive of weight files", lambda path: zipped(path, "data", "policy.pth")),
    "model.bin": ("CTranslate2 model", lambda path: path.write_bytes(CTRANSLATE2)),
    "ms.ckpt": ("MindSpore checkpoint", lambda path: path.write_bytes(MINDSPORE)),
    "model.ckpt-5.index": ("TensorFlow checkpoint", lambda path: path.write_bytes(TABLE)),
    "flax_model.msgpack": ("msgpack file (Flax)", lambda path: path.write_bytes(b"\x81\xa6params\x81\xa1k\xc4\x01\0")),
    "n.param": ("ncnn model", lambda path: path.write_bytes(b"7767517\n2 2\nInput x 0 1 x\n")),
    "__0_0.distcp": ("DCP data file (torch.distributed.checkpoint)", weights),
    "model.tar.gz": ("gzip data", lambda path: packed(path, "w:gz")),
    "model.tar": ("tar archive", lambda path: packed(path, "w")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_are_not_judged_and_never_damaged(name: str, tmp_path: Path) -> None:
    kind, make = KINDS[name]
    alone = tmp_path / "alone"
    alone.mkdir()
    make(alone / name)
    for path in (alone / name, alone, tmp_path):
        for more in ((), ("--deep",)):
            result = run(path, *more)
            assert result.exit_code == 2, result.output
            assert "CKD113" in result.output
            assert not any(word in result.output for word in ("error", "remove", "do not load", "healthy"))
    (item,) = json.loads(run(alone / name, "--output-format", "json").stdout)["not_judged"]
    assert (item["path"], item["kind"]) == ((alone / name).as_posix(), kind)
    assert item["bytes"] == (alone / name).stat().st_size


@pytest.mark.parametrize("name", KINDS)
def test_other_kinds_beside_a_healthy_model_are_a_note(name: str, tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL, tmp_path / "model"))
    KINDS[name][1](model / name)
    report = inspect(model)
    assert [(finding.code, finding.severity.value) for finding in report.findings] == [("CKD113", "note")]
    assert report.healthy
    assert run(model).exit_code == 0
    assert decide(model).passed


def test_the_gate_stays_shut_where_nothing_was_judged(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF\3\0\0\0" + bytes(90))
    verdict = decide(tmp_path / "m.gguf")
    assert not verdict.passed
    assert verdict.error is not None


def test_a_kind_that_is_opened_by_name_is_an_impostor(tmp_path: Path) -> None:
    model = Path(shutil.copytree(MODEL, tmp_path / "model"))
    (model / "model.safetensors").write_bytes(b"GGUF\3\0\0\0" + bytes(90))
    (finding,) = [finding for finding in inspect(model).findings if finding.code == "CKD103"]
    assert finding.severity.value == "error"
    assert "remove" not in finding.message


@pytest.mark.parametrize(
    "name", ["best.pth.tar", "best.tar", "best.th", "best.checkpoint", "best.jit", "best", "v1.2.0"]
)
@pytest.mark.parametrize("legacy", [False, True])
def test_weights_are_found_whatever_they_are_called(name: str, legacy: bool, tmp_path: Path) -> None:
    weights(tmp_path / "good.pth")
    weights(tmp_path / name, _use_new_zipfile_serialization=not legacy)
    assert [Path(found.path).name for found in find(tmp_path)] == sorted(["good.pth", name])
    assert run(tmp_path).exit_code == 0
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) * 2 // 3])
    assert run(tmp_path).exit_code == 1
    assert not decide(tmp_path).passed


def test_cut_safetensors_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    weights(tmp_path / "good.pth")
    data = (MODEL / "model.safetensors").read_bytes()
    (tmp_path / "weights").write_bytes(data[:-100])
    assert run(tmp_path).exit_code == 1


def test_what_is_no_weights_is_silent(tmp_path: Path) -> None:
    weights(tmp_path / "good.pth")
    zipped(tmp_path / "docs.zip", "a.txt", "b/c.png")
    zipped(tmp_path / "x.jar", "META-INF/MANIFEST.MF")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "docs.zip").read_bytes()[:60])
    (tmp_path / "settings.pkl").write_bytes(b"\x80\x04}\x94\x8c\x01a\x94K\x01s.")
    (tmp_path / "tokenizer.model").write_bytes(PIECES)
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (tmp_path / "._good.pth").write_bytes(b"\0\5\x16\7" + bytes(50))
    (tmp_path / "notes").write_text("a text")
    result = run(tmp_path)
    assert (result.exit_code, "CKD" in result.output) == (0, False), result.output
    report = inspect(tmp_path)
    assert (len(report.diagnoses), report.not_judged) == (1, ())


def test_what_is_left_out_is_named(tmp_path: Path) -> None:
    weights(tmp_path / "good.pth")
    elsewhere = tmp_path / "real"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    for folder in (".git", "venv", "node_modules", ".ckpt-doctor"):
        (tmp_path / folder).mkdir()
        weights(tmp_path / folder / "w.pt")
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "venv" / "pyvenv.cfg").write_text("home = /usr\n")
    found, unread = survey(tmp_path)
    assert [Path(item.path).name for item in found] == ["good.pth"]
    assert [(Path(item.path).name, item.kind) for item in unread] == [("link", "link to a folder")]
    (tmp_path / ".git" / "lfs" / "objects").mkdir(parents=True)
    assert ".git" in {Path(item.path).name for item in survey(tmp_path).unread}


def test_many_files_of_a_kind_are_one_entry(tmp_path: Path) -> None:
    weights(tmp_path / "good.pth")
    (tmp_path / "data").mkdir()
    for number in range(20):
        (tmp_path / "data" / f"{number}.npy").write_bytes(b"\x93NUMPY\1\0" + bytes(20))
    (item,) = inspect(tmp_path).not_judged
    assert (Path(item.path).name, item.files, item.nbytes) == ("data", 20, 20 * 28)


def test_of_very_many_files_of_one_ending_the_rest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loose.Looks.__init__, "__defaults__", (50,))
    for number in range(200):
        (tmp_path / f"{number:03}.dat").write_bytes(b"a line\n")
    weights(tmp_path / "model_7.dat")
    report = inspect(tmp_path)
    assert [Path(checkpoint.path).name for checkpoint in report.checkpoints] == ["model_7.dat"]
    (item,) = report.not_judged
    assert 150 < item.files < 200


def test_a_hub_cache_is_read_through_its_links(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, file in enumerate(sorted(MODEL.iterdir())):
        shutil.copy(file, repository / "blobs" / f"{number:040x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040x}")
    report = inspect(tmp_path)
    assert [checkpoint.path for checkpoint in report.checkpoints] == [str(snapshot)]
    assert (report.findings, report.not_judged) == ((), ())
    (repository / "blobs" / "ff.incomplete").write_bytes(b"half")
    (item,) = inspect(tmp_path).not_judged
    assert "did not complete" in item.reason


def test_an_mlx_adapter_is_not_judged_as_one_of_peft(tmp_path: Path) -> None:
    shutil.copy(MODEL / "model.safetensors", tmp_path / "adapters.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"fine_tune_type": "lora", "num_layers": 2}')
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "CKD206" not in result.output
    data = (tmp_path / "adapters.safetensors").read_bytes()
    (tmp_path / "adapters.safetensors").write_bytes(data[:-9])
    assert run(tmp_path).exit_code == 1
    (tmp_path / "adapters.safetensors").unlink()
    assert run(tmp_path).exit_code == 2


def test_training_state_alone_is_named(tmp_path: Path) -> None:
    weights(tmp_path / "mp_rank_00_model_states.pt")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "training state" in result.output.lower()
    assert "no other file that holds tensors" not in result.output


def test_a_pipeline_whose_component_is_gone_is_named(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "unet")
    (tmp_path / "model_index.json").write_text('{"_class_name": "P", "unet": ["d", "U"], "vae": ["d", "A"]}')
    (item,) = inspect(tmp_path).not_judged
    assert Path(item.path).name == "vae"


def test_nested_adapters_are_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckpt_doctor.layouts import nesting

    for number in range(5):
        shutil.copytree(HEALTHY / "peft" / "lora", tmp_path / f"a{number}")
    calls = []
    monkeypatch.setattr(nesting, "folder_of_adapter", lambda folder: calls.append(folder))
    assert len(inspect(tmp_path).diagnoses) == 5
    assert calls == []


@pytest.mark.parametrize("name", ["model.gguf", "model.onnx"])
def test_every_command_ends_alike_for_a_kind_that_is_not_read(tmp_path: Path, name: str) -> None:
    from ckpt_doctor.cli.root import cli

    make = {"model.gguf": b"GGUF" + bytes(60), "model.onnx": ONNX}
    (tmp_path / name).write_bytes(make[name])
    for path in (tmp_path, tmp_path / name):
        for words in (["inspect"], ["ls"], ["fix"], ["fix", "--dry-run"], ["lock"], ["convert", "--to", "bin"]):
            result = CliRunner().invoke(cli, [*words, str(path)])
            assert (words, result.exit_code) == (words, 2), result.output
