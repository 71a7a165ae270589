# Sourced by scripts that build with other settings than the main build, with CARGO_TARGET_DIR set: a RocksDB that the main build has compiled
# (optimised there too) is linked, not compiled again, which takes a quarter of an hour.
# It is copied once per version, from where cargo built the one in Cargo.lock.
rocksdb_version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
rocksdb_dir=$CARGO_TARGET_DIR/rocksdb/$rocksdb_version
if [ ! -f "$rocksdb_dir/librocksdb.a" ]; then
  for dependencies in "$CARGO_TARGET_DIR"/debug/deps/librocksdb_sys-*.d; do
    built=$(sed -n 's/^# env-dep:OUT_DIR=//p' "$dependencies" 2> /dev/null || true)
    if [ -f "$built/librocksdb.a" ] && grep -qsF "librocksdb-sys-$rocksdb_version/" "$dependencies"; then
      mkdir -p "$rocksdb_dir"
      cp "$built/librocksdb.a" "$rocksdb_dir/"
      break
    fi
  done
fi
if [ -f "$rocksdb_dir/librocksdb.a" ]; then
  export ROCKSDB_LIB_DIR=$rocksdb_dir ROCKSDB_STATIC=1
else
  echo "no RocksDB of a dev build is there (make build): it is compiled again, which takes long" >&2
fi
