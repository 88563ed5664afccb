#!/bin/bash -eu
# Builds the fuzz target with the mutator, its seeds, dictionary and options into $OUT, as
# OSS-Fuzz does in its container; 'scripts/oss-fuzz' does it without one. $SRC/image-tests is
# the repository, $WORK a scratch folder.

target=imago_qcow2
format=qcow2
cd "$SRC/image-tests"

(cd contrib/oss-fuzz && cargo fuzz build --fuzz-dir . -O "$target" ${TARGET_OPTIONS:-})
folder=${CARGO_TARGET_DIR:-contrib/oss-fuzz/target}
cp "$folder/$(rustc -vV | sed -n 's/^host: //p')/release/$target" "$OUT/"

# The tools that write seeds and dictionary are run here, and not fuzzed.
example() { env -u RUSTFLAGS cargo run --quiet --release -p image-mutator --example "$@"; }
mkdir -p "$WORK/seeds"
example seeds "$format" 60 65536 "$WORK/seeds"
(cd "$WORK/seeds" && zip -q -r "$OUT/${target}_seed_corpus.zip" .)
example dictionary "$format" >"$OUT/$target.dict"
cp "contrib/oss-fuzz/$target.options" "$OUT/"
