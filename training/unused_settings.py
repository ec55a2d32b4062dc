"""Which settings a kind of model heeds. One that it would ignore is refused: who sets it expects something of it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from training.config import Config, Section

PIXELS = frozenset({"likelihood", "sigma", "binarise"})
BOUND = frozenset({"beta", "warm_up_epochs"})
LOSS = {
    "ae": PIXELS,
    "denoiser": PIXELS | {"noise"},
    "vae": PIXELS | BOUND | {"free_bits", "importance_samples", "encoder_noise"},
    "multitask": PIXELS | BOUND | {"free_bits", "classification", "classifier_noise"},
    "vae-gan": BOUND | {"binarise", "adversarial", "gradient_penalty"},
}
# The bound of many samples has no KL divergence of its own that could be free, and sees images as they are.
ONE_SAMPLE = frozenset({"free_bits", "encoder_noise"})
BODY = {"dense": frozenset({"hidden", "activation", "code_activation"}), "conv": frozenset({"channels", "upsampling"})}
MODEL = {
    "ae": frozenset({"latent_size", "code_activation"}),
    "denoiser": frozenset(),
    "vae": frozenset({"latent_size"}),
    "multitask": frozenset({"latent_size", "classifier_hidden"}),
    "vae-gan": frozenset({"latent_size", "discriminator_channels"}),
}
ALWAYS = frozenset({"family", "body"})
WITH_LIKELIHOOD = ("vae", "multitask", "vae-gan")


def ignored(config: "Config") -> Iterator[str]:
    """Each setting that was changed and would have no effect, with what it wants."""
    family, model, loss = config.model.family, config.model, config.loss
    unused = BODY["conv" if model.body == "dense" else "dense"]
    for name in changed(model):
        body_only = name in BODY["dense"] | BODY["conv"]
        if name in unused:
            yield f"model.{name} has no effect with model.body {model.body}"
        elif name not in MODEL[family] | ALWAYS and (not body_only or name == "code_activation"):
            yield f"model.{name} has no effect on the family {family}"
    for name in changed(loss):
        if name not in LOSS[family]:
            yield f"loss.{name} has no effect on the family {family}"
        elif name in ONE_SAMPLE and loss.importance_samples > 1:
            yield f"loss.{name} has no effect with loss.importance_samples above 1"
    if config.evaluation.nll_samples and (family not in WITH_LIKELIHOOD or loss.likelihood != "bernoulli"):
        yield "evaluation.nll_samples wants a variational model with loss.likelihood bernoulli"


def changed(section: "Section") -> Iterator[str]:
    """The settings of a section that are not at their defaults."""
    for name, field in type(section).model_fields.items():
        if getattr(section, name) != field.default:
            yield name
