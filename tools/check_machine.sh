#!/bin/sh
# Says in one line what this machine lacks to build assay. Arguments: the Python interpreter, the C++ compiler.
python=${1:-python3}
compiler=${2:-g++}

# Debian's packages of python3.12 are python3.12-venv and python3.12-dev; of any other name, those of its own Python.
case $(basename "$python") in
  python3.[0-9]*) package=$(basename "$python") ;;
  *) package=python3 ;;
esac

missing=""
if command -v "$python" >/dev/null 2>&1; then
  if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "assay needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Name another one: make serve PYTHON=python3.12" >&2
    exit 1
  fi
  "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing $package-venv"
  header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h
  [ -f "$header" ] || missing="$missing $package-dev"
else
  missing=" $package $package-venv $package-dev"
fi
# It must find the headers too: clang++ uses those that come with g++.
echo '#include <string>' | $compiler -std=c++17 -x c++ -fsyntax-only - >/dev/null 2>&1 || missing="$missing g++"

if [ -n "$missing" ]; then
  echo "assay needs a few packages that this machine lacks. On Debian and Ubuntu:" >&2
  echo "    sudo apt-get install -y ${missing# }" >&2
  exit 1
fi
