"""Decodes any image to uint8 (C, H, W), in the size and with the channels of its dataset."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

Resize = Literal["crop", "pad", "pad_border", "stretch"]
Interpolation = Literal["bilinear", "bicubic", "lanczos"]

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")
BIT_DEPTHS = (8, 10, 12, 14, 16)  # of cameras and scanners, whose values are stored in 16-bit files
METADATA = ("exif", "xmp", "XML:com.adobe.xmp")  # keys of Image.info that may contain the orientation
GRAY = ("1", "L", "LA", "La", *SIXTEEN_BITS)


@dataclass(frozen=True)
class Decoder:
    """Converts images to one size and number of channels; the same for training, evaluation and prediction.

    PIL images are rotated by their EXIF orientation, composited on white where transparent, and reduced from 16 bits
    to 8. Resizing happens once, with PIL's antialiased filters.

    Args:
        size: (H, W) in pixels.
        channels: 1 or 3 for PIL images; tensors may have any number, if all have the same.
        resize: Handling of other aspect ratios: center crop, padding (black or the border's color), stretching.
        bit_depth: Number of bits that 16-bit grayscale images use, of which the upper 8 are kept.
        interpolation: Filter of the resizing.
    """

    size: tuple[int, int]
    channels: int
    resize: Resize = "crop"
    bit_depth: int = 16
    interpolation: Interpolation = "bilinear"

    def __call__(self, image: Any) -> np.ndarray:
        """Convert a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W) or (H, W), to (C, H, W) uint8.

        Arrays and tensors are uint8, or floating point in [0, 1], as in torchvision.

        Raises:
            ValueError: if the image is none of these.
            OSError: if a PIL image turns out to be truncated.
        """
        if not isinstance(image, Image.Image):
            array = to_array(image)
            if array.shape == (self.channels, *self.size):
                return array
            image = chw_to_pil(array)
        if self.channels not in (1, 3):
            raise ValueError(f"a gray or RGB image, but the dataset has {self.channels} channels")
        return pil_to_chw(self.resize_image(self.load_oriented(image)))

    def load_box(self, image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
        """Load a box of a PIL image as (H, W, C) uint8, or (H, W) if gray.

        A JPEG file is decoded at a half, a quarter or an eighth of its size if the box still has enough pixels.

        Args:
            box: Left, top, right, bottom in pixels of the image, rotated by its EXIF orientation.
            size: (H, W) that the box is going to be resized to.
        """
        _, height, width = get_shape(image)
        factor = max(1, min((box[3] - box[1]) // size[0], (box[2] - box[0]) // size[1]))
        image.draft("RGB" if self.channels == 3 else "L", (image.width // factor, image.height // factor))
        if image.info.keys() & METADATA:  # else it would only copy the image
            image = ImageOps.exif_transpose(image)
        if image.size != (width, height):
            scales = (image.width / width, image.height / height) * 2
            left, top, right, bottom = (round(side * scale) for side, scale in zip(box, scales, strict=True))
            box = (left, top, max(right, left + 1), max(bottom, top + 1))
        return np.array(self.convert_image(image.crop(box)))

    def load_oriented(self, image: Image.Image) -> Image.Image:
        """Load the image, rotated by its EXIF orientation, as RGB or gray, at self.size or larger."""
        longer = 2 * max(self.size)  # twice the needed resolution is enough for the filter
        image.draft("RGB" if self.channels == 3 else "L", (longer, longer))
        return self.convert_image(ImageOps.exif_transpose(image))

    def convert_image(self, image: Image.Image) -> Image.Image:
        """Return the image as 8-bit RGB or gray, without transparency."""
        if image.mode == "F":
            raise ValueError("its pixels are 32-bit floating point; save it with 8 or 16 bits")
        if image.mode in SIXTEEN_BITS:
            values = np.asarray(image).clip(0, 2**self.bit_depth - 1)
            image = Image.fromarray((values >> (self.bit_depth - 8)).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB" if self.channels == 3 else "L")

    def resize_image(self, image: Image.Image) -> Image.Image:
        width_height = self.size[::-1]
        if image.size == width_height:
            return image
        if self.resize == "stretch":
            return image.resize(width_height, self.filter)
        if self.resize == "crop":
            return ImageOps.fit(image, width_height, self.filter)
        color = border_color(image) if self.resize == "pad_border" else None
        return ImageOps.pad(image, width_height, self.filter, color)

    @property
    def filter(self) -> Image.Resampling:
        return Image.Resampling[self.interpolation.upper()]


def to_array(image: Any) -> np.ndarray:
    """Convert a tensor (C, H, W) or (H, W), or an array (H, W) or (H, W, C), to an array (C, H, W) uint8.

    Raises:
        ValueError: if it is neither, or its values are neither uint8 nor floating point in [0, 1].
    """
    if not isinstance(image, (Tensor, np.ndarray)):
        raise ValueError(f"it is a {type(image).__name__}, expected a PIL image, a tensor or an array")
    shape = tuple(image.shape)
    layout = "(C, H, W)" if isinstance(image, Tensor) else "(H, W, C)"
    if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and looks_channels_swapped(shape, layout)):
        kind = "a tensor" if isinstance(image, Tensor) else "an array"
        raise ValueError(f"its shape is {shape}, expected {layout} or (H, W) for {kind}")
    array = image.numpy(force=True) if isinstance(image, Tensor) else image
    if array.ndim == 2:
        array = array[None]
    elif isinstance(image, np.ndarray):
        array = array.transpose(2, 0, 1)
    if np.issubdtype(array.dtype, np.floating) and array.min() >= 0 and array.max() <= 1:
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        limits = f" from {array.min():.3g} to {array.max():.3g}" if np.issubdtype(array.dtype, np.number) else ""
        raise ValueError(
            f"its values are {array.dtype}{limits}, expected uint8, or floating point from 0 to 1, not normalized"
        )
    return np.ascontiguousarray(array)


def border_brightness(pixels: np.ndarray) -> float:
    """Return the mean of the outermost pixels of an image (C, H, W) uint8, scaled to [0, 1]."""
    edges = (pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1])
    return float(np.concatenate([edge.ravel() for edge in edges]).mean() / 255)


def border_color(image: Image.Image) -> tuple[int, ...]:
    """Return the median of the outermost pixels of a gray or RGB image, per channel."""
    pixels = np.asarray(image).reshape(image.height, image.width, -1)
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return tuple(int(level) for level in np.median(edges, axis=0))


def looks_channels_swapped(shape: tuple[int, ...], layout: str) -> bool:
    """Return whether this looks like a tensor's layout where an array's is expected, or the reverse."""
    channels, last = (shape[0], shape[-1]) if layout == "(C, H, W)" else (shape[-1], shape[0])
    return channels > 8 and last in (1, 3, 4)


def pil_to_chw(image: Image.Image) -> np.ndarray:
    """Convert a gray or RGB PIL image to an array (C, H, W) uint8."""
    pixels = np.array(image)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)) if pixels.ndim == 3 else pixels[None]


def chw_to_pil(array: np.ndarray) -> Image.Image:
    """Convert an array (C, H, W) uint8 to a PIL image.

    Raises:
        ValueError: if it has neither 1 nor 3 channels.
    """
    if array.shape[0] == 1:
        return Image.fromarray(array[0])
    if array.shape[0] == 3:
        return Image.fromarray(array.transpose(1, 2, 0))
    raise ValueError(f"its shape is {array.shape}, and only images of 1 or 3 channels can be resized")


def get_shape(image: Any) -> tuple[int, int, int]:
    """Return (C, H, W) of an image before conversion; a PIL image is not decoded for it, and has 1 or 3 channels.

    Raises:
        ValueError: as in to_array.
    """
    if not isinstance(image, Image.Image):
        channels, height, width = to_array(image).shape
        return channels, height, width
    width, height = image.size
    has_exif = "exif" in image.info  # getexif alone would decode a PNG; PIL itself rotates TIFFs
    if has_exif and image.getexif().get(ExifTags.Base.Orientation, 1) >= 5:  # 5 to 8 are a quarter turn
        width, height = height, width
    return (1 if image.mode in GRAY else 3), height, width


def get_bit_depth(image: Any) -> int:
    """Return the smallest of BIT_DEPTHS that holds the values of a 16-bit grayscale image; 0 for any other image."""
    if not isinstance(image, Image.Image) or image.mode not in SIXTEEN_BITS:
        return 0
    highest = int(np.asarray(image).max())
    return next((bits for bits in BIT_DEPTHS if highest < 2**bits), BIT_DEPTHS[-1])
