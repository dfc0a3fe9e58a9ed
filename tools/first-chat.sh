#!/bin/sh
# From a fresh clone to a conversation: fetches a small model, builds Tealight, starts `tealight chat`.
# Arguments are passed on to `tealight chat`, behind the model.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

model=$("$root/tools/get-smollm2.sh")
if ! command -v cargo >/dev/null 2>&1; then
    printf '%s\n' 'first-chat: error: `cargo` is not installed' 'first-chat: hint: install Rust from https://rustup.rs' >&2
    exit 1
fi
cargo build --release --locked --manifest-path "$root/Cargo.toml" >&2

case ${CARGO_TARGET_DIR:-} in
    '') target=$root/target ;;
    *) target=$CARGO_TARGET_DIR ;;
esac
exec "$target/release/tealight" chat "$model" "$@"
