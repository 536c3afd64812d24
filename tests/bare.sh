#!/bin/sh
# Try the README's commands in bare Debian systems, as root and without sudo: tests/bare.sh [RELEASE ...]
#
# Needs root and debootstrap. BARE_MIRROR names another mirror of Debian, BARE_ROOTS a folder where systems are kept.
# This host's settings of pip and uv hold inside, too, and the folders of wheels that they name are there.
set -eu
cd "$(dirname "$0")/.."
roots=${BARE_ROOTS:-$(mktemp -d)}
mounted=
trap 'for place in $mounted; do umount --recursive --lazy "$place"; done' EXIT

grep '^sh prepare.sh && .venv/bin/nox -s' README.md >"$roots/commands"
[ "$(wc -l <"$roots/commands")" -ge 2 ] || { echo "the README has no commands to try" >&2; exit 1; }

[ $# -gt 0 ] || set -- bookworm trixie
for release; do
  root=$roots/$release
  [ -e "$root/etc/debian_version" ] ||
    debootstrap --variant=minbase "$release" "$root" ${BARE_MIRROR:+"$BARE_MIRROR"} >"$roots/$release.log"
  cp /etc/resolv.conf "$root/etc/"
  # What this host trusts beside the public certificates, for it may be behind a proxy.
  mkdir -p "$root/usr/local/share/ca-certificates" "$root/etc/ssl/certs"
  cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
  cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || true
  for folder in /proc $(echo "${PIP_FIND_LINKS:-} ${UV_FIND_LINKS:-}" | tr , ' '); do
    mkdir -p "$root$folder" && mount --rbind "$folder" "$root$folder" && mounted="$root$folder $mounted"
    mount --make-rslave "$root$folder" # so that unmounting it leaves this host's own alone
  done
  rm -rf "$root/root/a checkout" && mkdir -p "$root/root/a checkout"
  git ls-files -z | xargs -0 cp --parents -t "$root/root/a checkout"
  while read -r command; do
    echo "== $release: $command"
    chroot "$root" env HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd '/root/a checkout' && $command" </dev/null
  done <"$roots/commands"
done
