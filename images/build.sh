#!/usr/bin/env bash
# Builds the images pgherd and pgherd-postgres, tagged with the version of the workspace and `latest`.
#
# build.sh [--debian trixie|bookworm] [--registry NAME] [--push] [--offline] [--binary FILE]
#
# --debian    the base of pgherd-postgres: trixie has PostgreSQL 17 and repmgr 5.5, bookworm PostgreSQL 15 and repmgr 5.3 [default: trixie]
# --registry  what stands before the names, such as registry.example.com/db
# --push      pushes them there
# --offline   where no registry of images can be reached: the base is made by debootstrap, and pgherd is compiled on this machine
# --binary    a static binary of pgherd that is there already
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
debian=trixie registry='' push='' offline='' binary=''

fail() { echo "build.sh: $*" >&2; exit 1; }
while [ $# -gt 0 ]; do
  case $1 in
  --debian | --registry | --binary) [ -n "${2:-}" ] || fail "$1 takes a value" ;;&
  --debian) debian=$2; shift 2 ;;
  --registry) registry=${2%/}/; shift 2 ;;
  --binary) binary=$(realpath -e "$2"); shift 2 ;;
  --push) push=yes; shift ;;
  --offline) offline=yes; shift ;;
  *) fail "unknown argument $1; see the head of $0" ;;
  esac
done
case $debian in trixie | bookworm) ;; *) fail "--debian takes trixie or bookworm, got $debian" ;; esac
[ -z "$push" ] || [ -n "$registry" ] || fail '--push needs --registry'
docker version >/dev/null 2>&1 || fail 'no docker engine answers'

version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
base=debian:$debian-slim

if [ -n "$offline" ]; then
  base=pgherd-base:$debian
  if ! docker image inspect "$base" >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || fail '--offline needs debootstrap: apt-get install debootstrap'
    made=$(mktemp -d)
    trap 'rm -rf "$made"' EXIT
    debootstrap --variant=minbase "$debian" "$made" >&2
    rm -rf "$made"/var/cache/apt/archives/*.deb "$made"/var/lib/apt/lists/*
    tar -C "$made" -c . | docker import --change 'CMD ["bash"]' - "$base" >/dev/null
  fi
fi

# In the host's network: where a proxy is on the way, only that may reach the package registries.
build() { docker build --network host "$@"; }

labels=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision")
name=pgherd-postgres
tags=(-t "$registry$name:$version-$debian")
if [ "$debian" = trixie ]; then tags+=(-t "$registry$name:$version" -t "$registry$name:latest"); fi
build "${tags[@]}" "${labels[@]}" --build-arg "BASE=$base" "$root/images/postgres"

name=pgherd
tags=(-t "$registry$name:$version" -t "$registry$name:latest")
arguments=("${labels[@]}" -f "$root/images/pgherd/Dockerfile")
if [ -n "$offline" ] && [ -z "$binary" ]; then binary=$("$root/images/pgherd/compile"); fi
if [ -n "$binary" ]; then
  context=$(mktemp -d)
  trap 'rm -rf "${made:-}" "$context"' EXIT
  cp "$binary" "$context/pgherd"
  build "${tags[@]}" "${arguments[@]}" --build-arg "RUST=$base" "$context"
else
  build "${tags[@]}" "${arguments[@]}" "$root"
fi

if [ -n "$push" ]; then
  for image in $(docker images --format '{{.Repository}}:{{.Tag}}' | grep -x -e "${registry}pgherd\(-postgres\)\?:\($version.*\|latest\)"); do
    docker push "$image"
  done
fi
