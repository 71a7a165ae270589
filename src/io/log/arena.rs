//! Many small byte strings in few allocations: keys and values of records come and go by the million.
//!
//! Owns nothing once it has handed a string out; a chunk lives as long as the last string in it. Never grows a string.

use bytes::{Bytes, BytesMut};

/// Small, so that one string that is kept for long does not keep much else.
const CHUNK_BYTES: usize = 16 << 10;

#[derive(Debug, Default)]
pub struct Arena(BytesMut);

impl Arena {
    pub fn keep(&mut self, bytes: &[u8]) -> Bytes {
        if self.0.capacity() < bytes.len() {
            self.0 = BytesMut::with_capacity(bytes.len().max(CHUNK_BYTES));
        }
        self.0.extend_from_slice(bytes);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stays_as_it_was() {
        let mut arena = Arena::default();
        let lengths = [0, 1, 100, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 5];
        let texts: Vec<Vec<u8>> = (0..400_usize).map(|n| vec![n as u8; lengths[n % lengths.len()]]).collect();
        let kept: Vec<Bytes> = texts.iter().map(|text| arena.keep(text)).collect();
        assert_eq!(kept, texts);
    }
}
