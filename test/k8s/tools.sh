#!/usr/bin/env bash
# What the tests of k8s/ need beside Debian's packages, in exact versions, installed once into a directory whose name says them.
# Prints that directory: bin/kustomize, schemas/bin/kubernetes-validate. Needs Go 1.24 and Python 3.9, or later ones.
set -euo pipefail
KUSTOMIZE=v5.7.1
cd "$(dirname "$0")"
version=$(cat tools.sh schema-requirements.txt | sha256sum | cut -c1-12)
tools=${XDG_CACHE_HOME:-$HOME/.cache}/ledgermq/k8s-$version
if [ ! -e "$tools/complete" ]; then
  rm -rf "$tools"
  mkdir -p "$tools"
  GOBIN=$tools/bin GOFLAGS=-mod=mod go install "sigs.k8s.io/kustomize/kustomize/v5@$KUSTOMIZE" >&2
  python3 -m venv "$tools/schemas" >&2
  "$tools/schemas/bin/pip" install -q --disable-pip-version-check --no-deps -r schema-requirements.txt >&2
  touch "$tools/complete"
fi
echo "$tools"
