#!/usr/bin/env bash
# What action.yml runs: `install`, then `gate` with what was asked for in CKPT_DOCTOR_ACTION_* variables.
set -euo pipefail

install() {
  # A load needs torch. A torch that the workflow installed before, such as a CPU build, is kept.
  python -m pip install --quiet "$CKPT_DOCTOR_ACTION${CKPT_DOCTOR_ACTION_MODEL:+[verify]}"
}

gate() {
  # Each format with its file, so that formats among the further options find theirs. With the format github, the gate
  # writes the step's summary, and the output `checkpoint` where it passes.
  local -a options=(--output-format github --output-file -)
  if [ -n "${CKPT_DOCTOR_ACTION_SARIF:-}" ]; then
    options+=(--output-format sarif --output-file "$CKPT_DOCTOR_ACTION_SARIF")
  fi
  switch latest "${CKPT_DOCTOR_ACTION_LATEST:-false}" --latest
  switch deep "${CKPT_DOCTOR_ACTION_DEEP:-true}" --deep --no-deep
  [ -z "${CKPT_DOCTOR_ACTION_MODEL:-}" ] || options+=(--model "$CKPT_DOCTOR_ACTION_MODEL")
  [ -z "${CKPT_DOCTOR_ACTION_LOADER:-}" ] || options+=(--loader "$CKPT_DOCTOR_ACTION_LOADER")
  local args=${CKPT_DOCTOR_ACTION_ARGS:-} line
  while read -r line; do
    case $line in
      "") ;;
      -h | --help | --version) refuse "args: $line judges nothing" ;;
      --) refuse "args: -- would end the options; a command goes into a step behind this one" ;;
      *) options+=("$line") ;;
    esac
  done <<<"${args//$'\r'/}"
  # No path is an option, whatever it begins with.
  local path=$CKPT_DOCTOR_ACTION_PATH
  [[ $path != -* ]] || path=./$path

  command -v ckpt-doctor >/dev/null || refuse "ckpt-doctor is not on the PATH: install it, or leave install at true"

  local log before code=0
  log=$(mktemp)
  # Whether the summary has grown tells whether there is a report.
  GITHUB_STEP_SUMMARY=${GITHUB_STEP_SUMMARY:-$(mktemp)}
  export GITHUB_STEP_SUMMARY
  before=$(size "$GITHUB_STEP_SUMMARY")
  { ckpt-doctor gate "${options[@]}" "$path" 2>&1 >&3 | tee "$log" >&2; } 3>&1 || code=$?
  if [ "$code" -ne 0 ] && [ "$(size "$GITHUB_STEP_SUMMARY")" = "$before" ]; then
    unjudged "$(grep -i 'error:' "$log" | tail -n 1 || true)" "$code"
  fi
  rm -f "$log"
  exit "$code"
}

size() {
  if [ -e "$1" ]; then wc -c <"$1"; else echo 0; fi
}

# `switch NAME VALUE YES [NO]`: adds the option for an input that is true or false.
switch() {
  case ${2,,} in
    true) options+=("$3") ;;
    false) [ -z "${4:-}" ] || options+=("$4") ;;
    *) refuse "$1 must be true or false, and is $2" ;;
  esac
}

# Something is wrong with the inputs.
refuse() {
  echo "error: $(inert "$1")" >&2
  unjudged "$1" 2
  exit 2
}

# Nothing was judged, and no report says so: the annotation, the summary and the SARIF report for that.
unjudged() {
  local message=${1#error: } code=$2
  message=${message#Error: }
  [ -n "$message" ] || message="ckpt-doctor ended with exit code $code"
  message=$(inert "$message")
  local data=${message//'%'/%25}
  echo "::error title=ckpt-doctor%3A nothing was judged::$data"
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    printf '\n## ❌ ckpt-doctor: nothing was judged\n\n    %s\n' "$message" >>"$GITHUB_STEP_SUMMARY"
  fi
  local file=${CKPT_DOCTOR_ACTION_SARIF:-}
  # Over nothing but an earlier report: the gate may have stopped because this is a file of a checkpoint.
  if [ -n "$file" ] && { [ ! -e "$file" ] || grep -q 'sarif-schema-2\.1\.0' <(head -c 4096 "$file"); }; then
    sarif "$message" >"$file" || true
  fi
}

# One line in which the runner finds no command, whatever somebody typed.
inert() {
  local text=${1//'##['/'# #['}
  printf '%s' "$text" | tr '\000-\037\177' ' '
}

# With a result: a report without any would close all that earlier runs have found.
sarif() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  cat <<JSON
{
  "\$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
  "version": "2.1.0",
  "runs": [
    {
      "tool": {"driver": {"name": "ckpt-doctor", "rules": [{"id": "CKD011", "name": "not-judged"}]}},
      "invocations": [
        {
          "executionSuccessful": false,
          "toolExecutionNotifications": [{"level": "error", "message": {"text": "$text"}}]
        }
      ],
      "results": [
        {
          "ruleId": "CKD011",
          "ruleIndex": 0,
          "level": "error",
          "message": {"text": "Nothing was judged: $text"},
          "partialFingerprints": {"ckptDoctor/v1": "00000000000000000000000000000000:1"},
          "locations": [
            {"physicalLocation": {"artifactLocation": {"uri": "."}, "region": {"startLine": 1}}}
          ]
        }
      ]
    }
  ]
}
JSON
}

case ${1:-} in
  install | gate) "$1" ;;
  *)
    echo "usage: action.sh install|gate" >&2
    exit 2
    ;;
esac
