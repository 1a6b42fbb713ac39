"""Multi-frame DICOM files with known gray levels."""

from pathlib import Path

import numpy as np
import simplejpeg
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

LEVELS = (10, 60, 110, 160, 210, 250)


def gray_frames(levels=LEVELS, size=(24, 32)) -> np.ndarray:
    """Return frames with a horizontal ramp around one level each [n, H, W]."""
    ramp = np.linspace(-8, 5, size[1]).astype(int)
    return np.stack([np.clip(level + np.tile(ramp, (size[0], 1)), 0, 255) for level in levels]).astype(np.uint8)


def write_dicom(
    path: Path,
    pixels: np.ndarray | None = None,
    *,
    photometric: str = "MONOCHROME2",
    syntax: UID = ExplicitVRLittleEndian,
    frames: int | None = None,
    content: bytes | None = None,
    region: tuple[int, int, int, int] | None = None,
    **tags,
) -> FileDataset:
    """Write pixels [n, H, W] or [n, H, W, 3], or encoded `content`, with tags; the ends of a region are inclusive."""
    pixels, syntax = gray_frames() if pixels is None else pixels, UID(syntax)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = syntax, UltrasoundMultiFrameImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.PatientName, data.PatientID, data.Modality = "DOE^JANE", "19870203", "US"
    data.NumberOfFrames = len(pixels) if frames is None else frames
    data.Rows, data.Columns = pixels.shape[1:3]
    data.SamplesPerPixel = 1 if pixels.ndim == 3 else 3
    data.PhotometricInterpretation, data.PixelRepresentation = photometric, 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit = data.BitsStored - 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    if region is not None:
        item = Dataset()
        item.RegionSpatialFormat, item.RegionDataType = 1, 1
        item.RegionLocationMinX0, item.RegionLocationMinY0, item.RegionLocationMaxX1, item.RegionLocationMaxY1 = region
        data.SequenceOfUltrasoundRegions = [item]
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes() if content is None else content
    if syntax.is_encapsulated:
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return data


def jpegs(pixels: np.ndarray) -> bytes:
    """Return gray frames as encapsulated baseline JPEGs."""
    return encapsulate([simplejpeg.encode_jpeg(frame[:, :, None].copy(), 95, "GRAY") for frame in pixels])
