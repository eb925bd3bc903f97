#!/usr/bin/env bash
# Builds the runtime's C++ tests with sanitizers and runs them: bin/test
# --sanitize. Ends with a line for each of them; the exit code is 1 if one
# found something.
set -euo pipefail
root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

suite() {
  local folder=$root/dist/build/sanitize-${1//,/-}
  cmake -S "$root/tf_pof/runtime/cc" -B "$folder" -DTF_POF_SANITIZE="$1" \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null &&
    cmake --build "$folder" --parallel "$(nproc)" >/dev/null &&
    ctest --test-dir "$folder" --output-on-failure
}

for tool in cmake ctest c++; do
  command -v "$tool" >/dev/null || {
    printf 'test: --sanitize needs %s, which is not installed (on Debian and \
Ubuntu: apt install cmake g++)\n' "$tool" >&2
    exit 1
  }
done
lines=() code=0
for sanitizers in address,undefined thread; do
  if suite "$sanitizers"; then
    lines+=("$sanitizers: passed")
  else
    lines+=("$sanitizers: FAILED")
    code=1
  fi
done
printf '%s\n' "${lines[@]}"
exit "$code"
