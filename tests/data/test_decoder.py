"""Any image, tensor or array becomes uint8 (C, H, W) of one shape, as an image viewer would show it."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pytorch_intro.data.ingest.decoder import Decoder, get_shape


@pytest.fixture
def photo() -> Image.Image:
    """A colorful image, 24 wide and 16 high."""
    rows, columns = np.mgrid[0:16, 0:24]
    return Image.fromarray(np.stack([rows * 15, columns * 10, 255 - rows * 15], axis=2).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    """Return the image as it is read from a file of this format."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


KINDS = {
    "JPEG": ("RGB", "JPEG"),
    "JPEG gray": ("L", "JPEG"),
    "JPEG for print": ("CMYK", "JPEG"),
    "PNG": ("RGB", "PNG"),
    "PNG gray": ("L", "PNG"),
    "PNG palette": ("P", "PNG"),
    "PNG alpha": ("RGBA", "PNG"),
    "PNG gray alpha": ("LA", "PNG"),
    "PNG black and white": ("1", "PNG"),
    "WebP": ("RGB", "WEBP"),
    "WebP alpha": ("RGBA", "WEBP"),
    "BMP": ("RGB", "BMP"),
    "TIFF": ("RGB", "TIFF"),
}


@pytest.mark.parametrize(("mode", "kind"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_format_is_decoded_to_the_saved_pixels(
    photo: Image.Image, mode: str, kind: str, channels: int
) -> None:
    """Up to the losses of compression and palette."""
    original = photo.convert(mode)
    pixels = Decoder((16, 24), channels)(saved(original, kind))
    assert pixels.shape == (channels, 16, 24)
    assert pixels.dtype == np.uint8
    expected = np.asarray(original.convert("RGB").convert("RGB" if channels == 3 else "L")).reshape(16, 24, channels)
    assert np.abs(pixels.transpose(1, 2, 0).astype(int) - expected).mean() < 6


def test_lossless_files_keep_every_pixel(photo: Image.Image) -> None:
    assert np.array_equal(Decoder((16, 24), 3)(saved(photo, "PNG")), np.asarray(photo).transpose(2, 0, 1))


def test_16_bit_images_keep_their_upper_8_bits() -> None:
    levels = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    assert Decoder((2, 3), 1)(saved(Image.fromarray(levels), "PNG")).tolist() == [[[0, 0, 1], [128, 254, 255]]]


def test_transparent_pixels_become_white(photo: Image.Image) -> None:
    """In alpha channels and palettes."""
    photo.putalpha(Image.new("L", photo.size, 0))
    assert Decoder((16, 24), 3)(saved(photo, "PNG")).min() == 255
    palette = Image.new("P", (3, 3), 0)
    assert Decoder((3, 3), 1)(saved(palette, "PNG", transparency=0)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_rotated_by_their_exif_orientation(photo: Image.Image, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = saved(photo, kind, exif=exif)
    upright = ImageOps.exif_transpose(saved(photo, kind, exif=exif))
    assert get_shape(turned) == (3, upright.height, upright.width)
    pixels = Decoder((upright.height, upright.width), 3)(saved(photo, kind, exif=exif))
    assert np.abs(pixels.transpose(1, 2, 0).astype(int) - np.asarray(upright)).mean() < 3


def test_another_aspect_ratio_is_cropped_padded_or_stretched() -> None:
    """An image of three squares: red, green, blue."""
    squares = np.zeros((8, 24, 3), np.uint8)
    for number in range(3):
        squares[:, 8 * number : 8 * number + 8, number] = 255
    picture = Image.fromarray(squares)
    cropped = Decoder((8, 8), 3, "crop")(picture)
    assert cropped[1].min() > 250
    assert cropped[0].max() < 5
    padded = Decoder((24, 24), 3, "pad")(picture)
    assert padded[:, :8].max() == padded[:, 16:].max() == 0
    assert np.array_equal(padded[:, 8:16], squares.transpose(2, 0, 1))
    stretched = Decoder((8, 12), 3, "stretch")(picture)
    assert [int(stretched[c, 4, 4 * c + 1]) for c in range(3)] == [255, 255, 255]


@pytest.mark.parametrize(("mode", "color"), [("RGB", (200, 30, 90)), ("L", (130,))])
def test_padding_has_the_color_of_the_border(mode: str, color: tuple[int, ...]) -> None:
    """That is the median of the outermost pixels, whatever is in the middle or in a corner."""
    picture = Image.new(mode, (24, 8), color if mode == "RGB" else color[0])
    picture.paste(Image.new(mode, (4, 8)), (10, 0))
    padded = Decoder((24, 24), len(color), "pad_border")(picture)
    assert padded.shape == (len(color), 24, 24)
    for rows in (padded[:, :8], padded[:, 16:]):
        assert np.array_equal(rows, np.broadcast_to(np.array(color)[:, None, None], rows.shape))
    assert padded[:, 8:16, 10:14].max() == 0
    upright = Decoder((24, 24), len(color), "pad_border")(picture.transpose(Image.Transpose.TRANSPOSE))
    assert np.array_equal(upright, padded.transpose(0, 2, 1))


def test_a_large_jpeg_decoded_at_reduced_size_looks_the_same() -> None:
    rows, columns = np.mgrid[0:600, 0:800]
    large = Image.fromarray(np.stack([rows // 3, columns // 4, (rows + columns) // 6], axis=2).astype(np.uint8))
    fast = Decoder((30, 40), 3)(saved(large, "JPEG", quality=95)).astype(int)
    slow = np.asarray(large.resize((40, 30), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(fast - slow).max() <= 4


@pytest.mark.parametrize(
    "image",
    [
        torch.arange(12, dtype=torch.uint8).view(1, 3, 4),
        torch.arange(12, dtype=torch.uint8).view(3, 4),
        torch.arange(12).view(1, 3, 4) / 255,
        np.arange(12, dtype=np.uint8).reshape(3, 4),
        np.arange(12, dtype=np.uint8).reshape(3, 4, 1),
        np.arange(12, dtype=np.float32).reshape(3, 4, 1) / 255,
        Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)),
    ],
)
def test_tensors_and_arrays_are_converted_like_in_torchvision(image: Any) -> None:
    assert get_shape(image) == (1, 3, 4)
    assert Decoder((3, 4), 1)(image).tolist() == np.arange(12).reshape(1, 3, 4).tolist()


def test_tensors_are_resized_and_may_have_any_number_of_channels() -> None:
    assert Decoder((6, 8), 3)(torch.full((1, 3, 4), 7, dtype=torch.uint8)).tolist() == np.full((3, 6, 8), 7).tolist()
    assert Decoder((3, 4), 5)(torch.zeros(5, 3, 4)).shape == (5, 3, 4)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (torch.randn(1, 3, 4) * 9, "0 to 1"),
        (torch.zeros(1, 3, 4, dtype=torch.int64), "int64"),
        (torch.zeros(2, 1, 3, 4), "shape"),
        (torch.zeros(5, 6, 8), "1 or 3 channels"),
        ("cat.png", "str"),
        (Image.new("F", (4, 3)), "floating point"),
    ],
)
def test_objects_that_are_not_images_are_rejected(image: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Decoder((3, 4), 1)(image)
