"""Unused settings: those that the chosen model would ignore are refused, because setting one expects an effect."""

from collections.abc import Iterator

from training.config import Config, Data, Section
from training.models import autoencoders

# The bound of many samples has no KL divergence of its own that could be free, and sees images as they are.
_ONE_SAMPLE = frozenset({"free_bits", "encoder_noise"})
_BODY = {"dense": frozenset({"hidden", "activation", "code_activation"}), "conv": frozenset({"channels", "upsampling"})}
_OF_IMAGE_FILES = frozenset({"size", "grey"})
_ALWAYS = frozenset({"family", "body"})


def find(config: Config) -> Iterator[str]:
    """Each setting that was changed and would have no effect, with what it needs.

    Raises:
        ConfigError: there is no such family.
    """
    network = autoencoders.find(config.model.family)
    yield from _unused_model_settings(config, network.model_settings)
    for name in _changed(config.loss):
        if name not in network.loss_settings:
            yield f"loss.{name} has no effect on the family {network.family}"
        elif name in _ONE_SAMPLE and config.loss.importance_samples > 1:
            yield f"loss.{name} has no effect with loss.importance_samples above 1"
    if config.evaluation.nll_samples and not (network.variational and config.loss.likelihood == "bernoulli"):
        yield "evaluation.nll_samples needs a variational model with loss.likelihood bernoulli"


def find_in_data(data: Data) -> Iterator[str]:
    """Each changed setting of image files that another kind of data would ignore; checkpoints may hold such."""
    if data.kind != "folder":
        for name in _changed(data):
            if name in _OF_IMAGE_FILES:
                yield f"data.{name} has no effect on --data {data.kind}"


def _unused_model_settings(config: Config, used: frozenset[str]) -> Iterator[str]:
    model = config.model
    other_body = _BODY["conv" if model.body == "dense" else "dense"]
    for name in _changed(model):
        of_a_body = name in _BODY["dense"] | _BODY["conv"]
        if name in other_body:
            yield f"model.{name} has no effect with model.body {model.body}"
        elif name not in used | _ALWAYS and (not of_a_body or name == "code_activation"):
            yield f"model.{name} has no effect on the family {model.family}"


def _changed(section: Section) -> Iterator[str]:
    """Names of the settings that are not at their defaults."""
    for name, field in type(section).model_fields.items():
        if getattr(section, name) != field.default:
            yield name
