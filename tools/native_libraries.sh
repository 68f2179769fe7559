#!/bin/sh
# Sees to the libraries of the native transport: installs them where that asks nobody (root, or sudo without a password), else says
# the one line to type. The build goes on without them; ASSAY_NATIVE=off leaves them alone.
packages="pkg-config libnghttp2-dev libssl-dev zlib1g-dev"

[ "${ASSAY_NATIVE:-auto}" = off ] && exit 0
pkg-config --exists 'libnghttp2 >= 1.43' 'libssl >= 3.0' 'libcrypto >= 3.0' zlib 2>/dev/null && exit 0

if command -v apt-get >/dev/null 2>&1; then
  as_root=""
  [ "$(id -u)" = 0 ] || as_root="sudo -n"
  if [ -z "$as_root" ] || $as_root true 2>/dev/null; then
    echo "installing $packages"
    export DEBIAN_FRONTEND=noninteractive
    # The lists of packages may be old, or not there: then the second try has new ones.
    $as_root apt-get install -y -qq $packages >/dev/null 2>&1 && exit 0
    $as_root apt-get update -qq >/dev/null 2>&1 && $as_root apt-get install -y -qq $packages >/dev/null 2>&1 && exit 0
  fi
fi
echo "building without the native transport and without assay bench; for both, on Debian and Ubuntu, and make once more:" >&2
echo "    sudo apt-get install -y $packages" >&2
