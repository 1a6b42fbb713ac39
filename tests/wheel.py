"""Builds the sdist and the wheel and tries the wheel in empty environments: `make wheel`.

    python -m tests.wheel                                  # with the torch that pip chooses
    python -m tests.wheel --torch 2.11.0 --torch 2.14.1    # one environment for each version
    python -m tests.wheel --wheel dist/usvs-0.1.0-cp311-cp311-linux_x86_64.whl --site /folder/with/torch

In each environment, with a folder of its own as the working directory: `examples/kernels_only.py`, `usvs doctor` and a
demo from a synthetic archive to a prediction and an export. Nothing is imported from the source tree.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.results import save_result

ROOT = Path(__file__).resolve().parents[1]
SMALL = "--profile quick --set optimiser.epochs=1 --set run.compile=eager"
DEMO = (
    "usvs doctor",
    "usvs phantom archive --patients 6 --set scan_seconds=24 --workers 1",
    "usvs index archive store --workers 1",
    "usvs prepare store --profile quick --workers 1",
    f"usvs pretrain store run {SMALL} --set validation_fraction=0.5 --set optimiser.batch_clips=8",
    f"usvs finetune planes store planes {SMALL} --set folds=2 --init run --patients held-out --allow-overlap",
    "usvs predict planes store --model planes --out predictions.csv",
    "usvs export run encoder",
)


def build(out: Path) -> Path:
    """Build both with `python -m build` and the packages that are installed here; return the wheel."""
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)], ROOT)
    (wheel,) = out.glob("usvs-*.whl")
    return wheel


def try_wheel(wheel: Path, requirement: str | None, site: Path | None, folder: Path) -> dict[str, str]:
    """Install the wheel into a new environment and run everything there.

    Args:
        wheel: to install.
        requirement: on torch, for pip; None: pip's choice.
        site: folder with an installed torch, in place of pip's.
        folder: a new one, for the environment and its outputs.

    Returns:
        The versions that everything ran with.
    """
    call([sys.executable, "-m", "venv", str(folder / "venv")], folder)
    python = folder / "venv" / "bin" / "python"
    if site is not None:
        (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (packages / "torch_of_another_folder.pth").write_text(f"{site}\n")
    torch = [requirement] if requirement else []
    call([str(python), "-m", "pip", "install", "--quiet", *torch, f"usvs[phantom] @ file://{wheel.resolve()}"], folder)
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    shutil.copy(ROOT / "examples" / "kernels_only.py", folder)
    call([str(python), "kernels_only.py"], folder, environment)
    program = "import platform, torch, usvs; print(usvs.__file__, torch.__version__, platform.python_version())"
    module, torch_version, python_version = call([str(python), "-c", program], folder, environment).split()
    if not module.startswith(str(folder)):
        sys.exit(f"wheel: expected usvs of the environment, got {module}")
    for command in DEMO:
        call(command.split(), folder, environment)
    print(f"wheel: everything ran with torch {torch_version}", flush=True)
    return {"torch": torch_version, "python": python_version}


def call(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """Run a command; leave with its output where it fails."""
    print(f"wheel: {' '.join(command)}", flush=True)
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout[-3000:]}{done.stderr[-3000:]}\nwheel: exit code {done.returncode}")
    return done.stdout


def main() -> None:
    """Parse the command line and try each version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="a wheel that is built already; default: build it")
    parser.add_argument("--torch", action="append", default=[], help="a version of torch; repeatable")
    parser.add_argument("--site", action="append", default=[], type=Path, help="a folder with a torch; repeatable")
    parser.add_argument("--out", type=Path, help="write what ran, with revision and device, to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="usvs_wheel_") as folder:
        wheel = build(Path(folder) / "dist") if options.wheel is None else options.wheel
        versions: list[tuple[str | None, Path | None]] = [(f"torch=={version}", None) for version in options.torch]
        versions += [(None, site) for site in options.site]
        ran = []
        for number, (requirement, site) in enumerate(versions or [(None, None)]):
            target = Path(folder) / f"environment_{number}"
            target.mkdir()
            ran.append(try_wheel(wheel, requirement, site, target))
        if options.out is not None:
            commands = ["python kernels_only.py", *DEMO]
            save_result(options.out, {"wheel": wheel.name, "environments": ran, "commands": commands})


if __name__ == "__main__":
    main()
