"""The names that torchao adds to torch's weights-only loader when it is imported.

Read from torchao 0.18 (``torch.serialization._get_safe_globals()`` after importing all of it), and from the source of
0.13 and 0.9 for the tensors that older files hold. Written as in a pickle: module, space, qualified name. Whoever loads
such a file has imported torchao, so torch's default reads it.
"""

from __future__ import annotations


def _names(module: str, names: str) -> frozenset[str]:
    return frozenset(f"torchao.{module} {name}" for name in names.split())


TORCHAO = frozenset().union(
    _names(
        "quantization",
        "Float8Tensor Int4PlainInt32Tensor Int4PreshuffledTensor Int4Tensor Int4TilePackedTo4dTensor Int8Tensor "
        "IntxOpaqueTensor IntxUnpackedToInt8Tensor",
    ),
    _names("quantization.granularity", "PerBlock PerRow PerTensor PerAxis PerGroup PerToken"),
    _names("quantization.observer", "PerRow PerTensor"),
    _names("quantization.linear_activation_quantized_tensor", "LinearActivationQuantizedTensor"),
    _names("quantization.linear_activation_scale", "WeightTensorWithLinearActivationScaleMetadata"),
    _names(
        "quantization.weight_tensor_linear_activation_quantization",
        "WeightTensorWithLinearActivationQuantizationMetadata",
    ),
    _names(
        "quantization.quant_api",
        "_int8_asymm_per_token_quant _int8_symm_per_token_reduced_range_quant _input_activation_quant_func_fp8 "
        "_int4_symm_cutlass_quant _int8_symm_cutlass_quant _float8_cutlass_quant _float8_cutlass_quant_sparse",
    ),
    _names(
        "quantization.quantize_.workflows.float8.float8_tensor",
        "Float8Tensor QuantizeTensorToFloat8Kwargs",
    ),
    _names(
        "quantization.quantize_.workflows.float8.float8_sparse_2x4_1d_data_1d_metadata_tensor",
        "Float8Sparse2x4_1DData1DMetadataTensor",
    ),
    _names(
        "quantization.quantize_.workflows.float8.float8_sparse_2x4_2d_data_2d_metadata_tensor",
        "Float8Sparse2x4_2DData2DMetadataTensor",
    ),
    _names("quantization.quantize_.workflows.int8.int8_tensor", "Int8Tensor QuantizeTensorToInt8Kwargs"),
    _names("quantization.quantize_.workflows.int4.int4_tensor", "Int4Tensor"),
    _names("quantization.quantize_.workflows.int4.int4_preshuffled_tensor", "Int4PreshuffledTensor"),
    _names("quantization.quantize_.workflows.int4.int4_marlin_sparse_tensor", "Int4MarlinSparseTensor"),
    _names("quantization.quantize_.workflows.intx.intx_unpacked_tensor", "IntxUnpackedTensor"),
    _names("quantization.quantize_.workflows.nf4.nf4_tensor", "NF4Tensor"),
    _names("dtypes.nf4tensor", "NF4Tensor"),
    _names("dtypes.affine_quantized_tensor", "AffineQuantizedTensor"),
    _names("dtypes.fbgemm_fp8_tensor", "FbgemmFp8Tensor"),
    _names("dtypes.utils", "PlainLayout AQTTensorImpl Layout"),
    _names("dtypes.uintx.plain_layout", "PlainAQTTensorImpl"),
    _names("dtypes.uintx.block_sparse_layout", "BlockSparseLayout BlockSparseAQTTensorImpl"),
    _names("dtypes.uintx.cutlass_int4_packed_layout", "CutlassInt4PackedLayout Int4PackedTensorImpl"),
    _names("dtypes.uintx.gemlite_layout", "GemlitePackedLayout GemliteAQTTensorImpl"),
    _names("dtypes.uintx.int4_cpu_layout", "Int4CPULayout Int4CPUAQTTensorImpl"),
    _names("dtypes.uintx.int4_xpu_layout", "Int4XPULayout Int4XPUAQTTensorImpl"),
    _names("dtypes.uintx.dyn_int8_act_int4_wei_cpu_layout", "Int8DynamicActInt4WeightCPULayout DA8W4CPUAQTTensorImpl"),
    _names("dtypes.uintx.marlin_qqq_tensor", "MarlinQQQLayout MarlinQQQAQTTensorImpl MarlinQQQTensor"),
    _names("dtypes.uintx.marlin_sparse_layout", "MarlinSparseLayout MarlinSparseAQTTensorImpl"),
    _names("dtypes.uintx.q_dq_layout", "QDQLayout QDQTensorImpl"),
    _names("dtypes.uintx.semi_sparse_layout", "SemiSparseLayout SemiSparseAQTTensorImpl"),
    _names("dtypes.uintx.tensor_core_tiled_layout", "TensorCoreTiledLayout TensorCoreTiledAQTTensorImpl"),
    _names("dtypes.uintx.uintx_layout", "UintxLayout UintxAQTTensorImpl UintxTensor"),
    _names("dtypes.floatx.float8_layout", "Float8Layout Float8AQTTensorImpl"),
    _names("dtypes.floatx.floatx_tensor_core_layout", "FloatxTensorCoreLayout FloatxTensorCoreAQTTensorImpl"),
    _names("dtypes.floatx.cutlass_semi_sparse_layout", "CutlassSemiSparseLayout CutlassSemiSparseTensorImpl"),
    _names("float8.float8_training_tensor", "Float8TrainingTensor LinearMMConfig ScaledMMConfig"),
    _names("float8.float8_tensor", "Float8Tensor LinearMMConfig ScaledMMConfig"),
    _names("float8.fsdp_utils", "WeightWithDynamicFloat8CastTensor"),
    _names("float8.inference", "Float8MMConfig"),
    _names("optim.subclass_4bit", "OptimState4bit"),
    _names("optim.subclass_8bit", "OptimState8bit"),
    _names("optim.subclass_fp8", "OptimStateFp8"),
    _names("prototype.low_bit_optim.subclass_4bit", "OptimState4bit"),
    _names("prototype.low_bit_optim.subclass_8bit", "OptimState8bit"),
    _names("prototype.low_bit_optim.subclass_fp8", "OptimStateFp8"),
    _names("prototype.float8_opaque_tensor", "Float8OpaqueTensor"),
    _names("prototype.mx_formats.mx_tensor", "MXTensor QuantizeTensorToMXKwargs"),
    _names("prototype.mx_formats.nvfp4_tensor", "NVFP4Tensor QuantizeTensorToNVFP4Kwargs"),
    _names("prototype.quantization.float8_static_quant.prototype_float8_tensor", "PrototypeFloat8Tensor"),
    _names("prototype.quantization.gguf.gguf_quantized_tensor", "GGUFQuantizedTensor"),
    _names("prototype.quantization.int4", "Int4OpaqueTensor"),
    _names("prototype.quantization.int8_lut_tensor.int8_lut_tensor", "Int8LutTensor"),
    _names("prototype.quantization.uintx.uintx_bit_packed_tensor", "UIntxBitPackedTensor"),
)
"""Tensor classes, layouts and settings: named, or made by NEWOBJ and filled by BUILD; never called."""

TORCHAO_ENUMS = frozenset().union(
    _names("quantization.quant_primitives", "MappingType ZeroPointDomain TorchAODType"),
    _names("quantization.quantize_.common.kernel_preference", "KernelPreference"),
    _names("quantization.quantize_.workflows.float8.float8_packing_format", "Float8PackingFormat"),
    _names("quantization.quantize_.workflows.intx.intx_packing_format", "IntxPackingFormat"),
    _names(
        "quantization.quantize_.workflows.intx.intx_unpacked_to_int8_tensor",
        "IntxUnpackedToInt8TensorActivationQuantization",
    ),
    _names("float8.config", "ScalingGranularity"),
    _names("float8.float8_training_tensor", "GemmInputRole"),
    _names("float8.float8_tensor", "GemmInputRole"),
    _names("prototype.mx_formats.config", "ScaleCalculationMode"),
)
"""Enums: called with one plain value, or looked up in their class by ``getattr``."""
