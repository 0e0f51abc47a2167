"""Measure whether memory and the cost per image grow with the number of images.

    python memory.py --photos PHOTOS --json memory.json

Peak memory over 2,000 and 20,000 photos; the time an image over 2,000, 20,000
and 200,000 paths to pictures of 32x32, whose decoding costs next to nothing.
A few files are listed over and over.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from typing import TYPE_CHECKING

from measure import Measured, listing, make_photos, measure, mnv1, write_list

if TYPE_CHECKING:
    from collections.abc import Sequence

TINY = 16


def classify(
    folder: str, photos: Sequence[str], counts: Sequence[int], options: Sequence[str]
) -> dict[int, Measured]:
    """Run the command once for every number of images."""
    runs = {}
    for images in counts:
        paths = write_list(os.path.join(folder, "list.txt"), photos, images)
        where = ["-o", os.path.join(folder, "rows.csv"), "--force", "-q"]
        what = ["--files-from", paths, "--module", "bundled", *options]
        runs[images] = measure([*mnv1(), "classify", *what, *where])
        print(f"{images} images: {runs[images].seconds:.1f} s", file=sys.stderr, flush=True)
    return runs


def marginal_ms(runs: dict[int, Measured]) -> dict[int, float]:
    """Return the time of each image beyond those of the run before."""
    counts = sorted(runs)
    return {
        more: (runs[more].seconds - runs[fewer].seconds) / (more - fewer) * 1e3
        for fewer, more in itertools.pairwise(counts)
    }


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Parse the command line; unknown options go to `mnv1 classify`."""
    parser = argparse.ArgumentParser(description="Memory and time over many images.")
    parser.add_argument("--photos", metavar="DIR", help="else 93 are generated, of 500x375")
    parser.add_argument("--memory", type=int, nargs="*", default=[2_000, 20_000], metavar="N")
    parser.add_argument("--paths", type=int, nargs="*", metavar="N", help="2000 20000 200000")
    parser.add_argument("--json", metavar="FILE", help="all figures")
    parser.set_defaults(paths=[2_000, 20_000, 200_000])
    return parser.parse_known_args()


def main() -> int:
    """Run, and print both tables."""
    options, passed_on = parse()
    with tempfile.TemporaryDirectory() as folder:
        tiny = make_photos(os.path.join(folder, "tiny"), TINY, (32, 32), suffix="png")
        tiny += make_photos(os.path.join(folder, "tiny-jpg"), TINY, (32, 32))
        if options.photos:
            photos = listing(options.photos)
        else:
            photos = make_photos(os.path.join(folder, "photos"), 93, (500, 375))
        # The first run of a module prepares it, which is not what is measured here.
        classify(folder, tiny, [1000], passed_on)
        full = classify(folder, photos, options.memory, passed_on)
        small = classify(folder, tiny, options.paths, passed_on)
    beyond = marginal_ms(small)
    print("| photos | peak MB |\n| --- | --- |")
    for images, run in full.items():
        print(f"| {images} | {run.peak_mb:.0f} |")
    print("\n| small images | ms an image | of those beyond the row before | peak MB |")
    print("| --- | --- | --- | --- |")
    for images, run in small.items():
        each = run.seconds / images * 1e3
        more = f"{beyond[images]:.3f}" if images in beyond else ""
        print(f"| {images} | {each:.3f} | {more} | {run.peak_mb:.0f} |")
    if options.json:
        figures = {
            name: [
                {"images": n, "seconds": r.seconds, "peak_mb": r.peak_mb} for n, r in runs.items()
            ]
            for name, runs in (("photos", full), ("small", small))
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
