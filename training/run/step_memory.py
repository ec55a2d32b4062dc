"""Memory of a step: how many images it computes on at once, so that what autograd keeps for the gradient is bounded."""

import torch
from torch import Tensor

from training.config import Config
from training.data.dataset import Dataset
from training.losses import objectives
from training.models.families import Network
from training.random_streams import Draws, Purpose, generator

# Temporaries of the same size come beside it. No recipe comes near it on images of 28x28.
_KEPT_BYTES = 2**30


def rows_at_once(model: Network, dataset: Dataset, config: Config, device: torch.device) -> int:
    """How many images of a batch are computed on together: all on a GPU, whose memory the user chose a batch for."""
    if device.type != "cpu":
        return config.run.batch_size
    return max(1, min(config.run.batch_size, _KEPT_BYTES // max(1, _kept_bytes(model, dataset, config))))


def _kept_bytes(model: Network, dataset: Dataset, config: Config) -> int:
    """Bytes that autograd keeps for the gradient of one image, weights not counted."""
    height, width, channels = dataset.image_shape
    images = torch.zeros(1, channels, height, width)
    labels = None if dataset.train.labels is None else torch.zeros(1, dtype=torch.int64)
    weights = {each.untyped_storage().data_ptr() for each in model.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    draws = Draws.whole_batch(generator(0, Purpose.STEP), 1, images.device)
    was_training = model.training
    model.eval()
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outcome = objectives.evaluate(model, images, labels, draws, config.loss, 1.0)
    model.train(was_training)
    # The graph holds what was packed until here.
    del outcome
    return sum(kept.values())
