"""The parts of tests/device/check.sh that need no emulator, on the CPU; `make rehearse` runs the whole script."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.device import small

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ops", "tiny", "join", "million"])
def test_a_part_passes_on_the_cpu(part: str, tmp_path: Path):
    command = [sys.executable, "-m", "tests.device.small", part, "--device", "cpu", "--out", str(tmp_path / "out.json")]
    subprocess.run(command, cwd=ROOT, check=True)
    assert isinstance(json.loads((tmp_path / "out.json").read_text()), dict)


def test_a_wrong_result_fails_a_part(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(small, "contrastive_loss", lambda *inputs: 1.001 * small.contrastive_loss_reference(*inputs))
    with pytest.raises(
        AssertionError, match=r"contrastive_loss torch.float32 eq2 \(64, 192, 128\): expected an error of"
    ):
        small.ops("cpu")


def test_results_name_every_part_with_its_outcome(tmp_path: Path):
    (tmp_path / "parts.tsv").write_text("ops\t0\t7\t60\ntests\t1\t50\t100\nmillion\t124\t45\t45\n")
    (tmp_path / "ops.json").write_text('{"error": 1e-7}')
    assert small.results(tmp_path) == 2
    parts = json.loads((tmp_path / "results.json").read_text())["parts"]
    assert [part["outcome"] for part in parts] == ["passed", "failed (1)", "too slow"]
    assert parts[0]["measured"] == {"error": 1e-7} and parts[1]["measured"] is None
    assert "| million | too slow | 45 | 45 |" in (tmp_path / "results.md").read_text()


def test_every_part_of_the_script_exists_and_its_limits_are_at_most_eight_minutes():
    script = (ROOT / "tests" / "device" / "check.sh").read_text()
    rehearsal, device = script.split("\nelse\n")
    for text in (rehearsal, device):
        lines = [line.split() for line in text.splitlines() if line.startswith(("  small ", "  part "))]
        assert {"ops", "tests", "memcheck", "racecheck", "join", "benchmarks", "million"} <= {line[1] for line in lines}
        for line in lines:
            assert line[0] != "small" or line[1] in small.PARTS
    assert sum(int(line.split()[2]) for line in device.splitlines() if line.startswith(("  small ", "  part "))) <= 480
