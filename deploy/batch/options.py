"""Options of a job, and their limits."""

from dataclasses import dataclass, fields
from typing import Any

from deploy.batch.errors import InputError

MAX_PART_IMAGES = 4096
"""What a crash of a worker costs at most: the images of a part are done again."""
MAX_PART_BYTES = 64 * 1024 * 1024
BATCH_IMAGES = 256
MAX_BATCH_BYTES = 2 * 1024 * 1024
"""Of files in a call: about as many pixels as a server takes in a request."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to do with which images, by which model, and where the rows go."""

    task: str
    bundle: str
    images: str
    output: str
    image_column: str = "image"
    id_column: str = ""
    resize: bool = False
    noise_level: float | None = None
    false_alarm_rate: float | None = None
    threshold: float | None = None
    map_threshold: float | None = None
    workers: int = 0
    address: str = ""
    batch_images: int = BATCH_IMAGES
    part_images: int = MAX_PART_IMAGES

    def check(self, max_request_images: int) -> None:
        """Refuse numbers out of range.

        Raises:
            InputError: says which.
        """
        limits = {"workers": (0, 65_536), "batch_images": (1, max_request_images), "part_images": (1, 1_048_576)}
        for name, (least, most) in limits.items():
            if not least <= (got := getattr(self, name)) <= most:
                raise InputError(f"--{name.replace('_', '-')}: expected {least} to {most}, got {got}")

    def decisive(self) -> dict[str, Any]:
        """Those on which the rows depend: a job can only go on with the same."""
        neutral = {"bundle", "output", "workers", "address", "batch_images", "part_images"}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in neutral}
