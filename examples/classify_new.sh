#!/bin/sh
# Labels for the photos in DIR that came since the last time, as one more CSV
# in RESULTS. For a nightly job: it can be run as often as you like.
#
#   sh classify_new.sh DIR RESULTS
set -eu
dir=$1 results=$2
mkdir -p "$results"
stamp=$results/.last
now=$results/.now

# Taken before the search: what comes while we work is found the next time.
touch "$now"
out=$results/$(date +%Y%m%dT%H%M%S)-$$.csv
code=0
if [ -e "$stamp" ]; then
  find "$dir" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' \) \
    -newer "$stamp" -print0
else
  find "$dir" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' \) -print0
fi | mnv1 classify -q -0 - -o "$out" || code=$?

# 3: done, but some photos could not be read; they are named in the .meta.json.
if [ "$code" -ne 0 ] && [ "$code" -ne 3 ]; then
  rm -f "$now"
  exit "$code"
fi
mv "$now" "$stamp"
echo "$out"
