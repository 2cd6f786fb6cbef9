"""One image file of any kind to the pixels a data set asks for.

- Orientation in EXIF is applied first.
- Transparent images are laid on white. 16-bit greys are divided by 257 (65,535 becomes 255). Colours become grey by
  luminance (ITU-R 601), palettes and CMYK become RGB. Of animations the first frame is taken.
- Of an image that is not square the centre square is taken, and the square is resized as a whole: shrunk by averaging
  (box filter, which the downsampled ImageNets use), enlarged by bilinear interpolation.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from carryover.images import MAX_PIXELS, encode_png

# Not every format Pillow knows: opening EPS, for one, would run Ghostscript on the file.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000")
MAX_FILE_BYTES = 256 << 20
_KEPT_FORMATS = ("JPEG", "PNG")
_MODES = {1: "L", 3: "RGB"}
_ORIENTATION = 0x0112


class BadImageError(Exception):
    """Why a file is not taken for an image: the end of a sentence that begins with the file's name."""


def convert(file: bytes, size: int, channels: int, encoded: bool) -> bytes:
    """Return an image as the bytes of its pixels, [size, size, channels], or, if `encoded`, as a JPEG or PNG file of them.

    A JPEG or PNG that already has the size and the channels stays as it is when `encoded`; anything else becomes a PNG
    file. Decoded, both give the pixels that the bytes of pixels have.

    Raises:
        BadImageError: if the file is no image, is damaged, or is too large.
    """
    try:
        with Image.open(io.BytesIO(file), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImageError(_too_large())
            image.load()
            orientation = image.getexif().get(_ORIENTATION, 1)
            if (image.mode, image.size, orientation) == (_MODES[channels], (size, size), 1) and not image.has_transparency_data:
                if not encoded:
                    return image.tobytes()
                if image.format in _KEPT_FORMATS:
                    return file
            upright = image if orientation == 1 else ImageOps.exif_transpose(image)
            pixels = _resized(_flattened(upright, _MODES[channels]), size)
    except BadImageError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError(f"is no image of a known format ({', '.join(FORMATS)})") from error
    except Image.DecompressionBombError as error:
        raise BadImageError(_too_large()) from error
    except Exception as error:  # Pillow's readers meet hostile files with any exception whatever.
        raise BadImageError(f"cannot be decoded ({str(error).strip().rstrip('.') or type(error).__name__})") from error
    return encode_png(np.asarray(pixels).reshape(size, size, channels)) if encoded else pixels.tobytes()


def _too_large() -> str:
    return f"has more than {MAX_PIXELS:,} pixels"


def _flattened(image: Image.Image, mode: str) -> Image.Image:
    """Return an image without transparency, palette or deep pixels, in the mode "L" or "RGB"."""
    if image.mode == "F":
        raise BadImageError("has floating-point pixels, whose range is not known")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image)).convert(mode)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert(mode)
    return image.convert(mode)


def _from_16_bits(values: np.ndarray) -> Image.Image:
    if values.min() < 0 or values.max() > 65535:
        raise BadImageError("has pixels of more than 16 bits")
    return Image.fromarray(np.rint(values / 257).astype(np.uint8))


def _resized(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    if image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    if side == size:
        return image
    return image.resize((size, size), Image.Resampling.BOX if side > size else Image.Resampling.BILINEAR)
