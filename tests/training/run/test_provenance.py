from pathlib import Path

import numpy as np
import pytest

from training import checkpoint
from training.data.dataset import Dataset
from training.data.split import Split
from training.errors import CheckpointError
from training.run import provenance


def test_a_run_names_its_settings_and_data(vae_run: Path) -> None:
    meta = checkpoint.read_meta(vae_run / "best")
    found = provenance.origin(meta, vae_run)
    assert (found.config.name, found.data, found.sha256) == ("vae", "digits", meta["data"]["sha256"])


@pytest.mark.parametrize("section", ["config", "data", "metrics", "epoch"])
def test_a_description_without_a_section_is_refused_by_name(vae_run: Path, section: str) -> None:
    meta = checkpoint.read_meta(vae_run / "best")
    del meta[section]
    with pytest.raises(CheckpointError, match=f"checkpoint.json does not describe a run: {section}"):
        provenance.origin(meta, vae_run)


def test_settings_that_no_release_takes_are_refused_with_the_file(vae_run: Path) -> None:
    meta = checkpoint.read_meta(vae_run / "best")
    meta["config"]["run"]["epochs"] = 0
    with pytest.raises(CheckpointError, match=r"checkpoint.json does not describe a run: .*run.epochs"):
        provenance.origin(meta, vae_run)


@pytest.mark.parametrize(("shape", "rows"), [((28, 28, 1), 1_024), ((256, 256, 1), 1_024), ((512, 512, 3), 85)])
def test_reference_images_are_few_enough_and_keep_their_type(shape: tuple[int, int, int], rows: int) -> None:
    # As large as these, and no memory taken for them.
    images = np.broadcast_to(np.zeros(1, np.uint8), (1_500, *shape))
    split = Split(images, None)
    found = provenance.reference(Dataset("large", split, split, split)).images
    assert (len(found), found.dtype) == (rows, np.uint8)
    assert found.nbytes <= 64 * 2**20
