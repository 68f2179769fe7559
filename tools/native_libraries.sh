#!/bin/sh
# Sees to the libraries of the native transport: installs them where that asks nobody (root, or sudo without a password), else says
# the one line to type. The build goes on without them; ASSAY_NATIVE=off leaves them alone.
#
# Argument: a file that is written anew, so that the core is built again, when what the build will find has changed.
stamp=$1
packages="pkg-config libnghttp2-dev libssl-dev zlib1g-dev"

are_there() { pkg-config --exists 'libnghttp2 >= 1.43' 'libssl >= 3.0' 'libcrypto >= 3.0' zlib 2>/dev/null; }
state() { are_there && echo "there ${ASSAY_NATIVE:-auto}" || echo "absent ${ASSAY_NATIVE:-auto}"; }

install_as() {
  "$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null 2>&1 && return
  # The lists of packages may be old, or not there.
  "$@" apt-get update -qq >/dev/null 2>&1 && "$@" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages >/dev/null 2>&1
}

install_quietly() {
  command -v apt-get >/dev/null 2>&1 || return
  if [ "$(id -u)" = 0 ]; then
    install_as env
  elif sudo -n true 2>/dev/null; then
    install_as sudo -n
  else
    return 1
  fi
}

[ "$(cat "$stamp" 2>/dev/null)" = "$(state)" ] && exit 0
if [ "${ASSAY_NATIVE:-auto}" != off ] && ! are_there && ! install_quietly; then
  echo "building without the native transport and without assay bench; for both, on Debian and Ubuntu, and make once more:" >&2
  echo "    sudo apt-get install -y $packages" >&2
fi
state >"$stamp"
