"""Decode an uploaded picture."""

import io

import numpy as np
from PIL import Image, UnidentifiedImageError

from pytorch_intro.common.errors import first_lines
from pytorch_intro.common.text import to_displayable
from pytorch_intro.inference.predict import Preprocessor

# Of the formats that Pillow reads, those that people upload. Others start programs: EPS runs Ghostscript.
Image.init()  # fills Image.OPEN
FORMATS: list[str] = [
    name for name in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM") if name in Image.OPEN
]
TILE_WIDTH, TILE_LENGTH = 322, 323  # tags of TIFF
MAX_REASON = 100  # characters of Pillow's messages


class PictureError(Exception):
    """Why an upload is not a picture that can be classified, in one sentence."""


def decode(content: bytes, preprocess: Preprocessor, max_pixels: int) -> np.ndarray:
    """Return the pixels of an image file, uint8 (C, H, W), preprocessed as in training.

    Args:
        max_pixels: Maximum of width times height; larger pictures are refused before they are decoded. So are those
            that Pillow decodes in Python, which takes up to minutes: PPM as text, and BMP with run-length encoding.

    Raises:
        PictureError: If the file is empty, not a picture, too large, or broken.
    """
    if not content:
        raise PictureError("the file is empty; send an image file")
    too_large = f"; send a picture of at most {max_pixels:,} pixels"
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise PictureError(f"the picture has {width:,} x {height:,} pixels{too_large}")
            tags = getattr(image, "tag_v2", {})
            tile_width, tile_length = int(tags.get(TILE_WIDTH, 0)), int(tags.get(TILE_LENGTH, 0))
            if tile_width * tile_length > max_pixels:  # a tile is decoded as a whole, however small the picture is
                raise PictureError(f"the picture has tiles of {tile_width:,} x {tile_length:,} pixels{too_large}")
            if any(tile[0] in Image.DECODERS for tile in image.tile):
                raise PictureError("the picture is in a rare form of its format that is slow to read; save it as PNG")
            return preprocess(image)[0]
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError("not a picture; send JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PictureError(f"the picture has far too many pixels{too_large}") from None
    except Exception as error:  # any kind: Pillow raises SyntaxError for a broken PNG
        reason = to_displayable(first_lines(error) or type(error).__name__, MAX_REASON)
        raise PictureError(f"the picture is broken ({reason}); save it again") from error
