"""The package `usvs.media`: lazy imports, paths as text, and no side effects on the process."""

import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pydicom
import pytest
import soundfile

from tests.support.dicom_files import write_dicom
from tests.support.media_files import write_video
from usvs import media
from usvs.media.quiet_pydicom import quiet_pydicom

TONE = (0.3 * np.sin(np.arange(48_000) * 0.1)).astype(np.float32)


def test_the_package_imports_neither_ffmpeg_nor_opencv():
    heavy = ("av", "cv2", "pydicom", "soxr", "torch")
    code = f"import sys, usvs.media; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"


def test_every_public_name_can_be_imported():
    assert set(media.__all__) == set(dir(media))
    for name in media.__all__:
        assert getattr(media, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'read_nothing'"):
        _ = media.read_nothing


@pytest.mark.parametrize("as_path", [str, Path])
def test_paths_may_be_text(tmp_path: Path, as_path: type):
    path = write_video(tmp_path / "a.mp4", count=20, sound=TONE)
    soundfile.write(tmp_path / "a.wav", TONE, 48_000)
    info = media.read_video_info(as_path(path))
    frames = [gray for _, gray in media.iter_gray_frames(as_path(path), info)]
    assert len(frames) == info.frames == 20
    assert len(list(media.iter_keyframes(as_path(path), info, info.timing.keyframes))) >= 1
    assert media.detect_sector(frames) == media.detect_sector(np.stack(frames))
    assert len(media.read_audio(as_path(path), rate_hz=16_000)) == pytest.approx(16_000, abs=1100)
    assert len(media.read_audio(as_path(path), as_path(tmp_path / "a.wav"))) == pytest.approx(24_000, abs=2)


def test_an_audio_file_alone_is_read_from_its_first_sample(tmp_path: Path):
    soundfile.write(tmp_path / "a.wav", TONE, 48_000)
    np.testing.assert_allclose(media.read_audio(tmp_path / "a.wav", rate_hz=48_000), TONE, atol=1e-4)


def test_warnings_and_log_levels_are_as_before(tmp_path: Path, caplog, recwarn):
    """pydicom warns about an invalid value; the warning is suppressed and the user's own settings stay in force."""
    with quiet_pydicom():
        write_dicom(tmp_path / "a.dcm", FrameTime=40, PatientID="M" * 70)  # DICOM allows 64 characters
    logging.getLogger("pydicom").setLevel(logging.DEBUG)
    before = (logging.getLogger("pydicom").level, list(warnings.filters), av.logging.get_level())
    try:
        info = media.read_video_info(tmp_path / "a.dcm")
        assert len(list(media.iter_gray_frames(tmp_path / "a.dcm", info))) == 6
        assert (logging.getLogger("pydicom").level, list(warnings.filters), av.logging.get_level()) == before
    finally:
        logging.getLogger("pydicom").setLevel(logging.NOTSET)
    assert not [record for record in caplog.records if record.name.startswith("pydicom")] and not recwarn.list


def test_quiet_blocks_may_overlap(recwarn):
    logger = logging.getLogger("pydicom")

    def warn_quietly(_: int) -> bool:
        with quiet_pydicom(), quiet_pydicom():
            warnings.warn("quoted value", stacklevel=1)
            return logger.isEnabledFor(logging.CRITICAL)

    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(warn_quietly, range(200)))
    assert logger.level == logging.NOTSET and not recwarn.list
    warnings.warn("seen again", stacklevel=1)
    assert [str(warning.message) for warning in recwarn.list] == ["seen again"]


def test_pydicom_itself_still_warns(tmp_path: Path):
    with pytest.warns(UserWarning):
        pydicom.dataelem.DataElement(0x00080020, "DA", "not a date " * 9)
