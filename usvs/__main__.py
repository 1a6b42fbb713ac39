"""The command `usvs`, also as `python -m usvs`; it says which package is missing where even its parser cannot start."""

import sys

MISSING_EXIT_CODE = 4  # of `usvs.errors.MissingDependencyError`


def main() -> None:
    """Run the command line."""
    try:
        from usvs.cli import main as run
    except ImportError as error:
        _report(error)
    else:
        run()


def _report(error: ImportError) -> None:
    """Print what is missing, for ``doctor`` every check, and leave."""
    if sys.argv[1:2] == ["doctor"]:
        from usvs.doctor import examine

        print(examine())
    print(f"usvs: the command line cannot start ({error}): type 'usvs doctor'", file=sys.stderr)
    sys.exit(MISSING_EXIT_CODE)


if __name__ == "__main__":
    main()
