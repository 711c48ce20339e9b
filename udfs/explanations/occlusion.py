"""Saliency of an image: by how much the answer falls when a patch of it is covered.

A square patch is laid on every place; the pixels under it take the value they have in the mean background. A pixel's saliency is
the mean fall over all patches that cover it: positive where the pixel speaks for the answer, negative where against it.

Source: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]


def occlusion(
    score: Callable[[Float32], Float64], image: Float32, cover: Float32, *, width: int, patch: int
) -> tuple[float, Float64]:
    """Cover each patch once.

    Args:
        score: float32[images, pixels] to float64[images].
        image: float32[pixels], row by row from the top.
        cover: float32[pixels], what a covered pixel shows.
        width: pixels in a row; divides the number of pixels.
        patch: side of the patch, at most the smaller side of the image.

    Returns:
        the score of the whole image, and float64[pixels].
    """
    height = len(image) // width
    inside = np.arange(patch)[:, None] * width + np.arange(patch)
    corners = (np.arange(height - patch + 1)[:, None] * width + np.arange(width - patch + 1)).reshape(-1)
    places = corners[:, None] + inside.reshape(-1)  # [patches, pixels of one]
    covered = np.tile(image, (len(places) + 1, 1))
    np.put_along_axis(covered[1:], places, cover[places], axis=1)
    scores = score(covered)
    fall = np.broadcast_to((scores[0] - scores[1:])[:, None], places.shape)
    total = np.bincount(places.reshape(-1), fall.reshape(-1), minlength=len(image))
    often = np.bincount(places.reshape(-1), minlength=len(image))
    return float(scores[0]), total / often
