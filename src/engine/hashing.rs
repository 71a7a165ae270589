//! Randomness without random numbers: a hash of an id and a salt, so that any instance and any replay draws the same.

use crate::domain::hex;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Uniform in [0, 1): the first 53 bits of SHA-256 over `salt`, a zero byte, and `id`.
pub fn unit_interval(salt: &str, id: &str) -> f64 {
    let mut hash = Sha256::new();
    hash.update(salt.as_bytes());
    hash.update([0]);
    hash.update(id.as_bytes());
    let digest = hash.finalize();
    let mut first = [0_u8; 8];
    first.copy_from_slice(&digest[..8]);
    let bits = u64::from_be_bytes(first) >> 11;
    bits as f64 / (1_u64 << 53) as f64
}

/// A name-based id (UUID version 5, RFC 9562) in the namespace of `kind`.
pub fn stable_id(kind: &str, name: &str) -> String {
    let namespace = Uuid::new_v5(&Uuid::NAMESPACE_OID, kind.as_bytes());
    Uuid::new_v5(&namespace, name.as_bytes()).to_string()
}

/// The SHA-256 of these bytes, in hex.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    hex(&Sha256::digest(bytes))
}

/// A short fingerprint of a text: the first 12 hex digits of its SHA-256.
pub fn fingerprint(text: &str) -> String {
    let mut digits = sha256_hex(text);
    digits.truncate(12);
    digits
}
