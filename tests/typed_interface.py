"""Whether the public interface is completely typed, by pyright: `make types`.

    python -m tests.typed_interface --out docs/results/types.json

Fails where a symbol that `usvs` exports has no known type, or a function or a class has no docstring.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.results import save_result

ROOT = Path(__file__).resolve().parents[1]


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """Return the counts of pyright's JSON report on types."""
    found = report["typeCompleteness"]
    return {
        "pyright": report["version"],
        "completeness": found["completenessScore"],
        "exported_symbols": found["exportedSymbolCounts"],
        "functions_without_docstring": found["missingFunctionDocStringCount"],
        "classes_without_docstring": found["missingClassDocStringCount"],
    }


def main() -> None:
    """Run pyright."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the counts, with revision, to this JSON file")
    options = parser.parse_args()
    pyright = shutil.which("pyright") or str(Path(sys.executable).with_name("pyright"))
    command = [pyright, "--verifytypes", "usvs", "--ignoreexternal", "--outputjson"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout.lstrip().startswith("{"):
        sys.exit(f"types: expected a report of pyright, got exit code {done.returncode}: {done.stderr[-2000:]}")
    report = json.loads(done.stdout)
    found = summary(report)
    print(f"types: {json.dumps(found)}")
    for symbol in report["typeCompleteness"]["symbols"]:
        for problem in symbol["diagnostics"] if symbol["isExported"] else []:
            print(f"types: {symbol['name']}: {problem['message']}")
    if options.out is not None:
        save_result(options.out, found)
    without = found["functions_without_docstring"] + found["classes_without_docstring"]
    sys.exit(found["completeness"] < 1 or without > 0)


if __name__ == "__main__":
    main()
