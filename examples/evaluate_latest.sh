#!/usr/bin/env bash
# Evaluate the newest checkpoint of a training, or nothing at all.
#
#   examples/evaluate_latest.sh RUNS COMMAND [ARGUMENT...]
#
# RUNS is the folder that holds the runs, each in a folder of its own. In the arguments, {checkpoint} stands for the
# path of the checkpoint:
#
#   examples/evaluate_latest.sh outputs/train/gsm8k/Qwen2.5-1.5B python evaluate.py --weaver '{checkpoint}/weaver_lora'
#
# What scripts like this one often do is look for the newest folder, and evaluate the base model where there is none,
# with a warning that nobody reads. Here the command starts only if
#   - there is a checkpoint, and it is that of the newest run: an unfinished run is not passed over for an older one;
#   - its files are whole, complete, and of the format that the loader opens;
#   - where MODEL and LOADER are set, every tensor of it arrives in the model that the evaluation builds.
# Otherwise this ends with 1 (something is wrong with the checkpoint) or 2 (there is none, or nobody can tell).
#
# From the environment:
#   MODEL, LOADER   what `ckpt-doctor verify` takes, such as MODEL=evaluate.py:build LOADER=evaluate.py:load
#   GATE_OPTIONS    more options of `ckpt-doctor gate`, such as "--expect bin" or "--fallback"

set -euo pipefail

if [ "$#" -lt 2 ]; then
  echo "usage: $0 RUNS COMMAND [ARGUMENT...]" >&2
  exit 2
fi
runs=$1
[[ $runs != -* ]] || runs=./$runs # no path is an option
shift

options=(--latest)
if [ -n "${MODEL:-}" ]; then
  options+=(--model "$MODEL" --loader "${LOADER:-auto}")
fi
# Several words on purpose.
# shellcheck disable=SC2206
options+=(${GATE_OPTIONS:-})

exec ckpt-doctor gate "$runs" "${options[@]}" -- "$@"
