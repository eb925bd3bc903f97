#!/usr/bin/env bash
# Runs the runtime's C++ tests under sanitizers and its fuzz targets for some
# seconds each (bin/test --sanitize), or these alone for longer (bin/test
# --fuzz=SECONDS). Ends with a line for each of them; the exit code is 1 if one
# found something. What a fuzz target fails on stays in dist/build/fuzz.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
sources=$root/tf_pof/runtime/cc

build() {
  cmake -S "$sources" -B "$@" >/dev/null &&
    cmake --build "$1" --parallel "$(nproc)" >/dev/null
}

suite() {
  local folder=$root/dist/build/sanitize-${1//,/-}
  build "$folder" -DTF_POF_SANITIZE="$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo &&
    ctest --test-dir "$folder" --output-on-failure
}

fuzz() {
  local folder=$root/dist/build/fuzz
  mkdir -p "$folder/$1"
  # What was found to be new stays there, for the next run to begin with.
  "$folder/$1_fuzz" -max_total_time="$2" -timeout=60 -rss_limit_mb=4000 \
    -artifact_prefix="$folder/$1_failure_" "$folder/$1" \
    "$sources/tests/corpus/$1" >"$folder/$1.log" 2>&1 || {
    tail -n 60 "$folder/$1.log"
    return 1
  }
}

note() {
  local what=$1
  shift
  if "$@"; then
    lines+=("$what: passed")
  else
    lines+=("$what: FAILED")
    code=1
  fi
}

for tool in cmake ctest c++; do
  command -v "$tool" >/dev/null || {
    printf 'test: --sanitize needs %s, which is not installed (on Debian and \
Ubuntu: apt install cmake g++)\n' "$tool" >&2
    exit 1
  }
done
seconds=${1:-}
lines=() code=0
if [[ -z $seconds ]]; then
  for sanitizers in address,undefined thread; do
    note "$sanitizers" suite "$sanitizers"
  done
fi
clang=
for name in clang clang-{21..14}; do
  if [[ -z $clang ]] && command -v "$name" >/dev/null &&
    command -v "${name/clang/clang++}" >/dev/null; then
    clang=$name
  fi
done
if [[ -z $clang ]]; then
  lines+=("fuzz targets: skipped, they need clang, which is not installed (on \
Debian and Ubuntu: apt install clang)")
elif ! build "$root/dist/build/fuzz" -DTF_POF_FUZZ=ON -DTF_POF_TESTS=OFF \
  -DCMAKE_C_COMPILER="$clang" -DCMAKE_CXX_COMPILER="${clang/clang/clang++}"
then
  lines+=("fuzz targets: FAILED to build with $clang")
  code=1
else
  for target in packed_weights stored model; do
    note "$target fuzz target" fuzz "$target" "${seconds:-20}"
  done
fi
printf '%s\n' "${lines[@]}"
exit "$code"
