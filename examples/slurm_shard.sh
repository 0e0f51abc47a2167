#!/bin/sh
# Write one shard of the labels of the photos in DIR, for each job of a Slurm array. A
# job that is queued again continues where it stopped.
#
#   sbatch --array=0-63 slurm_shard.sh DIR PARTS
#   sbatch --array=0-63 slurm_shard.sh DIR PARTS --module MODULE
#
# More options, such as --module, are those of `mnv1 classify`. Name the module where some
# machines may reach the hub and others not: all parts need the same one.
#
# and, when all of them are done,
#
#   mnv1 merge PARTS/*.csv -o labels.csv
set -eu
dir=$1 parts=$2 task=$SLURM_ARRAY_TASK_ID
shift 2

mkdir -p "$parts"
exec mnv1 classify "$dir" --shard "$task/$SLURM_ARRAY_TASK_COUNT" -o "$parts/$task.csv" \
  --threads "${SLURM_CPUS_PER_TASK:-1}" --resume "$@"
