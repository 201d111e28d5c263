"""Facts about single images: format, size, pixels, and what is suspicious about them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from pytorch_intro.data.duplicates import hash_images
from pytorch_intro.data.ingest.decoder import METADATA, SIXTEEN_BITS, Decoder, pil_to_chw, to_array
from pytorch_intro.data_report.similar import MIN_DETAIL, SIDE, perceptual_hash, thumbnails

# What can be suspicious about an image; their bits are stored together.
ONE_COLOR, NO_DETAIL, ANIMATED, TURNED, WRONG_SUFFIX, BROKEN = (1 << bit for bit in range(6))

FACTS = np.dtype(
    [
        ("pixels", np.int64),  # hash of all pixels
        ("phash", np.uint64),  # perceptual hash
        ("width", np.int32),
        ("height", np.int32),
        ("kind", np.int16),  # index of format and mode in a list of names
        ("flags", np.uint8),
        ("label", np.int64),
    ],
    align=True,  # torch.from_numpy needs it
)
Facts = tuple[int, int, int, int, str, int]  # the first four fields, format and mode, and the flags

SAME_FORMAT = {"MPO": "JPEG", "APNG": "PNG", "DIB": "BMP"}  # variants with the same suffixes
TO_RGB = Decoder((1, 1), channels=3)


def inspect_image(image: Any) -> Facts:
    """Return the facts about an image: a PIL image, which is decoded completely, an array or a tensor.

    Raises:
        ValueError, OSError: if it cannot be decoded; see Decoder.
    """
    is_pil = isinstance(image, Image.Image)
    kind, flags = (describe_file(image), flag_file(image)) if is_pil else ("", 0)  # before it is decoded
    pixels = to_pixels(image)
    kind = kind or f"array {describe_channels(len(pixels))}"
    _, height, width = pixels.shape
    batch = torch.from_numpy(pixels)[None]
    thumb = thumbnail(pixels)[None]
    flags |= int(flag_content(batch, thumb)[0])
    return int(hash_images(batch)), int(perceptual_hash(thumb)[0]), width, height, kind, flags


def inspect_batch(images: Tensor) -> np.ndarray:
    """Return the facts about images (N, C, H, W) uint8, without their kind and label: (N,) FACTS."""
    facts = np.zeros(len(images), FACTS)
    thumbs = thumbnails(images)
    facts["pixels"] = hash_images(images).numpy()
    facts["phash"] = perceptual_hash(thumbs)
    facts["height"], facts["width"] = images.shape[2:]
    facts["flags"] = flag_content(images, thumbs)
    return facts


def flag_content(images: Tensor, thumbs: Tensor) -> np.ndarray:
    """Return ONE_COLOR and NO_DETAIL where they hold; (N, C, H, W) uint8, (N, SIDE, SIDE) to (N,) uint8."""
    channels = images.flatten(2)
    is_one_color = (channels.amax(dim=2) == channels.amin(dim=2)).all(dim=1)
    has_no_detail = thumbs.flatten(1).std(dim=1) < MIN_DETAIL
    return (is_one_color * ONE_COLOR + has_no_detail * NO_DETAIL).numpy().astype(np.uint8)


def describe_file(image: Image.Image) -> str:
    return " ".join(filter(None, (image.format, image.mode)))


def flag_file(image: Image.Image) -> int:
    """Return the flags of a file that is opened, but not decoded yet."""
    flags = 0
    file_format = image.format or ""
    if suffix := Path(getattr(image, "filename", "")).suffix.lower():
        by_suffix = Image.registered_extensions().get(suffix, suffix)
        if file_format and SAME_FORMAT.get(file_format, file_format) != SAME_FORMAT.get(by_suffix, by_suffix):
            flags |= WRONG_SUFFIX
    if getattr(image, "is_animated", False) and file_format != "MPO":  # the second picture of an MPO is a preview
        flags |= ANIMATED
    if "exif" in image.info and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        flags |= TURNED
    return flags


def decode_pixels(image: Image.Image) -> np.ndarray:
    """Return all pixels of a PIL image, turned by its EXIF orientation, as (C, H, W) uint8.

    Any 8-bit mode becomes RGB on white, so that the same picture has the same pixels in every mode. A 16-bit image
    keeps all its bits, as two channels.
    """
    if image.info.keys() & METADATA:
        image = ImageOps.exif_transpose(image)
    if image.mode in SIXTEEN_BITS:
        values = np.asarray(image).clip(0, 2**16 - 1).astype(np.uint16)
        return np.stack([values >> 8, values & 255]).astype(np.uint8)
    return pil_to_chw(TO_RGB.convert_image(image))


def thumbnail(pixels: np.ndarray) -> Tensor:
    """Return the gray thumbnail of an image (C, H, W) uint8, (SIDE, SIDE) float32 from 0 to 255."""
    small = to_pil(pixels).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return torch.from_numpy(np.array(small, np.float32))


def to_pil(pixels: np.ndarray) -> Image.Image:
    """Return an image (C, H, W) uint8 as a PIL image: RGB, or gray unless it has three channels.

    The values of a 16-bit image, in two channels, are scaled to the full range, of which it may use a part only.
    """
    if len(pixels) == 3:
        return Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    gray = pixels.mean(axis=0)
    if len(pixels) == 2:
        values = pixels[0] * 256.0 + pixels[1]
        gray = (values - values.min()) * (255 / max(1.0, values.max() - values.min()))
    return Image.fromarray(gray.astype(np.uint8))


def load_thumbnail(image: Any) -> np.ndarray:
    """Return the thumbnail of an image of any kind, (SIDE, SIDE) float32."""
    return thumbnail(to_pixels(image)).numpy()


def load_preview(image: Any, side: int = 260) -> np.ndarray:
    """Return an image of any kind as RGB, (H, W, 3) uint8, with at most `side` pixels on its longer side."""
    preview = to_pil(to_pixels(image)).convert("RGB")
    preview.thumbnail((side, side))
    return np.array(preview)


def to_pixels(image: Any) -> np.ndarray:
    """Return all pixels of a PIL image, an array or a tensor, as (C, H, W) uint8; see decode_pixels."""
    return decode_pixels(image) if isinstance(image, Image.Image) else to_array(image)


def describe_channels(count: int) -> str:
    return {1: "gray", 3: "RGB"}.get(count, f"{count} channels")
