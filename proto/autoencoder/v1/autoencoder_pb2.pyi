from autoencoder.v1 import model_pb2 as _model_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ImageFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_FORMAT_UNSPECIFIED: _ClassVar[ImageFormat]
    IMAGE_FORMAT_UINT8: _ClassVar[ImageFormat]
    IMAGE_FORMAT_FLOAT32: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG: _ClassVar[ImageFormat]
    IMAGE_FORMAT_NONE: _ClassVar[ImageFormat]
    IMAGE_FORMAT_UINT16: _ClassVar[ImageFormat]
    IMAGE_FORMAT_PNG16: _ClassVar[ImageFormat]

class LatentFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LATENT_FORMAT_UNSPECIFIED: _ClassVar[LatentFormat]
    LATENT_FORMAT_FLOAT32: _ClassVar[LatentFormat]
    LATENT_FORMAT_FLOAT16: _ClassVar[LatentFormat]

class Posterior(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    POSTERIOR_UNSPECIFIED: _ClassVar[Posterior]
    POSTERIOR_MEAN: _ClassVar[Posterior]
    POSTERIOR_SAMPLE: _ClassVar[Posterior]

class Interpolation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INTERPOLATION_UNSPECIFIED: _ClassVar[Interpolation]
    INTERPOLATION_LINEAR: _ClassVar[Interpolation]
    INTERPOLATION_SPHERICAL: _ClassVar[Interpolation]
IMAGE_FORMAT_UNSPECIFIED: ImageFormat
IMAGE_FORMAT_UINT8: ImageFormat
IMAGE_FORMAT_FLOAT32: ImageFormat
IMAGE_FORMAT_PNG: ImageFormat
IMAGE_FORMAT_NONE: ImageFormat
IMAGE_FORMAT_UINT16: ImageFormat
IMAGE_FORMAT_PNG16: ImageFormat
LATENT_FORMAT_UNSPECIFIED: LatentFormat
LATENT_FORMAT_FLOAT32: LatentFormat
LATENT_FORMAT_FLOAT16: LatentFormat
POSTERIOR_UNSPECIFIED: Posterior
POSTERIOR_MEAN: Posterior
POSTERIOR_SAMPLE: Posterior
INTERPOLATION_UNSPECIFIED: Interpolation
INTERPOLATION_LINEAR: Interpolation
INTERPOLATION_SPHERICAL: Interpolation

class Tensor(_message.Message):
    __slots__ = ("data_type", "shape", "data")
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    data_type: _model_pb2.DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, data_type: _Optional[_Union[_model_pb2.DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Images(_message.Message):
    __slots__ = ("tensor", "encoded")
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    tensor: Tensor
    encoded: EncodedImages
    def __init__(self, tensor: _Optional[_Union[Tensor, _Mapping]] = ..., encoded: _Optional[_Union[EncodedImages, _Mapping]] = ...) -> None: ...

class EncodedImages(_message.Message):
    __slots__ = ("files", "resize")
    FILES_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedScalarFieldContainer[bytes]
    resize: bool
    def __init__(self, files: _Optional[_Iterable[bytes]] = ..., resize: _Optional[bool] = ...) -> None: ...

class ServingInfo(_message.Message):
    __slots__ = ("model_name", "model_version", "queue_microseconds", "run_microseconds", "batch_size", "tiles", "exact")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    RUN_MICROSECONDS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    TILES_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    queue_microseconds: int
    run_microseconds: int
    batch_size: int
    tiles: int
    exact: bool
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., queue_microseconds: _Optional[int] = ..., run_microseconds: _Optional[int] = ..., batch_size: _Optional[int] = ..., tiles: _Optional[int] = ..., exact: _Optional[bool] = ...) -> None: ...

class EncodeRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images", "posterior", "seed", "latent_format")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    POSTERIOR_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    LATENT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    posterior: Posterior
    seed: int
    latent_format: LatentFormat
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., posterior: _Optional[_Union[Posterior, str]] = ..., seed: _Optional[int] = ..., latent_format: _Optional[_Union[LatentFormat, str]] = ...) -> None: ...

class EncodeResponse(_message.Message):
    __slots__ = ("latents", "log_variances", "seed", "info")
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    LOG_VARIANCES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    latents: Tensor
    log_variances: Tensor
    seed: int
    info: ServingInfo
    def __init__(self, latents: _Optional[_Union[Tensor, _Mapping]] = ..., log_variances: _Optional[_Union[Tensor, _Mapping]] = ..., seed: _Optional[int] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class DecodeRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "latents", "image_format", "height", "width")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    latents: Tensor
    image_format: ImageFormat
    height: int
    width: int
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., latents: _Optional[_Union[Tensor, _Mapping]] = ..., image_format: _Optional[_Union[ImageFormat, str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class DecodeResponse(_message.Message):
    __slots__ = ("images", "info")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    images: Images
    info: ServingInfo
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class ReconstructRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images", "image_format")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    image_format: ImageFormat
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., image_format: _Optional[_Union[ImageFormat, str]] = ...) -> None: ...

class ReconstructResponse(_message.Message):
    __slots__ = ("images", "squared_errors", "info")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SQUARED_ERRORS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    images: Images
    squared_errors: Tensor
    info: ServingInfo
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., squared_errors: _Optional[_Union[Tensor, _Mapping]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class DenoiseRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images", "image_format", "noise_levels")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    NOISE_LEVELS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    image_format: ImageFormat
    noise_levels: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., image_format: _Optional[_Union[ImageFormat, str]] = ..., noise_levels: _Optional[_Iterable[float]] = ...) -> None: ...

class DenoiseResponse(_message.Message):
    __slots__ = ("images", "info")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    images: Images
    info: ServingInfo
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class SampleRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "count", "seed", "temperature", "include_latents", "image_format", "first_index", "height", "width")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_LATENTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    count: int
    seed: int
    temperature: float
    include_latents: bool
    image_format: ImageFormat
    first_index: int
    height: int
    width: int
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., count: _Optional[int] = ..., seed: _Optional[int] = ..., temperature: _Optional[float] = ..., include_latents: _Optional[bool] = ..., image_format: _Optional[_Union[ImageFormat, str]] = ..., first_index: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class SampleResponse(_message.Message):
    __slots__ = ("images", "latents", "seed", "noise_scheme", "info")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    NOISE_SCHEME_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    images: Images
    latents: Tensor
    seed: int
    noise_scheme: str
    info: ServingInfo
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[Tensor, _Mapping]] = ..., seed: _Optional[int] = ..., noise_scheme: _Optional[str] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class InterpolateRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "from_images", "from_latents", "to_images", "to_latents", "steps", "interpolation", "image_format")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FROM_IMAGES_FIELD_NUMBER: _ClassVar[int]
    FROM_LATENTS_FIELD_NUMBER: _ClassVar[int]
    TO_IMAGES_FIELD_NUMBER: _ClassVar[int]
    TO_LATENTS_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATION_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    from_images: Images
    from_latents: Tensor
    to_images: Images
    to_latents: Tensor
    steps: int
    interpolation: Interpolation
    image_format: ImageFormat
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., from_images: _Optional[_Union[Images, _Mapping]] = ..., from_latents: _Optional[_Union[Tensor, _Mapping]] = ..., to_images: _Optional[_Union[Images, _Mapping]] = ..., to_latents: _Optional[_Union[Tensor, _Mapping]] = ..., steps: _Optional[int] = ..., interpolation: _Optional[_Union[Interpolation, str]] = ..., image_format: _Optional[_Union[ImageFormat, str]] = ...) -> None: ...

