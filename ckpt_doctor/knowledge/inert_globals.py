"""Names that real training files contain beyond torch's own list, and that no loader can be harmed by.

Each was judged for what a pickle may do with it, and it is allowed that use only: an enum is called with its value, an
object is made without its constructor and given its attributes, a callable is called, a mapping also takes items.
Names are exact, written as in a pickle: module, space, qualified name.
"""

from __future__ import annotations


def _names(module: str, names: str) -> frozenset[str]:
    return frozenset(f"{module} {name}" for name in names.split())


ENUMS = frozenset().union(
    _names("transformers.training_args", "OptimizerNames ParallelMode"),
    _names(
        "transformers.trainer_utils",
        "IntervalStrategy SaveStrategy HubStrategy SchedulerType EvaluationStrategy FSDPOption HPSearchBackend",
    ),
    _names("transformers.debug_utils", "DebugOption"),
    _names("transformers.utils.quantization_config", "QuantizationMethod"),
    _names(
        "accelerate.utils.dataclasses",
        "DistributedType SageMakerDistributedType PrecisionType DynamoBackend RNGType LoggerType ComputeEnvironment "
        "FP8BackendType DDPCommunicationHookType CustomDtype",
    ),
    _names("accelerate.state", "DistributedType"),
    _names("peft.utils.peft_types", "PeftType TaskType"),
    _names("peft.utils.config", "PeftType TaskType"),
    _names("trl.trainer.dpo_config", "FDivergenceType"),
    _names("sentence_transformers.training_args", "BatchSamplers MultiDatasetBatchSamplers"),
    _names("deepspeed.runtime.zero.config", "ZeroStageEnum"),
    _names("deepspeed.runtime.zero.offload_config", "OffloadDeviceEnum"),
    _names("torch.distributed.fsdp.api", "ShardingStrategy BackwardPrefetch StateDictType"),
    _names("pytorch_lightning.trainer.states", "TrainerFn RunningStage TrainerStatus"),
    _names("lightning.pytorch.trainer.states", "TrainerFn RunningStage TrainerStatus"),
    _names("uuid", "SafeUUID"),
)
"""Called with one plain value, or looked up in their class by ``getattr``."""

OBJECTS = frozenset().union(
    _names("transformers.training_args", "TrainingArguments"),
    _names("transformers.training_args_seq2seq", "Seq2SeqTrainingArguments"),
    _names("transformers.training_args_sm", "SageMakerTrainingArguments"),
    _names("transformers.trainer_pt_utils", "AcceleratorConfig"),
    _names("transformers.trainer_callback", "TrainerState TrainerControl"),
    _names("transformers.integrations.deepspeed", "HfDeepSpeedConfig HfTrainerDeepSpeedConfig"),
    _names("transformers.deepspeed", "HfDeepSpeedConfig HfTrainerDeepSpeedConfig"),
    _names("transformers.generation.configuration_utils", "GenerationConfig"),
    _names("accelerate.state", "PartialState AcceleratorState"),
    _names("accelerate.parallelism_config", "ParallelismConfig"),
    _names(
        "accelerate.utils.dataclasses",
        "DataLoaderConfiguration DeepSpeedPlugin FullyShardedDataParallelPlugin GradientAccumulationPlugin "
        "ProjectConfiguration TorchDynamoPlugin TorchTensorParallelPlugin MegatronLMPlugin AutocastKwargs "
        "DistributedDataParallelKwargs GradScalerKwargs InitProcessGroupKwargs FP8RecipeKwargs AORecipeKwargs "
        "TERecipeKwargs MSAMPRecipeKwargs ProfileKwargs TorchContextParallelConfig TorchTensorParallelConfig",
    ),
    _names("trl.trainer.sft_config", "SFTConfig"),
    _names("trl.trainer.dpo_config", "DPOConfig"),
    _names("trl.trainer.grpo_config", "GRPOConfig"),
    _names("trl.trainer.kto_config", "KTOConfig"),
    _names("trl.trainer.orpo_config", "ORPOConfig"),
    _names("trl.trainer.cpo_config", "CPOConfig"),
    _names("trl.trainer.bco_config", "BCOConfig"),
    _names("trl.trainer.gkd_config", "GKDConfig"),
    _names("trl.trainer.prm_config", "PRMConfig"),
    _names("trl.trainer.ppo_config", "PPOConfig"),
    _names("trl.trainer.rloo_config", "RLOOConfig"),
    _names("trl.trainer.reward_config", "RewardConfig"),
    _names("trl.trainer.online_dpo_config", "OnlineDPOConfig"),
    _names("sentence_transformers.training_args", "SentenceTransformerTrainingArguments"),
    _names("llamafactory.hparams.training_args", "TrainingArguments"),
    _names("axolotl.core.training_args", "AxolotlTrainingArguments"),
    _names("axolotl.core.trainer_builder", "AxolotlTrainingArguments"),
    _names("peft.tuners.lora.config", "LoraConfig LoftQConfig LoraRuntimeConfig"),
    _names("deepspeed.runtime.fp16.loss_scaler", "LossScaler DynamicLossScaler"),
    _names("deepspeed.utils.tensor_fragment", "fragment_address"),
    _names("omegaconf.dictconfig", "DictConfig"),
    _names("omegaconf.listconfig", "ListConfig"),
    _names("omegaconf.base", "Metadata ContainerMetadata"),
    _names(
        "omegaconf.nodes",
        "AnyNode StringNode IntegerNode FloatNode BooleanNode PathNode BytesNode EnumNode InterpolationResultNode",
    ),
    _names("typing", "Any Union Optional Dict List Tuple Set"),
    _names("argparse", "Namespace"),
    _names("uuid", "UUID"),
    _names("torch.torch_version", "TorchVersion"),
    _names("torch.distributed.tensor", "DTensor"),
    _names("torch.distributed.tensor._dtensor_spec", "DTensorSpec TensorMeta ShardOrderEntry"),
    _names("torch.distributed.tensor.placement_types", "Partial Replicate Shard _StridedShard"),
    _names("torch.distributed.device_mesh", "DeviceMesh"),
    _names("torch.distributed._mesh_layout", "_FlatLayout _MeshLayout"),
    _names("torch.distributed._tensor.api", "DTensor"),
    _names("torch.distributed._tensor.placement_types", "DTensorSpec TensorMeta Partial _Partial Replicate Shard"),
    _names("builtins", "object"),
)
"""Made by NEWOBJ, which runs no constructor, and filled by BUILD. Calling one of them is refused."""

