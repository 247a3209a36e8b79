#!/usr/bin/env bash
# A real Kubernetes control plane and Helm, built from source by the Go tool chain: etcd, kube-apiserver,
# kube-controller-manager, kube-scheduler, kubectl, kwok (in place of the kubelet), helm 3 and helm 4; beside them kwok's
# stages and the CRDs of KEDA and of the Prometheus operator.
#
# usage: build.sh            builds what is missing, prints the folder as the last line
#        build.sh --folder   prints the folder only
#
# The folder lies outside the repository and is named by a hash of versions and platform: what has been
# built once is not built again. Versions and checksums stand in modules/*/go.mod and go.sum. Exit code 3: there is no Go.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Of these modules only files are wanted, so they have no go.mod of ours: "module version checksum".
keda='github.com/kedacore/keda/v2 v2.21.0 h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps='
prometheus='github.com/prometheus-operator/prometheus-operator v0.85.0 h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s='

# Raised when the same versions have to be built anew, after a change of flags.
recipe=1
key=$({ cat "$here"/modules/*/go.mod "$here"/modules/*/go.sum; echo "$keda $prometheus $recipe $(uname -sm)"; } | sha256sum | cut -c1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/rsafe-stream/cluster/$key
if [ "${1:-}" = --folder ]; then echo "$folder"; exit; fi
# The last thing that a build makes: with it, neither Go nor the lock is needed.
if [ -e "$folder/complete" ]; then echo "$folder"; exit; fi

# Where Go's own archive is unpacked, which is not on every PATH.
PATH=$PATH:/usr/local/go/bin
if ! command -v go >/dev/null; then
  echo "needed and not here: go, 1.26 or newer (https://go.dev/dl), which builds the control plane for the cluster tests" >&2
  exit 3
fi
mkdir -p "$folder"/{bin,helm3,helm4}
exec 9>"$folder/lock"
if ! flock --nonblock 9; then
  echo "→ waiting for another build in $folder" >&2
  flock 9
fi

# No C compiler is asked for, and no path of this machine gets into the binaries.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -mod=readonly -trimpath -buildvcs=false" GOWORK=off

version() { sed -nE "s#^(require |\t)$2 (v[^ ]+).*#\2#p" "$here/modules/$1/go.mod" | head -1; }

# binary FILE MODULE PACKAGE [LDFLAGS]: a half-written file never has the name of a whole one.
binary() {
  local file=$1 module=$2 package=$3 started=$SECONDS
  [ -x "$folder/$file" ] && return
  (cd "$here/modules/$module" && go build -ldflags "-s -w ${4:-}" -o "$folder/.binary" "$package" 9>&-)
  mv "$folder/.binary" "$folder/$file"
  echo "→ built $file in $((SECONDS - started)) s" >&2
}

# files NAME FOLDER MODULE VERSION [SUM]: a folder of a module as $folder/NAME; go.sum or SUM says that it is the right one.
files() {
  local name=$1 inside=$2 module=$3 version=$4 sum=${5:-} said
  [ -d "$folder/$name" ] && return
  # Outside of any module, lest Go look at ours.
  said=$(cd "$folder" && GOFLAGS= go mod download -json "$module@$version")
  if [ -n "$sum" ] && ! grep -qF "\"Sum\": \"$sum\"" <<<"$said"; then
    echo "$module@$version: its checksum is not $sum:" >&2
    echo "$said" >&2
    exit 1
  fi
  rm -rf "$folder/.files"
  cp -R "$(sed -nE 's/^\t"Dir": "(.*)",?$/\1/p' <<<"$said")/$inside" "$folder/.files"
  chmod -R u+w "$folder/.files"
  mv "$folder/.files" "$folder/$name"
}

kubernetes=$(version kubernetes k8s.io/kubernetes)
minor=${kubernetes#v1.}
said_version="-X k8s.io/component-base/version.gitVersion=$kubernetes -X k8s.io/component-base/version.gitMajor=1"
said_version+=" -X k8s.io/component-base/version.gitMinor=${minor%%.*}"

# shellcheck disable=SC2086 # a module, its version and its checksum are three words
files crds-keda config/crd/bases $keda
# shellcheck disable=SC2086
files crds-prometheus example/prometheus-operator-crd $prometheus
files stages kustomize/stage sigs.k8s.io/kwok "$(version kwok sigs.k8s.io/kwok)"
binary bin/etcd etcd go.etcd.io/etcd/server/v3
for name in kube-apiserver kubectl kube-controller-manager kube-scheduler; do
  binary "bin/$name" kubernetes "k8s.io/kubernetes/cmd/$name" "$said_version"
done
binary bin/kwok kwok sigs.k8s.io/kwok/cmd/kwok
# A folder each, so that either can be `helm` on the PATH.
helm3=helm.sh/helm/v3 helm4=helm.sh/helm/v4
client=$(version helm3 k8s.io/client-go) # v0.36.1 belongs to Kubernetes 1.36; without these Helm 3 renders for 1.20
client=${client#v0.}
renders_for=
for package in chartutil lint/rules; do
  renders_for+=" -X $helm3/pkg/$package.k8sVersionMajor=1 -X $helm3/pkg/$package.k8sVersionMinor=${client%%.*}"
done
binary helm3/helm helm3 $helm3/cmd/helm "-X $helm3/internal/version.version=$(version helm3 $helm3)$renders_for"
binary helm4/helm helm4 $helm4/cmd/helm "-X $helm4/internal/version.version=$(version helm4 $helm4)"
touch "$folder/complete"
echo "$folder"
