import pytest
import torch

from training import optimization
from training.config import Loss, Optimizer


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_the_rate_never_exceeds_the_setting_and_is_positive(schedule: str) -> None:
    settings = Optimizer.model_validate({"learning_rate": 0.1, "schedule": schedule})
    rates = [optimization.learning_rate(settings, step, 200) for step in range(200)]
    assert max(rates) == pytest.approx(0.1)
    assert min(rates) > 0


def test_one_cycle_rises_a_tenth_and_then_falls() -> None:
    settings = Optimizer(learning_rate=0.1, schedule="one-cycle")
    rates = [optimization.learning_rate(settings, step, 200) for step in range(200)]
    assert rates[:21] == sorted(rates[:21])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[-1] < 1e-4


def test_the_share_of_the_rise_can_be_set() -> None:
    settings = Optimizer(learning_rate=0.1, schedule="one-cycle", warm_up_share=0.05)
    rates = [optimization.learning_rate(settings, step, 200) for step in range(200)]
    assert rates[9] == max(rates) == pytest.approx(0.1)
    assert rates[8] < rates[9] > rates[11]


def test_the_kl_weight_grows_linearly_to_beta() -> None:
    settings = Loss(beta=4.0, warm_up_epochs=2)
    assert [optimization.kl_weight(settings, step, 10) for step in (0, 5, 10, 20, 99)] == [0, 1, 2, 4, 4]
    assert optimization.kl_weight(Loss(beta=0.5), 0, 10) == 0.5


def test_gradients_are_those_of_backward_and_each_player_gets_its_own() -> None:
    one, other = torch.nn.Parameter(torch.tensor(2.0)), torch.nn.Parameter(torch.tensor(3.0))
    losses = {"first": one * other, "second": one * other**2}
    groups = {"first": [one], "second": [other]}
    optimization.hand_over(optimization.gradients(losses, groups), groups)
    assert (one.grad, other.grad) == (torch.tensor(3.0), torch.tensor(12.0))


def test_clipping_scales_to_the_limit_and_leaves_the_small() -> None:
    grads = [torch.tensor([3.0]), torch.tensor([4.0])]
    optimization.clip(grads, 5.0, 10.0)
    optimization.clip(grads, 5.0, 0.0)
    assert [float(grad) for grad in grads] == [3, 4]
    optimization.clip(grads, 5.0, 1.0)
    assert [float(grad) for grad in grads] == pytest.approx([0.6, 0.8])
