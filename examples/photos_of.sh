#!/bin/sh
# Print the photos in DIR whose most probable label contains WORD. The paths end
# with NUL, so that xargs -0 takes any name.
#
#   sh photos_of.sh cat DIR | xargs -0 -I{} cp {} cats/
#   sh photos_of.sh rust DIR --module MODULE
#
# More options, such as --module, are those of `mnv1 classify`.
#
# Needs jq. A name that is not UTF-8 cannot pass through jq unchanged: it is named
# on stderr, and `mnv1 classify -f csv` has it in full.
set -eu
word=$1 dir=$2
shift 2

mnv1 classify "$dir" --top 1 -f jsonl "$@" |
  jq -j --arg word "$word" '
    select(.predictions[0].label | ascii_downcase | contains($word | ascii_downcase))
    | if .path_bytes
      then "skipped, its name is not UTF-8: \(.path)\n" | stderr | empty
      else .path + "\u0000" end'
