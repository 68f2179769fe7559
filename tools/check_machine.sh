#!/bin/sh
# Says in one line what this machine lacks to build assay. Arguments: the Python interpreter, the C++ compiler.
python=$1
compiler=$2
missing=""

command -v "$python" >/dev/null 2>&1 || missing="$missing python3"
"$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
header=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)/Python.h
[ -f "$header" ] || missing="$missing python3-dev"
command -v "$compiler" >/dev/null 2>&1 || missing="$missing g++"

if [ -n "$missing" ]; then
  echo "assay needs a few packages that this machine lacks. On Debian and Ubuntu:" >&2
  echo "    sudo apt-get install -y$missing" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "assay needs Python 3.11 or newer; $python is $("$python" -V 2>&1). Name another one: make serve PYTHON=python3.12" >&2
  exit 1
fi
