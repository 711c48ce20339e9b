"""Handwritten digits, real and labelled: the 1,797 images of 8 x 8 pixels that come with scikit-learn.

A pixel is one byte, brightness 0 to 16, row by row from the top left; an image is 64 raw bytes. The images are divided by a
seed, at random: the same writers are on both sides, so the accuracy is that for known writers.

Source: UCI Machine Learning Repository, data set 80 (test part).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.datasets import load_digits

from core.errors import InvalidInputError
from learning.labelled import LabelledRows

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]

CLASSES = tuple(str(digit) for digit in range(10))
FEATURES = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
SPLIT_SEED = 80  # fixed, so that models and streams of different runs agree on who saw what
_TRAIN, _VALIDATE = 700, 197


@dataclass(frozen=True)
class Images:
    """`pixels` uint8[images, 64], `digits` int64[images]."""

    pixels: UInt8
    digits: Int64


@dataclass(frozen=True)
class VisionImages:
    """`train` and `validate` are for models, `stream` is what they never see (900 images)."""

    train: Images
    validate: Images
    stream: Images


def load_vision() -> VisionImages:
    """Read and divide the set."""
    digits = load_digits()
    pixels, targets = digits.data.astype(np.uint8), digits.target.astype(np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pixels))
    parts = np.split(order, [_TRAIN, _TRAIN + _VALIDATE])
    return VisionImages(*(Images(pixels[part], targets[part]) for part in parts))


def vision_stream(
    start: datetime,
    images: int,
    *,
    interval: timedelta = timedelta(milliseconds=100),
    tenants: Sequence[str] = ("acme", "globex"),
) -> pa.Table:
    """The first images of the stream part with assigned times, dealt to the tenants in turn.

    Returns:
        tenant_id, entity_id, event_time, image (64 raw bytes), payload (base64 of them), label; `label` is to be held back.
    """
    stream = load_vision().stream
    if not 0 < images <= len(stream.digits) or start.tzinfo is None:
        raise InvalidInputError(
            f"cannot stream {images} images from `{start}`", fix=f"Ask for 1 to {len(stream.digits)}, from an instant in UTC."
        )
    position = np.arange(images)
    first = round(start.timestamp() * 1_000_000)
    raw = [image.tobytes() for image in stream.pixels[:images]]
    return pa.table(
        {
            "tenant_id": pa.array(list(tenants)).take(pa.array(position % len(tenants))),
            "entity_id": pa.array(["camera"] * images),
            "event_time": pa.array(first + position * round(interval / timedelta(microseconds=1)), pa.timestamp("us", "UTC")),
            "image": pa.array(raw, pa.binary()),
            "payload": pa.array([base64.b64encode(image).decode() for image in raw]),
            "label": pa.array([CLASSES[digit] for digit in stream.digits[:images].tolist()]),
        }
    )


def vision_rows(images: Images) -> LabelledRows:
    """Images as rows of 64 features."""
    return LabelledRows(images.pixels.astype(np.float32), images.digits, CLASSES)
