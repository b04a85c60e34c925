"""``python -m ekslearn``: the same as ``ekslearn``."""

from ekslearn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
