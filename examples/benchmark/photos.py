"""Generate pictures that decode and compress as photos do.

python photos.py FOLDER 93 500x375 --seed 0
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np

from mnv1cli.analysis.synthetic_photos import make_picture

_QUALITY = 92


def main() -> int:
    """Parse the command line and generate."""
    parser = argparse.ArgumentParser(description="Generate pictures that resemble photos.")
    parser.add_argument("folder")
    parser.add_argument("count", type=int)
    parser.add_argument("size", help="WIDTHxHEIGHT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--suffix", choices=("jpg", "png"), default="jpg")
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    os.makedirs(options.folder, exist_ok=True)
    random = np.random.default_rng(options.seed)
    for number in range(options.count):
        path = os.path.join(options.folder, f"{options.seed}-{number:05}.{options.suffix}")
        make_picture(random, width, height).save(path, quality=_QUALITY)
    return 0


if __name__ == "__main__":
    sys.exit(main())
