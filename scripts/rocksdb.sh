# Sourced by scripts that build with other settings than the main build, with CARGO_TARGET_DIR set: a RocksDB that the main build has compiled
# (optimised there too) is linked, not compiled again, which takes a quarter of an hour.
# The archive is of the version in Cargo.lock as long as it lies where cargo built that version: it is copied once per version.
rocksdb_version=$(sed -n '/^name = "librocksdb-sys"$/{n;s/^version = "\(.*\)"$/\1/p}' Cargo.lock)
rocksdb_dir=$CARGO_TARGET_DIR/rocksdb/$rocksdb_version
if [ ! -f "$rocksdb_dir/librocksdb.a" ]; then
  for built in "$CARGO_TARGET_DIR"/debug/build/librocksdb-sys-*/; do
    if [ -f "$built/out/librocksdb.a" ] && grep -qs "librocksdb-sys-$rocksdb_version/" "$built/output"; then
      mkdir -p "$rocksdb_dir"
      cp "$built/out/librocksdb.a" "$rocksdb_dir/"
      break
    fi
  done
fi
if [ -f "$rocksdb_dir/librocksdb.a" ]; then
  export ROCKSDB_LIB_DIR=$rocksdb_dir ROCKSDB_STATIC=1
else
  echo "no RocksDB of a dev build is there (make build): it is compiled again, which takes long" >&2
fi
