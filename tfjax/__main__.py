"""`python -m tfjax` is `tfjax`."""

from tfjax.tools.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
