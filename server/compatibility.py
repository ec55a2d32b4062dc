"""Whether a bundle is of a kind that this server knows: its graphs, their tensors, its methods, its statistics."""

from autoencoder.v1 import model_pb2
from autoencoder.v1.model_pb2 import Model, Signature

from bundle import latents
from bundle.errors import BundleError
from bundle.latents import LatentStatistics

# Graph -> its input and outputs; what stands in brackets may be missing.
_TENSORS = {
    "encode": ("images", ("latents", "[log_variances]")),
    "decode": ("latents", ("images",)),
    "reconstruct": ("images", ("reconstructions", "squared_errors")),
    "denoise": ("images", ("denoised",)),
    "classify": ("images", ("probabilities",)),
}
_CHANNELS = (1, 3)
# Method -> the graphs that it runs.
_GRAPHS = {
    "Encode": ("encode",),
    "Decode": ("decode",),
    "Reconstruct": ("reconstruct",),
    "Denoise": ("denoise",),
    "Classify": ("classify",),
    "Sample": ("decode",),
    "Interpolate": ("encode", "decode"),
    "Edit": ("encode", "decode"),
}


def check_model(model: Model) -> None:
    """Compare graphs, tensors and methods with what this server knows.

    Raises:
        BundleError: says which differs.
    """
    if model.channels not in _CHANNELS:
        raise BundleError(f"wanted images of 1 channel or 3, which files can hold, got {model.channels}")
    signatures = {signature.name: signature for signature in model.signatures}
    shapes: dict[str, list[int]] = {
        "images": [-1, model.height, model.width, model.channels],
        "latents": [-1, model.latent_size],
        "probabilities": [-1, len(model.labels)],
        "squared_errors": [-1],
    }
    shapes |= {"reconstructions": shapes["images"], "denoised": shapes["images"], "log_variances": shapes["latents"]}
    for name, signature in signatures.items():
        if name not in _TENSORS:
            raise BundleError(f"signature {name!r}: wanted one of {', '.join(_TENSORS)}")
        _check_names(signature)
        for spec in (*signature.inputs, *signature.outputs):
            if list(spec.shape) != shapes[spec.name] or spec.data_type not in _types(name, spec.name):
                raise BundleError(
                    f"signature {name!r}: {spec.name} wants shape {shapes[spec.name]} and a type that this server "
                    f"feeds, got {list(spec.shape)} of {model_pb2.DataType.Name(spec.data_type)}"
                )
    for method in model.methods:
        missing = [graph for graph in _GRAPHS.get(method, ()) if graph not in signatures]
        if missing:
            raise BundleError(f"method {method} needs the graphs {', '.join(missing)}, which are missing")


def _check_names(signature: Signature) -> None:
    wanted_input, outputs = _TENSORS[signature.name]
    came = [spec.name for spec in signature.outputs]
    least = [name for name in outputs if not name.startswith("[")]
    most = [name.strip("[]") for name in outputs]
    if [spec.name for spec in signature.inputs] != [wanted_input] or came not in (least, most):
        raise BundleError(f"signature {signature.name!r}: wanted {wanted_input} to {', '.join(outputs)}, got {came}")


def _types(signature: str, tensor: str) -> tuple[int, ...]:
    if tensor == "images" and signature != "decode":
        return (model_pb2.DATA_TYPE_UINT8, model_pb2.DATA_TYPE_FLOAT32)
    return (model_pb2.DATA_TYPE_FLOAT32,)


def check_statistics(model: Model, statistics: LatentStatistics | None) -> None:
    """Compare latents.npz with model.json.

    Raises:
        BundleError: says what differs.
    """
    if statistics is not None and statistics.latent_size != model.latent_size:
        raise BundleError(f"latents.npz: wanted latents of {model.latent_size}, got {statistics.latent_size}")
    names = [] if statistics is None else [str(name) for name in statistics.attribute_names]
    if list(model.attributes) != names:
        raise BundleError(f"latents.npz: wanted the attributes {list(model.attributes)}, got {names}")
    fitted = statistics is not None and len(statistics.mixture_weights) > 0
    if "Sample" in model.methods and latents.prior(model.family) == "mixture" and not fitted:
        raise BundleError("latents.npz: Sample wants a mixture fitted to the latents of this family, got none")
