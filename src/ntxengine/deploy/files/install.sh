#!/bin/sh
# Install the release that this file lies in: the agent of ntx as a service.  Options are those of `ntx agent install`.
#
#   sudo sh install.sh --config agent.yaml --dry-run
#
# Nothing is downloaded.  PYTHON=/usr/bin/python3.11 chooses the Python; libraries that it needs: see docs/deploy.md.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)
(cd "$folder" && sha256sum --quiet --strict --check SHA256SUMS) || {
    echo "ntx: $folder is not what its SHA256SUMS says: copy the release again, whole" >&2
    exit 2
}
tag=$(ls "$folder"/wheels/ntxengine-*.whl | sed -n 's/.*-cp3\([0-9]*\)-.*/3.\1/p')
python=
for candidate in ${PYTHON:-"/usr/bin/python$tag" "/usr/local/bin/python$tag" python3}; do
    found=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    if [ "$found" = "$tag" ]; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "ntx: this release is for Python $tag, which is not here: install it, or give it as PYTHON=/path/to/python" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
"$python" -m venv --without-pip "$work/ntx"
"$work/ntx/bin/python" "$(echo "$folder"/wheels/pip-*.whl)/pip" --isolated --disable-pip-version-check install --quiet \
    --no-index --no-cache-dir --find-links "$folder/wheels" "ntxengine[agent,uvloop]==$(cat "$folder/VERSION")"
"$work/ntx/bin/python" -m ntxengine agent install --from "$folder" "$@"
