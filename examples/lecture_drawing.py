"""Drawing functions of the lecture's pictures."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

INK, FAINT = "#1f2430", "#7b8494"
TILE = 0.62  # inches


def strip(title: str, rows: dict[str, NDArray[np.float32]], notes: list[str] | None = None) -> Figure:
    """Rows of images with their names."""
    columns = max(len(images) for images in rows.values())
    width, height = 1.7 + columns * TILE + 0.2, 0.8 + len(rows) * TILE + 0.2
    figure = Figure(figsize=(width, height), facecolor="white")
    for index, (name, images) in enumerate(rows.items()):
        bottom = height - 0.8 - (index + 1) * TILE
        box = (1.7 / width, bottom / height, len(images) * TILE / width, TILE * 0.96 / height)
        show(figure.add_axes(box, xticks=[], yticks=[]), mosaic(images[np.newaxis]))
        middle = (bottom + TILE / 2) / height
        figure.text(0.2 / width, middle + 0.07 / height, name, color=INK, fontsize=10, va="center")
        if notes and notes[index]:
            figure.text(0.2 / width, middle - 0.13 / height, notes[index], color=FAINT, fontsize=8.5, va="center")
    heading(figure, title, "")
    return figure


def heading(figure: Figure, title: str, subtitle: str) -> None:
    """Title and a fainter subtitle, at fixed distances from the top edge."""
    width, height = figure.get_size_inches()
    figure.text(0.2 / width, 1 - 0.3 / height, title, color=INK, fontsize=13, va="center")
    figure.text(0.2 / width, 1 - 0.53 / height, subtitle, color=FAINT, fontsize=9, va="center")


def mosaic(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(rows, columns, H, W, C) to one image."""
    rows, columns, height, width, channels = images.shape
    return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, channels)


def show(axes: Axes, image: NDArray[np.float32]) -> None:
    """An image without a frame; grey images are drawn dark on white."""
    grey = image.shape[-1] == 1
    axes.imshow(image[..., 0] if grey else image, cmap="gray_r" if grey else None, vmin=0, vmax=1, aspect="auto")
    axes.spines[:].set_visible(False)
