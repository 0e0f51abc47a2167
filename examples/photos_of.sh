#!/bin/sh
# The photos in DIR whose most probable label holds WORD, their paths ending
# with NUL: whatever is in a name, xargs -0 gets it right.
#
#   sh photos_of.sh cat DIR | xargs -0 -I{} cp {} cats/
#
# Needs jq. A name that is not UTF-8 cannot pass through jq as it is: it is
# counted on stderr, and `mnv1 classify -f csv` has it in full.
set -eu
word=$1 dir=$2

mnv1 classify "$dir" --top 1 -f jsonl |
  jq -j --arg word "$word" '
    select(.predictions[0].label | ascii_downcase | contains($word | ascii_downcase))
    | if .path_bytes
      then "skipped, its name is not UTF-8: \(.path)\n" | stderr | empty
      else .path + "\u0000" end'
