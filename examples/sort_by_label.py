"""Sort photos into folders by what they show.

    python sort_by_label.py PHOTOS SORTED            copy
    python sort_by_label.py PHOTOS SORTED --link     hard links, no space taken
    python sort_by_label.py PHOTOS SORTED --move
    python sort_by_label.py PHOTOS SORTED --module MODULE

PHOTOS/summer/a.jpg of a cat becomes SORTED/Egyptian cat/summer/a.jpg: the
folders stay, so photos of the same name do not collide. An existing file is
never overwritten. Exit code 3: some photos could not be read or placed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from typing import TYPE_CHECKING

from mnv1cli import Classifier, Mnv1Error

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE: dict[str, Callable[[str, str], object]] = {
    "copy": shutil.copy2,
    "link": os.link,
    "move": shutil.move,
}


def sort_photos(
    classifier: Classifier, source: str, target: str, place: Callable[[str, str], object]
) -> int:
    """Place every photo below `source`, and return how many could not be placed."""
    failed = 0
    # The whole list before the first file moves, because the folder is walked as photos are read.
    for photo in list(classifier.iter_classify(source, top=1, on_error="row")):
        if photo.error:
            failed += report(photo.path, photo.error)
            continue
        folder = photo[0].label.replace("/", "-")
        goal = os.path.join(target, folder, os.path.relpath(photo.path, source))
        if os.path.lexists(goal):
            failed += report(photo.path, f"{goal} exists")
            continue
        os.makedirs(os.path.dirname(goal), exist_ok=True)
        place(photo.path, goal)
    return failed


def report(path: str, reason: str) -> int:
    """Print what happened to a photo, and return 1 to count it."""
    print(f"{path!a}: {reason}", file=sys.stderr)
    return 1


def main() -> int:
    """Parse the command line and sort."""
    parser = argparse.ArgumentParser(description="Sort photos into folders by what they show.")
    parser.add_argument("source", metavar="PHOTOS")
    parser.add_argument("target", metavar="SORTED")
    parser.add_argument("--module", help="as in 'mnv1 classify'")
    parser.add_argument("--image-size", type=int, help="as in 'mnv1 classify'")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--link", dest="action", action="store_const", const="link", default="copy")
    action.add_argument("--move", dest="action", action="store_const", const="move")
    options = parser.parse_args()
    if not os.path.isdir(options.source):
        parser.error(f"no such folder: {options.source!a}")
    try:
        classifier = Classifier(options.module, image_size=options.image_size)
        failed = sort_photos(classifier, options.source, options.target, PLACE[options.action])
    except (Mnv1Error, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 3 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
