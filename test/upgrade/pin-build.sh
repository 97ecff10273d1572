#!/usr/bin/env bash
# Makes test/upgrade/builds/NAME.tar.gz of a commit: its compiled program alone, without types and maps. The same commit gives the same bytes.
# Usage: test/upgrade/pin-build.sh COMMIT NAME
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
commit=$1 name=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
git -C "$root" archive "$commit" | tar -x -C "$work"
# Same lock file, same packages: those of this checkout are used.
git -C "$root" diff --quiet "$commit" -- package-lock.json || echo "the lock file differs from $commit's: check that the build still runs" >&2
ln -s "$root/node_modules" "$work/node_modules"
(cd "$work" && node_modules/.bin/tsc -p tsconfig.build.json --sourceMap false --declaration false)
mkdir "$work/package"
mv "$work/dist" "$work/package.json" "$work/LICENSE" "$work/NOTICE" "$work/package/"
mkdir -p "$root/test/upgrade/builds"
tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c package | gzip -n9 >"$root/test/upgrade/builds/$name.tar.gz"
