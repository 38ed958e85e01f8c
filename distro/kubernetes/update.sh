#!/bin/bash
# Writes <minor>.mod and <minor>.sum for one Kubernetes version, for example: ./update.sh 1.36.3
#
# The module k8s.io/kubernetes replaces its siblings by folders of its own
# repository, which its published form does not have. Each of these
# replacements becomes the sibling's published version (1.36.3 -> 0.36.3).
set -euo pipefail
cd "$(dirname "$0")"
version=${1:?usage: update.sh VERSION}
minor=${version%.*}
sibling=v0.${version#1.}
dir=$(GOFLAGS=-mod=mod go mod download -json "k8s.io/kubernetes@v$version" | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
{
  echo "module sampan.io/distro/kubernetes"
  grep -E '^go ' "$dir/go.mod"
  # The settings that upstream's own executables are built with.
  grep -E '^godebug ' "$dir/go.mod" || true
  sed -n '/^godebug (/,/^)/p' "$dir/go.mod"
  # Built from this module too; kubeadm only for the benchmark.
  echo "tool ("
  echo "	k8s.io/kubernetes/cmd/kubeadm"
  echo "	k8s.io/kubernetes/test/images/agnhost"
  echo ")"
  echo "require k8s.io/kubernetes v$version"
  # Not every version of etcd has one of etcdutl: the last that is not newer does not raise etcd's.
  etcd=$(sed -n 's,^\s*go.etcd.io/etcd/server/v3 \(v[^ ]*\).*,\1,p' "$dir/go.mod")
  known=$(GOFLAGS=-mod=mod go list -m -versions go.etcd.io/etcd/etcdutl/v3 | tr ' ' '\n' | grep '^v')
  etcdutl=$(printf '%s\n' $known "$etcd" | sort -V | uniq | grep -x -B1 "$etcd" | grep -xF "$known" | tail -1)
  echo "require go.etcd.io/etcd/etcdutl/v3 $etcdutl"
  echo "replace ("
  sed -n 's,^\s*\(k8s.io/[^ ]*\) => \./staging.*,\t\1 => \1 '"$sibling"',p' "$dir/go.mod"
  echo ")"
} >"$minor.mod"
: >"$minor.sum"
go mod tidy -modfile="$minor.mod"
