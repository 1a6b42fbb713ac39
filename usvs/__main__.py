"""`python -m usvs` is the command `usvs`."""

from usvs.cli import main

if __name__ == "__main__":
    main()
