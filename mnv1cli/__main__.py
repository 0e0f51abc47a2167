"""The program: `mnv1`, or `python -m mnv1cli`."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the program; Ctrl-C is quiet from the first import on."""
    try:
        from mnv1cli.cli import main as program

        program.main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
