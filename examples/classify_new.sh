#!/bin/sh
# Add to FILE the labels of the photos in DIR that it does not have yet. For a
# nightly job: run it as often as you like; FILE is complete at any time.
#
#   sh classify_new.sh DIR FILE
set -u
# --force: what an interrupted night has left is begun anew.
mnv1 classify "$1" -q --skip-existing "$2" --append --force
code=$?
# 3: done, but some photos could not be read; they are named in FILE.meta.json,
# and tried again the next night.
[ "$code" -eq 3 ] || exit "$code"
