"""Unused settings: those that the chosen model would ignore are refused, because setting one expects an effect."""

from collections.abc import Iterator

from training.config import Config, Data, Loss, Optimizer, Section
from training.models import autoencoders

# The bound of many samples has no KL divergence of its own that could be free, and sees images as they are.
_ONE_SAMPLE = frozenset({"free_bits", "encoder_noise", "total_correlation"})
_BODIES = {
    "dense": frozenset({"hidden", "activation", "code_activation"}),
    "conv": frozenset({"channels", "upsampling"}),
    "residual": frozenset(
        {"channels", "upsampling", "blocks", "latent_channels", "outputs", "shortcuts", "noise_level_input"}
    ),
}
_OF_A_BODY = frozenset[str]().union(*_BODIES.values())
# Which of them a family must name to use them.
_OF_A_FAMILY = frozenset({"code_activation", "latent_channels", "outputs", "shortcuts", "noise_level_input"})
_UNLABELLED = ("photographs", "pairs")
# Scaled images of pairs would have other noise.
_OF_IMAGE_FILES = {"size": frozenset({"folder", "photographs"}), "grey": frozenset({"folder", "photographs", "pairs"})}
_ALWAYS = frozenset({"family", "body"})
_OF_ONES_OWN = frozenset({"network", "arguments"})
_NLL_NEEDS = "evaluation.nll_samples needs a variational model with loss.likelihood bernoulli"


def find(config: Config) -> Iterator[str]:
    """Each setting that was changed and would have no effect, with what it needs.

    Raises:
        ConfigError: there is no such family.
    """
    if config.model.network:
        yield from _unused_beside_a_network(config)
        return
    network = autoencoders.find(config.model.family)
    yield from _unused_model_settings(config, network.model_settings)
    if config.model.smoothing and not (config.model.score or config.model.family == "detector"):
        yield "model.smoothing has no effect without model.score"
    for name in _changed(config.loss):
        if name not in network.loss_settings:
            yield f"loss.{name} has no effect on the family {network.family}"
    yield from _unused_settings_of_priors(config)
    yield from _unused_in_the_bound(config.loss)
    if config.optimizer.warm_up_share != Optimizer().warm_up_share and config.optimizer.schedule != "one-cycle":
        yield "optimizer.warm_up_share has no effect without optimizer.schedule one-cycle"
    if config.run.pixel_means and (config.model.body != "dense" or config.data.crop):
        yield "run.pixel_means needs a dense decoder"
    if config.evaluation.disentanglement and not (network.variational and config.model.latent_size):
        yield "evaluation.disentanglement needs a variational model with model.latent_size"
    if config.evaluation.nll_samples and not (network.variational and config.loss.likelihood == "bernoulli"):
        yield _NLL_NEEDS


def _unused_beside_a_network(config: Config) -> Iterator[str]:
    """Those that a network of the user's own would ignore."""
    yield from (
        f"model.{name} has no effect on model.network, which has its own"
        for name in _changed(config.model)
        if name not in _OF_ONES_OWN
    )
    yield from _unused_in_the_bound(config.loss)
    if config.run.pixel_means:
        yield "run.pixel_means has no effect on model.network, which draws its own weights"
    if config.evaluation.nll_samples and config.loss.likelihood != "bernoulli":
        yield _NLL_NEEDS


def _unused_in_the_bound(loss: Loss) -> Iterator[str]:
    """Settings of a bound of the likelihood that others of it leave without effect."""
    if loss.importance_samples > 1:
        yield from (
            f"loss.{name} has no effect with loss.importance_samples above 1"
            for name in _changed(loss)
            if name in _ONE_SAMPLE
        )
    elif loss.doubly_reparameterised:
        yield "loss.doubly_reparameterised has no effect with loss.importance_samples 1"
    if loss.total_correlation != 1 and not loss.beta:
        yield "loss.total_correlation has no effect with loss.beta 0"


def _unused_settings_of_priors(config: Config) -> Iterator[str]:
    """Those of learned priors, and those that such priors ignore."""
    model, loss = config.model, config.loss
    if model.prior == "flow":
        if model.latent_channels:
            yield "model.prior flow needs a vector code: model.latent_size, not model.latent_channels"
        if loss.free_bits:
            yield "loss.free_bits has no effect with model.prior flow, whose KL divergence has no part of each latent"
        if loss.total_correlation != 1:
            yield "loss.total_correlation has no effect with model.prior flow, whose KL divergence has no such part"
    else:
        yield from (
            f"model.{name} has no effect without model.prior flow"
            for name in _changed(model)
            if name in ("couplings", "coupling_hidden")
        )


def find_in_data(data: Data) -> Iterator[str]:
    """Each changed setting of image files that another kind of data would ignore; checkpoints may hold such."""
    for name in _changed(data):
        if name in _OF_IMAGE_FILES and data.kind not in _OF_IMAGE_FILES[name]:
            yield f"data.{name} has no effect on --data {data.kind}"
        elif name == "flips" and not data.crop:
            yield "data.flips has no effect without data.crop"
        elif name == "masks" and not (data.kind == "folder" and data.normal):
            yield "data.masks has no effect without --data folder and data.normal"
        elif name == "normal" and data.kind in _UNLABELLED:
            yield f"data.normal has no effect on --data {data.kind}"


def _unused_model_settings(config: Config, used: frozenset[str]) -> Iterator[str]:
    model = config.model
    for name in _changed(model):
        if name in _OF_ONES_OWN:
            yield f"model.{name} has no effect without model.network"
        elif name in _OF_A_BODY - _BODIES[model.body]:
            yield f"model.{name} has no effect with model.body {model.body}"
        elif name == "latent_channels" and name not in used and "latent_size" in used:
            yield f"the family {model.family} needs a vector code: model.latent_size, not model.latent_channels"
        elif name not in used | _ALWAYS and (name not in _OF_A_BODY or name in _OF_A_FAMILY):
            yield f"model.{name} has no effect on the family {model.family}"


def _changed(section: Section) -> Iterator[str]:
    """Names of the settings that are not at their defaults."""
    for name, field in type(section).model_fields.items():
        if getattr(section, name) != field.default:
            yield name
