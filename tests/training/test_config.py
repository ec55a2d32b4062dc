import tomllib
from pathlib import Path

import pytest

from training.errors import ConfigError
from training.recipe import RECIPES, differences, load_recipe, recipe_names


@pytest.mark.parametrize("recipe", recipe_names())
@pytest.mark.parametrize("kind", ["mnist", "digits"])
def test_every_recipe_is_valid_and_named_after_its_file(recipe: str, kind: str) -> None:
    loaded = load_recipe(recipe, kind)
    assert loaded.name == recipe
    expected = loaded.expected
    assert expected.at_most or expected.at_least or expected.shortfall


def test_the_table_for_a_data_set_counts_only_there(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nsummary = ""\n[model]\nfamily = "ae"\nlatent_size = 2\n'
        "[run]\nepochs = 5\nbatch_size = 3\n[on.digits.run]\nepochs = 7\n"
    )
    assert load_recipe(str(path), "mnist").run.epochs == 5
    assert load_recipe(str(path), "digits").run.epochs == 7
    assert load_recipe(str(path), "digits").run.batch_size == 3


def test_later_overrides_win_over_flags_and_recipe() -> None:
    chosen = load_recipe(
        "vae", "digits", ["run.epochs=3", "model.hidden=[7, 5]", "optimizer.schedule=cosine"], {"run": {"epochs": 2}}
    )
    assert (chosen.run.epochs, chosen.model.hidden, chosen.optimizer.schedule) == (3, (7, 5), "cosine")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.epochs=0", "run.epochs.*greater than 0.*got 0"),
        ("optimizer.betas=[2.0, 0.9]", "optimizer.betas.0.*less than 1.*got 2.0"),
        ("run.epoch=3", "run.epoch: there is no such setting; did you mean run.epochs?"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate.*finite"),
        ("model.family=gan", "model.family.*got 'gan'"),
        ("epochs", "section.name=value"),
        ("optimizer.lr=1", r"optimizer.lr: there is no such setting; did you mean optimizer.learning_rate\?"),
        ("model.latents=1", r"did you mean model.latent_size\?"),
        ("model.size=1", r"did you mean model.latent_size\?"),
        ("model.learning_rate=1", r"did you mean optimizer.learning_rate\?"),
        ("optim.betas=1", r"optim: .*did you mean optimizer\?"),
        ("device.frobnicate=1", "device has name, threads, precision, compile"),
        ("run..epochs=1", "section.name=value"),
    ],
)
def test_a_wrong_override_is_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe("vae", "digits", [override])


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("fc-ae", "loss.beta=4", "loss.beta has no effect on the family ae"),
        ("vae", "loss.noise=0.5", "loss.noise has no effect on the family vae"),
        ("vae-gan", "loss.likelihood=gaussian", "loss.likelihood has no effect on the family vae-gan"),
        ("iwae", "loss.free_bits=0.5", "loss.free_bits has no effect with loss.importance_samples above 1"),
        ("iwae", "loss.total_correlation=4", "has no effect with loss.importance_samples above 1"),
        ("multitask-vae", "loss.total_correlation=4", "loss.total_correlation has no effect on the family multitask"),
        ("fc-ae", "evaluation.disentanglement=true", "evaluation.disentanglement needs a variational model"),
        ("conv-ae", "model.hidden=[100]", "model.hidden has no effect with model.body conv"),
        ("vae", "model.channels=[8]", "model.channels has no effect with model.body dense"),
        ("vae", "model.code_activation=relu", "model.code_activation has no effect on the family vae"),
        ("vae", "model.classifier_hidden=[9]", "model.classifier_hidden has no effect on the family vae"),
        ("denoiser", "model.latent_size=9", "model.latent_size has no effect on the family denoiser"),
        ("vae", "model.couplings=4", "model.couplings has no effect without model.prior flow"),
        ("fc-ae", "model.prior=flow", "model.prior has no effect on the family ae"),
        ("vae-gan", "model.prior=flow", "model.prior has no effect on the family vae-gan"),
        ("photo-vae", "model.prior=flow", "model.prior flow needs a vector code"),
        ("vae-flow", "loss.free_bits=0.5", "loss.free_bits has no effect with model.prior flow"),
        ("vae-flow", "loss.total_correlation=4", "loss.total_correlation has no effect with model.prior flow"),
        ("vae", "loss={beta=0, total_correlation=4}", "loss.total_correlation has no effect with loss.beta 0"),
        (
            "vae",
            "loss.doubly_reparameterised=true",
            "has no effect with loss.importance_samples 1",
        ),
        ("vae-gan", "optimizer.warm_up_share=0.5", "has no effect without optimizer.schedule one-cycle"),
        ("conv-ae", "run.pixel_means=true", "run.pixel_means needs a dense decoder"),
        ("fc-ae", "evaluation.nll_samples=5", "evaluation.nll_samples needs a variational model"),
    ],
)
def test_a_setting_that_would_be_ignored_is_refused(recipe: str, override: str, message: str) -> None:
    # lightning-bolts #328: a weight of the KL that nothing reads.
    with pytest.raises(ConfigError, match=message):
        load_recipe(recipe, "digits", [override])


@pytest.mark.parametrize("recipe", recipe_names())
def test_a_recipe_states_what_it_is(recipe: str) -> None:
    stated = tomllib.loads((RECIPES / f"{recipe}.toml").read_text())
    assert {"family"} <= stated["model"].keys()
    assert stated["loss"].keys() & {"likelihood", "adversarial"}
    assert {"learning_rate", "schedule"} <= stated["optimizer"].keys()
    assert "reference" in stated["expected"]
    assert stated["expected"].keys() & {"minutes", "shortfall"}


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'nope'.*denoiser, .*fc-ae.*vae"):
        load_recipe("nope", "digits")


def test_a_misspelt_recipe_is_recognised() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'conv_ae': did you mean conv-ae\?"):
        load_recipe("conv_ae", "digits")


def test_broken_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("name = ")
    with pytest.raises(ConfigError, match=r"broken.toml is not valid TOML"):
        load_recipe(str(path), "digits")


def test_differences_name_both_values() -> None:
    one, other = load_recipe("vae", "digits"), load_recipe("vae", "digits", ["run.seed=3", "model.latent_size=2"])
    assert differences(one, other) == ["model.latent_size: 2, not 20", "run.seed: 3, not 0"]
    assert differences(one, one) == []
