"""The Python API from a script without ``if __name__ == "__main__"``, and from standard input as in a notebook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import usvs

print("start")
clips = {{"clip_seconds": 0.5, "speech_seconds": 0.2, "order_spacing_seconds": 0.1, "order_jitter_seconds": 0.01}}
print(usvs.index_archive({archive!r}, {store!r}, clips=clips, workers=2))
print(usvs.prepare_store({store!r}, profile="quick", codec="raw", workers=2))
print(usvs.audit_store({store!r}, workers=2))
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["file", "stdin"])
def test_a_script_without_a_main_guard(make_video, tmp_path: Path, source: str) -> None:
    for number in range(3):
        make_video(f"p{number}/scan.mp4", count=25 + number)
    text = SCRIPT.format(archive=str(tmp_path / "archive"), store=str(tmp_path / "store"))
    (tmp_path / "script.py").write_text(text)
    ran = subprocess.run(
        [sys.executable, str(tmp_path / "script.py") if source == "file" else "-"],
        input=None if source == "file" else text,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    lines = ran.stdout.splitlines()
    assert lines.count("start") == 1
    assert lines[1].startswith("index: 3 of 3 scans usable: 0.1 minutes of video, 6 clips, 0 of them")
    assert "prepare: 3 scans prepared (78 frames, 0.1 minutes of video), 0 unchanged, 0 failed" in lines
    assert lines[-1] == "audit: 3 prepared scans checked, 0 problems found"