class InterpolateResponse(_message.Message):
    __slots__ = ("images", "latents", "info")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    images: Images
    latents: Tensor
    info: ServingInfo
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[Tensor, _Mapping]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class AttributeShift(_message.Message):
    __slots__ = ("attribute", "amount")
    ATTRIBUTE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    attribute: str
    amount: float
    def __init__(self, attribute: _Optional[str] = ..., amount: _Optional[float] = ...) -> None: ...

class EditRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images", "latents", "shifts", "image_format")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    SHIFTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    latents: Tensor
    shifts: _containers.RepeatedCompositeFieldContainer[AttributeShift]
    image_format: ImageFormat
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[Tensor, _Mapping]] = ..., shifts: _Optional[_Iterable[_Union[AttributeShift, _Mapping]]] = ..., image_format: _Optional[_Union[ImageFormat, str]] = ...) -> None: ...

class EditResponse(_message.Message):
    __slots__ = ("images", "latents", "info")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LATENTS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    images: Images
    latents: Tensor
    info: ServingInfo
    def __init__(self, images: _Optional[_Union[Images, _Mapping]] = ..., latents: _Optional[_Union[Tensor, _Mapping]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("probabilities", "labels", "info")
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    probabilities: Tensor
    labels: _containers.RepeatedScalarFieldContainer[str]
    info: ServingInfo
    def __init__(self, probabilities: _Optional[_Union[Tensor, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class DetectRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images", "threshold", "map_threshold", "false_alarm_rate", "map_format")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAP_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    FALSE_ALARM_RATE_FIELD_NUMBER: _ClassVar[int]
    MAP_FORMAT_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    threshold: float
    map_threshold: float
    false_alarm_rate: float
    map_format: ImageFormat
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., threshold: _Optional[float] = ..., map_threshold: _Optional[float] = ..., false_alarm_rate: _Optional[float] = ..., map_format: _Optional[_Union[ImageFormat, str]] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("image", "top", "left", "height", "width", "score")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    image: int
    top: int
    left: int
    height: int
    width: int
    score: float
    def __init__(self, image: _Optional[int] = ..., top: _Optional[int] = ..., left: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., score: _Optional[float] = ...) -> None: ...

class DetectResponse(_message.Message):
    __slots__ = ("scores", "anomalous", "threshold", "map_threshold", "maps", "regions", "info")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    ANOMALOUS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAP_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAPS_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    scores: Tensor
    anomalous: _containers.RepeatedScalarFieldContainer[bool]
    threshold: float
    map_threshold: float
    maps: Images
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    info: ServingInfo
    def __init__(self, scores: _Optional[_Union[Tensor, _Mapping]] = ..., anomalous: _Optional[_Iterable[bool]] = ..., threshold: _Optional[float] = ..., map_threshold: _Optional[float] = ..., maps: _Optional[_Union[Images, _Mapping]] = ..., regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("model_name", "model_version", "images", "samples", "seed", "first_index")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    FIRST_INDEX_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    images: Images
    samples: int
    seed: int
    first_index: int
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., images: _Optional[_Union[Images, _Mapping]] = ..., samples: _Optional[int] = ..., seed: _Optional[int] = ..., first_index: _Optional[int] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("log_likelihoods", "seed", "info")
    LOG_LIKELIHOODS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    log_likelihoods: Tensor
    seed: int
    info: ServingInfo
    def __init__(self, log_likelihoods: _Optional[_Union[Tensor, _Mapping]] = ..., seed: _Optional[int] = ..., info: _Optional[_Union[ServingInfo, _Mapping]] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[_model_pb2.Model]
    def __init__(self, models: _Optional[_Iterable[_Union[_model_pb2.Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model_name", "model_version")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: str
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: _model_pb2.Model
    def __init__(self, model: _Optional[_Union[_model_pb2.Model, _Mapping]] = ...) -> None: ...

class StreamRequest(_message.Message):
    __slots__ = ("id", "encode", "decode", "reconstruct", "denoise", "sample", "interpolate", "edit", "classify", "detect", "score")
    ID_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCT_FIELD_NUMBER: _ClassVar[int]
    DENOISE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATE_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    CLASSIFY_FIELD_NUMBER: _ClassVar[int]
    DETECT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    id: str
    encode: EncodeRequest
    decode: DecodeRequest
    reconstruct: ReconstructRequest
    denoise: DenoiseRequest
    sample: SampleRequest
    interpolate: InterpolateRequest
    edit: EditRequest
    classify: ClassifyRequest
    detect: DetectRequest
    score: ScoreRequest
    def __init__(self, id: _Optional[str] = ..., encode: _Optional[_Union[EncodeRequest, _Mapping]] = ..., decode: _Optional[_Union[DecodeRequest, _Mapping]] = ..., reconstruct: _Optional[_Union[ReconstructRequest, _Mapping]] = ..., denoise: _Optional[_Union[DenoiseRequest, _Mapping]] = ..., sample: _Optional[_Union[SampleRequest, _Mapping]] = ..., interpolate: _Optional[_Union[InterpolateRequest, _Mapping]] = ..., edit: _Optional[_Union[EditRequest, _Mapping]] = ..., classify: _Optional[_Union[ClassifyRequest, _Mapping]] = ..., detect: _Optional[_Union[DetectRequest, _Mapping]] = ..., score: _Optional[_Union[ScoreRequest, _Mapping]] = ...) -> None: ...

class StreamResponse(_message.Message):
    __slots__ = ("id", "encode", "decode", "reconstruct", "denoise", "sample", "interpolate", "edit", "classify", "error", "detect", "score")
    ID_FIELD_NUMBER: _ClassVar[int]
    ENCODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_FIELD_NUMBER: _ClassVar[int]
    RECONSTRUCT_FIELD_NUMBER: _ClassVar[int]
    DENOISE_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    INTERPOLATE_FIELD_NUMBER: _ClassVar[int]
    EDIT_FIELD_NUMBER: _ClassVar[int]
    CLASSIFY_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DETECT_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    id: str
    encode: EncodeResponse
    decode: DecodeResponse
    reconstruct: ReconstructResponse
    denoise: DenoiseResponse
    sample: SampleResponse
    interpolate: InterpolateResponse
    edit: EditResponse
    classify: ClassifyResponse
    error: _status_pb2.Status
    detect: DetectResponse
    score: ScoreResponse
    def __init__(self, id: _Optional[str] = ..., encode: _Optional[_Union[EncodeResponse, _Mapping]] = ..., decode: _Optional[_Union[DecodeResponse, _Mapping]] = ..., reconstruct: _Optional[_Union[ReconstructResponse, _Mapping]] = ..., denoise: _Optional[_Union[DenoiseResponse, _Mapping]] = ..., sample: _Optional[_Union[SampleResponse, _Mapping]] = ..., interpolate: _Optional[_Union[InterpolateResponse, _Mapping]] = ..., edit: _Optional[_Union[EditResponse, _Mapping]] = ..., classify: _Optional[_Union[ClassifyResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., detect: _Optional[_Union[DetectResponse, _Mapping]] = ..., score: _Optional[_Union[ScoreResponse, _Mapping]] = ...) -> None: ...
