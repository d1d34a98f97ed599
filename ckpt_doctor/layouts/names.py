"""File names that tell what a file is for."""

from __future__ import annotations

import re
from collections.abc import Iterable

WEIGHT_ENDINGS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
"""What the files of the checkpoints that are read here end in; the content is judged by itself."""

# What transformers' Trainer, accelerate, DeepSpeed and FSDP save to resume a training run, and no evaluation loads.
_TRAINING_STATE = re.compile(
    r"(optimizer|scheduler|sampler|dl_state_dict)(_\d+)?\.(pt|bin)"
    r"|(scaler|rng_state(_\d+)?|random_states_\d+)\.(pt|pth|pkl)"
    r"|training_args\.bin"
    r"|(custom_checkpoint_\d+)\.pkl"
    r"|.*(optim_states|model_states)\.pt"
)


def join(folder: str, name: str) -> str:
    """``folder/name``, or the name alone at the root.

    >>> join("", "a"), join("x", "a")
    ('a', 'x/a')
    """
    return f"{folder}/{name}" if folder else name


def is_training_state(name: str) -> bool:
    """True if a file of this name holds the state of a training run rather than weights to evaluate."""
    return _TRAINING_STATE.fullmatch(name) is not None


_PICKLE_ENDINGS = (".pkl", ".pickle", ".joblib", ".dill", ".th", ".pth.tar")
_TEXT_ENDINGS = (".json", ".jsonl", ".txt", ".md", ".py", ".yaml", ".yml", ".toml", ".csv", ".log", ".html", ".jinja")

# Folders of a Trainer's checkpoint that hold the state of DeepSpeed, FSDP and sharded optimizers.
_STATE_FOLDER = re.compile(r"global_step\d+|pytorch_model_fsdp_\d+|optimizer_\d+")


NAMED_LIKE_WEIGHTS = (*WEIGHT_ENDINGS, ".pth.tar", ".pt.tar", ".ckpt.tar", ".th", ".checkpoint", ".jit", ".torchscript")
"""What else files of torch end in: the content was never a tar in any that was seen."""

NEVER_WEIGHTS = frozenset(
    (
        *_TEXT_ENDINGS,
        *(".pyc", ".pyi", ".rst", ".ini", ".cfg", ".lock", ".xml", ".tsv", ".ipynb", ".css", ".js", ".ts", ".map"),
        *(".c", ".cc", ".cpp", ".h", ".hpp", ".cu", ".cuh", ".so", ".o", ".a", ".java", ".rs", ".go", ".tex", ".sh"),
        *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".ico", ".svg", ".pdf", ".parquet"),
        *(".wav", ".mp3", ".flac", ".ogg", ".m4a", ".mp4", ".avi", ".mov", ".mkv", ".webm", ".whl", ".docx", ".xlsx"),
    )
)
"""Endings of texts, sources, pictures and sounds: nobody keeps weights under them, and a tree holds very many."""

_TEMPORARY = re.compile(
    r".*\.(incomplete|tmp|temp|part|partial|filepart|crdownload|download|aria2)([._-].*)?|tmp[-_.].*"
)


def is_temporary(name: str) -> bool:
    """True if a saver, copier or downloader gives such a name to a file until it is whole."""
    return _TEMPORARY.fullmatch(name) is not None


def is_named_like_weights(path: str) -> bool:
    """True if the name says that torch or safetensors wrote the file."""
    return path.lower().endswith(NAMED_LIKE_WEIGHTS)


_WITH_TENSORS = re.compile(r"optimizer(_\d+)?\.(pt|bin)|.*(optim_states|model_states)\.pt")


def state_with_tensors(name: str) -> bool:
    """True if a file of training state holds tensors as large as the weights."""
    return _WITH_TENSORS.fullmatch(name) is not None


def has_weight_ending(path: str) -> bool:
    """True if a file of this name usually holds tensors."""
    return path.lower().endswith(WEIGHT_ENDINGS)


def may_hide_a_pickle(path: str) -> bool:
    """True if a file in a checkpoint's folder that is no weight file by its name should be looked into all the same.

    Texts are left out, and so are the files of torch's distributed checkpoints, which are no archives of one piece.
    """
    name = path.rpartition("/")[2].lower()
    return not name.startswith(".") and not is_text_name(name) and not name.endswith(".distcp")


def is_text_name(path: str) -> bool:
    """True if the name says that a text is inside."""
    return path.lower().endswith(_TEXT_ENDINGS)


def is_pickle_name(path: str) -> bool:
    """True if the name says that a pickle is inside."""
    return path.lower().endswith(_PICKLE_ENDINGS)


def state_folders(names: Iterable[str]) -> tuple[str, ...]:
    """Those of the folder names under which training frameworks keep their own state."""
    return tuple(name for name in names if _STATE_FOLDER.fullmatch(name))
