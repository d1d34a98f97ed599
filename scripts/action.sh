#!/usr/bin/env bash
# What action.yml runs: `install`, then `gate` with what was asked for in CKPT_DOCTOR_ACTION_* variables.
set -euo pipefail

install() {
  if [ -n "${CKPT_DOCTOR_ACTION_MODEL:-}" ]; then
    # A load needs torch. A torch that the workflow installed before, such as a CPU build, is kept.
    python -m pip install --quiet "$CKPT_DOCTOR_ACTION"
  else
    python -m pip install --quiet --no-deps "$CKPT_DOCTOR_ACTION"
    python -m pip install --quiet 'click>=8.1' 'numpy>=1.24' 'tabulate>=0.9' 'tomli>=2; python_version < "3.11"'
  fi
}

gate() {
  # Each format with its file, so that formats among the further options find theirs.
  local -a options=(--output-format github --output-file -)
  if [ -n "${CKPT_DOCTOR_ACTION_SARIF:-}" ]; then
    options+=(--output-format sarif --output-file "$CKPT_DOCTOR_ACTION_SARIF")
  fi
  local latest=${CKPT_DOCTOR_ACTION_LATEST:-false}
  case ${latest,,} in
    true) options+=(--latest) ;;
    false) ;;
    *)
      echo "latest is true or false, and not $latest" >&2
      exit 2
      ;;
  esac
  [ -z "${CKPT_DOCTOR_ACTION_MODEL:-}" ] || options+=(--model "$CKPT_DOCTOR_ACTION_MODEL")
  [ -z "${CKPT_DOCTOR_ACTION_LOADER:-}" ] || options+=(--loader "$CKPT_DOCTOR_ACTION_LOADER")
  local args=${CKPT_DOCTOR_ACTION_ARGS:-} line
  while read -r line; do
    case $line in
      "") ;;
      -h | --help)
        echo "args: $line judges nothing" >&2
        exit 2
        ;;
      *) options+=("$line") ;;
    esac
  done <<<"${args//$'\r'/}"
  # No path is an option, whatever it begins with.
  local path=$CKPT_DOCTOR_ACTION_PATH
  [[ $path != -* ]] || path=./$path
  # The gate starts this script again behind a healthy checkpoint, which it names in the environment.
  exec ckpt-doctor gate "${options[@]}" "$path" -- bash "$0" output
}

output() {
  local end="end_$RANDOM$RANDOM$RANDOM"
  printf 'checkpoint<<%s\n%s\n%s\n' "$end" "$CKPT_DOCTOR_CHECKPOINT" "$end" >>"$GITHUB_OUTPUT"
}

case ${1:-} in
  install | gate | output) "$1" ;;
  *)
    echo "usage: action.sh install|gate" >&2
    exit 2
    ;;
esac
