#!/bin/sh
# Installs the OAuth clients into the folder $1: venv (Python), venv-pysnow (Python, older libraries),
# venv-schemathesis (Python), node_modules.
# Does nothing when the folder already holds what the pinned files ask for. On a bare Debian, as root, first:
#   apt-get install -y --no-install-recommends python3 python3-venv libmagic1 nodejs npm chromium chromium-driver fonts-dejavu-core
# Node.js must be 20.19 or newer (Debian 12 has 18); where it does not come from Debian, npm comes with it and is no package.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$here/../../target/clients}
mkdir -p "$target"
target=$(cd "$target" && pwd)

need() {
  command -v "$1" >/dev/null || { echo "install.sh: $1 is missing: apt-get install -y --no-install-recommends $2" >&2; exit 1; }
}
need python3 python3
need node nodejs
need npm npm
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' || {
  echo "install.sh: Node.js 20.19 or newer is needed, this is $(node --version)" >&2
  exit 1
}

python=$(python3 -c 'import sys; print(sys.base_prefix, *sys.version_info[:2])')
cd "$here"
stamp=$({ cat requirements*.txt package.json package-lock.json install.sh; echo "$target $python"; } |
  sha256sum | cut -d' ' -f1)
if [ "$(cat "$target/stamp" 2>/dev/null)" = "$stamp" ]; then
  exit 0
fi
# One installation at a time; the second one finds the work done.
if [ -z "${CLIENTS_LOCKED:-}" ]; then
  CLIENTS_LOCKED=1 exec flock "$target/lock" sh "$here/install.sh" "$target"
fi

rm -rf "$target/stamp" "$target/venv" "$target/venv-pysnow" "$target/venv-schemathesis" "$target/node_modules"
install_python() {
  python3 -m venv "$target/$1" || {
    echo "install.sh: no venv: apt-get install -y --no-install-recommends python3-venv" >&2
    exit 1
  }
  "$target/$1/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/$2"
  "$target/$1/bin/pip" check >/dev/null
}
install_python venv requirements.txt
install_python venv-pysnow requirements-pysnow.txt
install_python venv-schemathesis requirements-schemathesis.txt
"$target/venv-pysnow/bin/python" -c 'import pysnow' || {
  echo "install.sh: pysnow does not start; without libmagic: apt-get install -y --no-install-recommends libmagic1" >&2
  exit 1
}
cp "$here/package.json" "$here/package-lock.json" "$target/"
(cd "$target" && npm ci --silent --ignore-scripts --no-audit --no-fund)
echo "$stamp" >"$target/stamp"
