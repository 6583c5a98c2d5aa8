#!/bin/sh
# Makes dist/cellvigil-VERSION-SYSTEM-pyXY-EXTRA.tar.gz: all that a machine like this one needs to install Cellvigil
# without internet: wheels of exactly what the lock file pins, by hash; encoders; install.sh; manual, rules, dashboards.
# Usage: systemd/bundle.sh PYTHON [cpu|gpu [DIST]]     PYTHON has pip and cellvigil; the other machine needs the same X.Y.
set -eu
cd "$(dirname "$0")/.."
python=$1 extra=${2:-cpu} dist=${3:-dist}
lock=requirements.lock
[ "$extra" = cpu ] || lock=requirements-$extra.lock
tag=$("$python" -c 'import platform, sys; print(f"{sys.platform}-{platform.machine()}-py{sys.version_info[0]}{sys.version_info[1]}")')
version=$("$python" -c 'import cellvigil; print(cellvigil.__version__)')
name=cellvigil-$version-$tag-$extra
out=$dist/$name
rm -rf "$out" && mkdir -p "$out/wheels"
pip="$python -m pip --quiet --disable-pip-version-check"
$pip download --require-hashes --only-binary :all: -r "$lock" -d "$out/wheels"
$pip wheel --no-deps -w "$out/wheels" .
cp "$lock" "$out/requirements.lock"
mkdir -p "$out/dashboards/prometheus" "$out/dashboards/alertmanager" "$out/dashboards/grafana"
cp systemd/install.sh LICENSE "$out/"
cp -r docs "$out/"
cp dashboards/prometheus/*.yaml "$out/dashboards/prometheus/"
cp dashboards/alertmanager/*.yaml "$out/dashboards/alertmanager/"
cp -r dashboards/grafana/*.json dashboards/grafana/provisioning "$out/dashboards/grafana/"
"$python" -m cellvigil_export run efficientnet-lite0 --out "$out/encoders"
tar -C "$dist" -czf "$dist/$name.tar.gz" "$name"
rm -rf "$out"
(cd "$dist" && sha256sum "$name.tar.gz" >"$name.tar.gz.sha256")
du -h "$dist/$name.tar.gz"
