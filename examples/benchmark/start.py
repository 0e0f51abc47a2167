"""Measure the whole process for one photo: wall time and peak memory, beside `import tensorflow`.

    python start.py --photo cat.jpg --json start.json

A first run fills the caches and does not count; then both run in turn.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from statistics import median

from measure import make_photos, measure, mnv1


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="One photo, the whole process.")
    parser.add_argument("--photo", metavar="FILE", help="else one is generated, of 500x375")
    parser.add_argument("--runs", type=int, default=7, help="how often each runs (7)")
    parser.add_argument("--json", metavar="FILE", help="all figures")
    return parser.parse_args()


def main() -> int:
    """Run, and print the medians."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        photo = options.photo or make_photos(os.path.join(folder, "photo"), 1, (500, 375))[0]
        output = os.path.join(folder, "one.csv")
        where = ["--module", "bundled", "-o", output, "--force", "-q"]
        commands = {
            "mnv1": [*mnv1(), "classify", photo, *where],
            "tensorflow": [sys.executable, "-c", "import tensorflow"],
        }
        for command in commands.values():
            measure(command)
        runs = [
            {name: measure(command) for name, command in commands.items()}
            for _ in range(options.runs)
        ]
    seconds = {name: [run[name].seconds for run in runs] for name in commands}
    peaks = {name: [run[name].peak_mb for run in runs] for name in commands}
    print("| | seconds | peak MB |\n| --- | --- | --- |")
    said = {"mnv1": "mnv1 classify, one photo", "tensorflow": "import tensorflow"}
    for name, what in said.items():
        print(f"| {what} | {median(seconds[name]):.3f} | {median(peaks[name]):.0f} |")
    share = median(seconds["mnv1"]) / median(seconds["tensorflow"])
    print(f"\nmnv1 takes {share:.3f} of the time of the import")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"share": share, "seconds": seconds, "peak_mb": peaks}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
