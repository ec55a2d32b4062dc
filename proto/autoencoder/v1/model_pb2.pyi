from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_UINT16: _ClassVar[DataType]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_UINT16: DataType

class TensorSpec(_message.Message):
    __slots__ = ("name", "data_type", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    data_type: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., data_type: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Tiling(_message.Message):
    __slots__ = ("halo", "multiple", "tile", "exact")
    HALO_FIELD_NUMBER: _ClassVar[int]
    MULTIPLE_FIELD_NUMBER: _ClassVar[int]
    TILE_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    halo: int
    multiple: int
    tile: int
    exact: bool
    def __init__(self, halo: _Optional[int] = ..., multiple: _Optional[int] = ..., tile: _Optional[int] = ..., exact: _Optional[bool] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("name", "file", "inputs", "outputs", "parity_max_abs_error", "golden_tolerance", "batch_invariant", "batch_buckets", "tiling")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    PARITY_MAX_ABS_ERROR_FIELD_NUMBER: _ClassVar[int]
    GOLDEN_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    BATCH_INVARIANT_FIELD_NUMBER: _ClassVar[int]
    BATCH_BUCKETS_FIELD_NUMBER: _ClassVar[int]
    TILING_FIELD_NUMBER: _ClassVar[int]
    name: str
    file: str
    inputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    outputs: _containers.RepeatedCompositeFieldContainer[TensorSpec]
    parity_max_abs_error: float
    golden_tolerance: float
    batch_invariant: bool
    batch_buckets: _containers.RepeatedScalarFieldContainer[int]
    tiling: Tiling
    def __init__(self, name: _Optional[str] = ..., file: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[TensorSpec, _Mapping]]] = ..., parity_max_abs_error: _Optional[float] = ..., golden_tolerance: _Optional[float] = ..., batch_invariant: _Optional[bool] = ..., batch_buckets: _Optional[_Iterable[int]] = ..., tiling: _Optional[_Union[Tiling, _Mapping]] = ...) -> None: ...

class SizeRange(_message.Message):
    __slots__ = ("multiple", "minimum", "maximum_pixels")
    MULTIPLE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_PIXELS_FIELD_NUMBER: _ClassVar[int]
    multiple: int
    minimum: int
    maximum_pixels: int
    def __init__(self, multiple: _Optional[int] = ..., minimum: _Optional[int] = ..., maximum_pixels: _Optional[int] = ...) -> None: ...

class NoiseLevel(_message.Message):
    __slots__ = ("minimum", "maximum", "default")
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_FIELD_NUMBER: _ClassVar[int]
    minimum: float
    maximum: float
    default: float
    def __init__(self, minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., default: _Optional[float] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("score", "rates", "thresholds", "map_thresholds", "default_rate", "map_low", "calibrated_on", "rate_lower", "rate_upper", "calibrated_height", "calibrated_width")
    SCORE_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    MAP_THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_RATE_FIELD_NUMBER: _ClassVar[int]
    MAP_LOW_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_ON_FIELD_NUMBER: _ClassVar[int]
    RATE_LOWER_FIELD_NUMBER: _ClassVar[int]
    RATE_UPPER_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CALIBRATED_WIDTH_FIELD_NUMBER: _ClassVar[int]
    score: str
    rates: _containers.RepeatedScalarFieldContainer[float]
    thresholds: _containers.RepeatedScalarFieldContainer[float]
    map_thresholds: _containers.RepeatedScalarFieldContainer[float]
    default_rate: float
    map_low: float
    calibrated_on: int
    rate_lower: _containers.RepeatedScalarFieldContainer[float]
    rate_upper: _containers.RepeatedScalarFieldContainer[float]
    calibrated_height: int
    calibrated_width: int
    def __init__(self, score: _Optional[str] = ..., rates: _Optional[_Iterable[float]] = ..., thresholds: _Optional[_Iterable[float]] = ..., map_thresholds: _Optional[_Iterable[float]] = ..., default_rate: _Optional[float] = ..., map_low: _Optional[float] = ..., calibrated_on: _Optional[int] = ..., rate_lower: _Optional[_Iterable[float]] = ..., rate_upper: _Optional[_Iterable[float]] = ..., calibrated_height: _Optional[int] = ..., calibrated_width: _Optional[int] = ...) -> None: ...

class Likelihood(_message.Message):
    __slots__ = ("distribution", "sigma", "binarised")
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    SIGMA_FIELD_NUMBER: _ClassVar[int]
    BINARISED_FIELD_NUMBER: _ClassVar[int]
    distribution: str
    sigma: float
    binarised: bool
    def __init__(self, distribution: _Optional[str] = ..., sigma: _Optional[float] = ..., binarised: _Optional[bool] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "size_bytes", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    sha256: str
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "family", "methods", "height", "width", "channels", "latent_size", "signatures", "labels", "attributes", "metrics", "provenance", "files", "imported", "sizes", "latent_shape", "downsampling", "latent_scale", "latent_shift", "noise_level", "detection", "likelihood")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class ProvenanceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LATENT_SIZE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_FIELD_NUMBER: _ClassVar[int]
    SIZES_FIELD_NUMBER: _ClassVar[int]
    LATENT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    DOWNSAMPLING_FIELD_NUMBER: _ClassVar[int]
    LATENT_SCALE_FIELD_NUMBER: _ClassVar[int]
    LATENT_SHIFT_FIELD_NUMBER: _ClassVar[int]
    NOISE_LEVEL_FIELD_NUMBER: _ClassVar[int]
    DETECTION_FIELD_NUMBER: _ClassVar[int]
    LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    family: str
    methods: _containers.RepeatedScalarFieldContainer[str]
    height: int
    width: int
    channels: int
    latent_size: int
    signatures: _containers.RepeatedCompositeFieldContainer[Signature]
    labels: _containers.RepeatedScalarFieldContainer[str]
    attributes: _containers.RepeatedScalarFieldContainer[str]
    metrics: _containers.ScalarMap[str, float]
    provenance: _containers.ScalarMap[str, str]
    files: _containers.RepeatedCompositeFieldContainer[File]
    imported: bool
    sizes: SizeRange
    latent_shape: _containers.RepeatedScalarFieldContainer[int]
    downsampling: int
    latent_scale: float
    latent_shift: float
    noise_level: NoiseLevel
    detection: Detection
    likelihood: Likelihood
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., family: _Optional[str] = ..., methods: _Optional[_Iterable[str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ..., latent_size: _Optional[int] = ..., signatures: _Optional[_Iterable[_Union[Signature, _Mapping]]] = ..., labels: _Optional[_Iterable[str]] = ..., attributes: _Optional[_Iterable[str]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., provenance: _Optional[_Mapping[str, str]] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., imported: _Optional[bool] = ..., sizes: _Optional[_Union[SizeRange, _Mapping]] = ..., latent_shape: _Optional[_Iterable[int]] = ..., downsampling: _Optional[int] = ..., latent_scale: _Optional[float] = ..., latent_shift: _Optional[float] = ..., noise_level: _Optional[_Union[NoiseLevel, _Mapping]] = ..., detection: _Optional[_Union[Detection, _Mapping]] = ..., likelihood: _Optional[_Union[Likelihood, _Mapping]] = ...) -> None: ...
