"""Limits on what one file of an archive may ask for, so that no file can use up the memory of the machine.

Each is far beyond any recording of ultrasound; a file that exceeds one is damaged, or not what it is taken for.
"""

from usvs.errors import DataError

# Pixels of one video frame, as stored and as shown: twice the 4K of the largest scanner screens. The sector is searched
# in 24 frames at once, which are 400 MB at this size.
MAX_FRAME_PIXELS = 1 << 24
# Pixels of a still picture, as stored: a photograph of 50 megapixels. Its gray levels are 540 MB at this size.
MAX_IMAGE_PIXELS = 1 << 26
# Width of a stored pixel over its height, or the inverse: half-height fields and half-width anamorphic formats are 2 to 3.
MAX_PIXEL_ASPECT = 8.0
# Sample rates of sound in Hz. Speech is not intelligible below 4 kHz, and resampling from a few Hz multiplies the samples
# by thousands; converters end at 768 kHz, and the filter for a higher rate grows with it.
MIN_SOUND_RATE_HZ, MAX_SOUND_RATE_HZ = 4_000, 768_000
# Seconds of silence that are inserted before a late sound and in gaps of its timestamps, all together: one hour at
# 48 kHz is 700 MB. A later sound belongs to another scan.
MAX_INSERTED_SILENCE_SECONDS = 3600.0


def check_frame_size(width: int, height: int, pixel_aspect: float = 1.0) -> None:
    """Check the size of a video frame, as stored, and the shape of its pixels.

    Raises:
        DataError: if it exceeds a limit.
    """
    if not 1 / MAX_PIXEL_ASPECT <= pixel_aspect <= MAX_PIXEL_ASPECT:
        raise DataError(
            f"pixel aspect ratio: expected 1/{MAX_PIXEL_ASPECT:g} to {MAX_PIXEL_ASPECT:g} (width over height), "
            f"got {pixel_aspect:.3g}"
        )
    _check_pixels("frame", width, height, max(1.0, pixel_aspect), MAX_FRAME_PIXELS)


def check_image_size(width: int, height: int) -> None:
    """Check the size of a still picture.

    Raises:
        DataError: if it exceeds the limit.
    """
    _check_pixels("picture", width, height, 1.0, MAX_IMAGE_PIXELS)


def check_sound_rate(rate_hz: int) -> None:
    """Check the sample rate of a sound.

    Raises:
        DataError: if it is out of range.
    """
    if not MIN_SOUND_RATE_HZ <= rate_hz <= MAX_SOUND_RATE_HZ:
        raise DataError(
            f"sample rate of the sound: expected {MIN_SOUND_RATE_HZ} to {MAX_SOUND_RATE_HZ} Hz, got {rate_hz} Hz"
        )


def check_inserted_silence(seconds: float) -> None:
    """Check how much silence is inserted into a sound, all together.

    Raises:
        DataError: if it exceeds the limit.
    """
    if seconds > MAX_INSERTED_SILENCE_SECONDS:
        raise DataError(
            f"silence before the sound and in its gaps: expected at most {MAX_INSERTED_SILENCE_SECONDS:g} s, got "
            f"{seconds:.0f} s (check sound_offset_seconds in manifest.csv)"
        )


def _check_pixels(what: str, width: int, height: int, aspect: float, limit: int) -> None:
    if not 0 < width * height * aspect <= limit:
        shown = f" shown with pixels of aspect {aspect:.3g}" if aspect != 1 else ""
        raise DataError(f"{what} size: expected at most {limit} pixels, got {width} x {height}{shown}")
