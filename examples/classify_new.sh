#!/bin/sh
# Adds to FILE the labels of the photos in DIR that it does not have yet. For a
# nightly job: it can be run as often as you like, and FILE is whole at any time.
#
#   sh classify_new.sh DIR FILE
set -u
# --force: what a night that was cut has left is begun anew.
mnv1 classify "$1" -q --skip-existing "$2" --append --force
code=$?
# 3: done, but some photos could not be read; they are named in FILE.meta.json,
# and tried again the next night.
[ "$code" -eq 3 ] || exit "$code"
