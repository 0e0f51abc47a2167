#!/bin/sh
# Labels for the photos that came into DIR since the last time, as one more CSV
# in RESULTS. For a nightly job: it can be run as often as you like, and a night
# on which DIR is not there loses nothing.
#
#   sh classify_new.sh DIR RESULTS
set -eu
dir=$1 results=$2
mkdir -p "$results"
stamp=$results/.last
now=$results/.now
list=$results/.list
trap 'rm -f "$now" "$list"' EXIT

# Taken before the search: what comes while we work is found the next time.
touch "$now"
photos() {
  find "$dir" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' -o -iname '*.gif' \
    -o -iname '*.bmp' -o -iname '*.webp' -o -iname '*.tif' -o -iname '*.tiff' \
    -o -iname '*.avif' \) "$@" -print0
}
# Where find fails, set -e ends this, and the next run looks again.
# -cnewer: a copy keeps the time of its photo, but is itself new.
if [ -e "$stamp" ]; then
  photos -cnewer "$stamp" >"$list"
else
  photos >"$list"
fi
if [ ! -s "$list" ]; then
  mv "$now" "$stamp"
  exit 0
fi

out=$results/$(date +%Y%m%dT%H%M%S)-$$.csv
code=0
mnv1 classify -q -0 --files-from "$list" -o "$out" || code=$?
# 3: done, but some photos could not be read; they are named in the .meta.json.
if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
  exit "$code"
fi
mv "$now" "$stamp"
echo "$out"
