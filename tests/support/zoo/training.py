"""What training leaves behind: the folders of transformers' Trainer, accelerate, Lightning and plain loops."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import transformers

from .adapters import lora
from .common import Animal, quiet
from .models import MODELS


def _run_trainer(directory: Path, model: torch.nn.Module, **arguments: object) -> Path:
    examples = [{"input_ids": [i, i + 1, i + 2], "labels": [i, i + 1, i + 2]} for i in range(4)]
    settings = transformers.TrainingArguments(
        output_dir=str(directory),
        max_steps=2,
        save_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **arguments,
    )
    transformers.Trainer(model=model, args=settings, train_dataset=examples).train()
    return directory


def _trainer(directory: Path) -> Path:
    return _run_trainer(directory, MODELS["qwen2"]())


def _trainer_lora(directory: Path) -> Path:
    model = lora()
    return _run_trainer(directory, model)


def _trainer_weights_only(directory: Path) -> Path:
    return _run_trainer(directory, MODELS["qwen2-tied"](), save_only_model=True) / "checkpoint-2"


def _trainer_final_model(directory: Path) -> Path:
    """A final model, ``training_args.bin`` beside it, and the checkpoints below."""
    _run_trainer(directory, MODELS["qwen2"]())
    trainer_files = directory / "checkpoint-2"
    for name in ("model.safetensors", "config.json", "generation_config.json", "training_args.bin"):
        (directory / name).write_bytes((trainer_files / name).read_bytes())
    return directory


def _accelerate_state(directory: Path) -> Path:
    import accelerate

    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 2))
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _constant)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    model(torch.randn(4, 4)).sum().backward()
    optimizer.step()
    accelerator.save_state(str(directory / "state"))
    return directory / "state"


def _constant(_: int) -> float:
    return 1.0


def _network() -> torch.nn.Module:
    return torch.nn.Sequential(
        OrderedDict(encoder=torch.nn.Linear(8, 16), norm=torch.nn.BatchNorm1d(16), head=torch.nn.Linear(16, 2))
    )


def _trained() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = _network()
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 8)).sum().backward()
    optimizer.step()
    return model, optimizer


def _lightning(directory: Path) -> Path:
    model, optimizer = _trained()
    torch.save(
        {
            "epoch": 3,
            "global_step": 120,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": OrderedDict((f"net.{name}", value) for name, value in model.state_dict().items()),
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 4, "completed": 3}}}},
            "callbacks": {
                "ModelCheckpoint{'monitor': 'loss', 'mode': 'min'}": {
                    "monitor": "loss",
                    "best_model_score": torch.tensor(0.25),
                    "best_model_path": "somewhere/best.ckpt",
                    "kth_value": torch.tensor(float("inf")),
                    "best_k_models": {},
                },
                "EarlyStopping": {"wait_count": 0, "best_score": torch.tensor(float("inf")), "patience": 3},
            },
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 1e-3, "layers": [8, 16], "name": "net", "dropout": None},
        },
        directory / "epoch=3-step=120.ckpt",
    )
    return directory / "epoch=3-step=120.ckpt"


def _plain_loop(directory: Path) -> Path:
    model, optimizer = _trained()
    state = {"epoch": 7, "model": model.state_dict(), "optimizer": optimizer.state_dict(), "best": 0.5, "losses": []}
    torch.save(state, directory / "last.pt")
    return directory / "last.pt"


def _optimizer_only(directory: Path) -> Path:
    torch.save(_trained()[1].state_dict(), directory / "optimizer.pt")
    return directory / "optimizer.pt"


def _random_states(directory: Path) -> Path:
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    torch.save(state, directory / "rng_state.pth")
    return directory / "rng_state.pth"


def _animals() -> Iterator[tuple[str, Animal]]:
    yield "trainer", _trainer
    yield "trainer-lora", _trainer_lora
    yield "trainer-weights-only", _trainer_weights_only
    yield "trainer-final-model", _trainer_final_model
    yield "accelerate-state", _accelerate_state
    yield "lightning", _lightning
    yield "plain-loop", _plain_loop
    yield "optimizer-only", _optimizer_only
    yield "random-states", _random_states


ANIMALS: dict[str, Animal] = {name: quiet(animal) for name, animal in _animals()}