CALLABLES = frozenset().union(
    _names("builtins", "bool int float str bytes tuple frozenset range slice"),
    _names("datetime", "datetime date time timedelta timezone"),
    _names("decimal", "Decimal"),
    _names("fractions", "Fraction"),
    _names("pathlib", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"),
    _names("pathlib._local", "Path PosixPath WindowsPath PurePath PurePosixPath PureWindowsPath"),
    _names("types", "SimpleNamespace"),
    _names(
        "numpy",
        "ndarray dtype bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 complex64 "
        "complex128",
    ),
    _names("numpy.core.multiarray", "_reconstruct scalar"),
    _names("numpy._core.multiarray", "_reconstruct scalar"),
    _names("numpy.core.numeric", "_frombuffer"),
    _names("numpy._core.numeric", "_frombuffer"),
)
"""Called with plain arguments; none of them looks anything up, opens anything or calls an argument."""

MAPPINGS = frozenset().union(
    _names("builtins", "dict"),
    _names("collections", "defaultdict"),
    _names("pytorch_lightning.utilities.parsing", "AttributeDict"),
    _names("lightning.pytorch.utilities.parsing", "AttributeDict"),
    _names("lightning_fabric.utilities.data", "AttributeDict"),
    _names("lightning.fabric.utilities.data", "AttributeDict"),
)
"""Dictionaries: called or made, and then given items."""

SEQUENCES = frozenset().union(_names("builtins", "list"), _names("collections", "deque"))
"""Lists: called or made, and then given elements."""

PLAIN_FORMS = frozenset().union(
    (f"{module}.scalar" for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    (name.replace(" ", ".") for name in CALLABLES if name.startswith("pathlib")),
    (name.replace(" ", ".") for name in (*MAPPINGS, *SEQUENCES)),
    (name.replace(" ", ".") for name in OBJECTS if name.startswith("omegaconf.")),
    ("builtins.set", "builtins.frozenset", "builtins.range", "builtins.bytes"),
    ("argparse.Namespace", "types.SimpleNamespace", "torch.device", "torch.torch_version.TorchVersion"),
    (name.replace(" ", ".") for name in ENUMS),
)
"""The types, with dots, of objects that represent a plain value: a number, a text, a list or a dictionary."""
