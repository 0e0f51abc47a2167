"""Damaged files in large numbers, which take too long for everyday tests.

The targets `fuzz_*.py` are for atheris, which is no dependency of the tests:

    pip install atheris
    python -m tests.fuzz.corpus CORPUS shared/data/photos
    python -m tests.fuzz.fuzz_pixels -max_total_time=300 CORPUS/pixels

and so for `fuzz_exif`, `fuzz_labels`, `fuzz_lists` and `fuzz_archive`. What one
finds is left in `crash-*`; given as the only argument it is tried again.

`damage` and `mutated_photos` need nothing else, and say how they are run.
"""
