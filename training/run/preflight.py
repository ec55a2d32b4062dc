"""Preflight of a run: a model that cannot be trained on these data is refused before the first step."""

from training.config import Config, Loss
from training.cpu import available_memory
from training.data.dataset import Dataset
from training.distributed import pick_device
from training.errors import ConfigError
from training.models import autoencoders
from training.models.families import Network
from training.run.provenance import network_shape

# Bytes of a parameter: itself, its gradient and Adam's two means, in float32.
_BYTES_EACH = 4 * 4
# The estimate of the total correlation compares all pairs of images in each number of the code.
_WIDEST_COMPARED = 64


def check(config: Config, dataset: Dataset) -> None:
    """Refuse a network that needs classes where there are none, or more memory than there is.

    Raises:
        ConfigError: one of these, or the network does not fit the images.
    """
    architecture, classes = config.model, len(dataset.classes)
    network_class = Network if architecture.network else autoencoders.find(architecture.family)
    if hasattr(network_class, "classify") and classes < 2:  # noqa: PLR2004 (a difference)
        got = "one class" if classes else "images without labels"
        raise ConfigError(f"a {architecture.family} model needs labelled images of at least two classes, got {got}")
    network = autoencoders.outline(architecture, network_shape(config, dataset), dataset.classes)
    if dataset.paired:
        _check_pairs(config, network)
    _check_loss(config, network)
    parameters = sum(each.numel() for each in network.parameters())
    needed, left = parameters * _BYTES_EACH, available_memory()
    if needed > left and pick_device(config.device.name).type == "cpu":
        raise ConfigError(
            f"a network of {parameters:,} parameters takes {needed / 2**30:.1f} GiB in training, "
            f"{left / 2**30:.1f} GiB are free: lower model.latent_size or model.hidden, or scale images with data.size"
        )


def check_batches(config: Config, images: int, processes: int, rows_at_once: int) -> None:
    """Refuse batches that would be cut, or hold a single image, where the loss compares images with each other.

    `images` are those of an epoch, `rows_at_once` as many as one process computes on together.

    Raises:
        ConfigError: one of these.
    """
    size = config.run.batch_size
    if config.loss.total_correlation == 1:
        return
    if -(-size // processes) > rows_at_once:
        raise ConfigError(
            f"loss.total_correlation compares the images of a batch: expected run.batch_size of at most "
            f"{rows_at_once * processes}, as fit into memory together, got {size}; lower it, or scale images with "
            "data.size"
        )
    smallest = min(images, images % size or size)
    if smallest < 2 * processes:
        raise ConfigError(
            f"loss.total_correlation compares the images of a batch: expected at least {2 * processes} in each, two a "
            f"process, got one of {smallest} (run.batch_size {size}, {images} training images): change run.batch_size"
        )


def _check_loss(config: Config, network: Network) -> None:
    """Refuse a likelihood or noise that the network cannot be trained with."""
    loss = config.loss
    if network.output == "pixels" and loss.likelihood == "bernoulli":
        raise ConfigError(
            "the network returns pixels, whose likelihood is gaussian: set loss.likelihood=gaussian "
            '(or say output = "logits" in a class of your own that returns these)'
        )
    if network.takes_noise_levels and not loss.noise:
        raise ConfigError("a network that is given noise levels needs some to learn from: set loss.noise, as in 0.2")
    shape = network.latent_shape
    if loss.total_correlation != 1 and (len(shape) > 1 or sum(shape) > _WIDEST_COMPARED):
        raise ConfigError(
            f"loss.total_correlation needs a code of one vector of at most {_WIDEST_COMPARED} numbers, got "
            f"{'x'.join(map(str, shape))}: set model.latent_size, or leave loss.total_correlation at 1"
        )
    low, high = loss.noise_range
    if low > high:
        raise ConfigError(f"expected loss.noise_low of at most loss.noise, got {low:g} and {high:g}")
    if config.model.network and (unused := sorted(_changed(loss) - network.loss_settings)):
        names = ", ".join(f"loss.{name}" for name in unused)
        raise ConfigError(
            f"{names}: no effect on {config.model.network}, which is trained as the family {network.family}"
        )


def _check_pairs(config: Config, network: Network) -> None:
    """Refuse what has no use for pairs of noisy and clean images."""
    if not hasattr(network, "denoise"):
        raise ConfigError(
            f"pairs are for denoisers, as photo-denoiser trains one; {config.name} would not see the noise"
        )
    if network.takes_noise_levels:
        raise ConfigError("the noise of pairs has no known level to give: set model.noise_level_input=false")
    if config.loss.noise:
        raise ConfigError("loss.noise has no effect on pairs, which have noise of their own: set it to 0")


def _changed(loss: Loss) -> set[str]:
    return {name for name, field in Loss.model_fields.items() if getattr(loss, name) != field.default}
