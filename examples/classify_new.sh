#!/bin/sh
# Add to FILE the labels of the photos in DIR that it does not have yet. For a
# nightly job: run it as often as you like; FILE is complete at any time.
#
#   sh classify_new.sh DIR FILE
#   sh classify_new.sh DIR FILE --module MODULE
#
# More options, such as --module, are those of `mnv1 classify`. Without --module FILE keeps
# the module that it was begun with.
set -u
dir=$1 file=$2
shift 2
# --force: what an interrupted night has left is begun anew.
mnv1 classify "$dir" -q --skip-existing "$file" --append --force "$@"
code=$?
# 3: done, but some photos could not be read; they are named in FILE.meta.json,
# and tried again the next night.
[ "$code" -eq 3 ] || exit "$code"
