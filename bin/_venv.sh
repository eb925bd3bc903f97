# Sourced by the launchers: makes .venv at the first start, keeps it up to date
# with setup.cfg and the C++ sources, and sets $venv_python. `tf_pof_extra=test`
# adds pytest.
#
# A stamp in .venv is written last, so a broken or interrupted installation is
# taken up again at the next start. PYTHON=... names another interpreter.

tf_pof_root=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv_python=$tf_pof_root/.venv/bin/python

tf_pof_fail() {
  printf 'tf_pof: %s\n' "$1" >&2
  exit 1
}

tf_pof_suits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
    2>/dev/null
}

tf_pof_find_python() {
  local candidate candidates
  candidates=(python3 python3.13 python3.12 python3.11 python)
  [[ -n ${PYTHON:-} ]] && candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    if tf_pof_suits "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

# Another checkout, Python or setup.cfg needs another installation.
tf_pof_stamp() {
  printf '%s\n' "$tf_pof_root"
  "$venv_python" -c 'import sys; print(sys.version_info[:2])'
  cat "$tf_pof_root/setup.cfg" "$tf_pof_root/pyproject.toml" | cksum
}

tf_pof_installed() {
  local stamp
  tf_pof_suits "$venv_python" || return 1
  for stamp in ${tf_pof_extra:-base test}; do
    stamp=$tf_pof_root/.venv/tf_pof-$stamp.stamp
    [[ -f $stamp && $(<"$stamp") == "$(tf_pof_stamp)" ]] && return
  done
  return 1
}

tf_pof_install() {
  local python log=$tf_pof_root/.venv/tf_pof-install.log what
  what=$tf_pof_root${tf_pof_extra:+"[$tf_pof_extra]"}
  if ! { tf_pof_suits "$venv_python" && "$venv_python" -m pip --version; } \
    >/dev/null 2>&1; then
    python=$(tf_pof_find_python) || tf_pof_fail "no Python 3.11, 3.12 or 3.13 \
was found as ${PYTHON:-python3, python3.11, python3.12 or python3.13}; install \
one, or name it: PYTHON=/path/to/python $0"
    "$python" -c 'import ensurepip, venv' 2>/dev/null || tf_pof_fail "$python \
has no venv module; install it (on Debian and Ubuntu: apt install python3-venv)"
    printf 'tf_pof: making .venv with %s\n' "$("$python" -V)" >&2
    "$python" -m venv --clear "$tf_pof_root/.venv" ||
      tf_pof_fail "$python could not make $tf_pof_root/.venv; see above"
  fi
  printf 'tf_pof: installing into .venv (3 GB; minutes at first start)\n' >&2
  "$venv_python" -m pip install --editable "$what" >"$log" 2>&1 ||
    tf_pof_fail "the installation failed ($(grep -m1 -o 'ERROR: .*' "$log")); \
the whole log is $log"
  tf_pof_stamp >"$tf_pof_root/.venv/tf_pof-${tf_pof_extra:-base}.stamp"
}

# Other sources or other tools need another build of the runtime's library.
tf_pof_sources() {
  command -v cmake c++ g++ clang++ make ninja || true
  printf '%s\n' "${CXX:-}"
  find "$tf_pof_root/tf_pof/runtime/cc" -type f -exec cat {} + | cksum
}

tf_pof_built() {
  local lib=$tf_pof_root/tf_pof/runtime/lib
  local stamp=$lib/sources.stamp
  [[ -f $lib/libtf_pof_delegate.so || -f $lib/not_built.txt ]] &&
    [[ -f $stamp && $(<"$stamp") == "$(tf_pof_sources)" ]]
}

# Without the library everything else works, so a failure is told, no more.
tf_pof_build() {
  local log=$tf_pof_root/.venv/tf_pof-build.log sources
  sources=$(tf_pof_sources)
  printf 'tf_pof: building the library of the sparse runtime\n' >&2
  if (cd "$tf_pof_root" && "$venv_python" -m tf_pof.runtime.build) \
    >"$log" 2>&1; then
    grep "^tf_pof: " "$log" >&2 || true
    printf '%s\n' "$sources" >"$tf_pof_root/tf_pof/runtime/lib/sources.stamp"
  else
    printf 'tf_pof: it was not built; the log is %s\n' "$log" >&2
  fi
}

if ! { tf_pof_installed && tf_pof_built; }; then
  # Of two launchers that start together, one installs and one waits.
  exec 9<"${BASH_SOURCE[0]}"
  if command -v flock >/dev/null; then flock 9; fi
  tf_pof_installed || tf_pof_install
  tf_pof_built || tf_pof_build
  exec 9<&-
fi
