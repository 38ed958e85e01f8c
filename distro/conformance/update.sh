#!/bin/bash
# Writes go.mod and go.sum for the tests of one Kubernetes version, the default of distro.toml: ./update.sh 1.36.3
#
# As in ../kubernetes/update.sh, the siblings that upstream replaces by folders
# of its repository are replaced by their published versions.
set -euo pipefail
cd "$(dirname "$0")"
version=${1:?usage: update.sh VERSION}
sibling=v0.${version#1.}
dir=$(cd / && GOFLAGS=-mod=mod go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
{
  echo "module sampan.io/distro/conformance"
  grep -E '^go ' "$dir/go.mod"
  grep -E '^godebug ' "$dir/go.mod" || true
  sed -n '/^godebug (/,/^)/p' "$dir/go.mod"
  # The runner of the tests, and programs of images that tests ask for.
  echo "tool ("
  echo "	github.com/onsi/ginkgo/v2/ginkgo"
  echo "	k8s.io/kubernetes/test/images/nonewprivs"
  echo "	k8s.io/sample-apiserver"
  echo ")"
  echo "require k8s.io/kubernetes v$version"
  echo "replace ("
  sed -n 's,^\s*\(k8s.io/[^ ]*\) => \./staging.*,\t\1 => \1 '"$sibling"',p' "$dir/go.mod"
  echo ")"
} >go.mod
: >go.sum
go mod tidy
