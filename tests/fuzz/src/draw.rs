//! Choices made of bytes: the same bytes, the same choices; when they run out, zeros.

pub struct Draw<'a> {
    bytes: &'a [u8],
}

impl<'a> Draw<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.bytes.split_first() {
            Some((&first, rest)) => {
                self.bytes = rest;
                first
            }
            None => 0,
        }
    }

    /// One byte's worth: `n` is at most 256.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn word(&mut self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// Small, at an edge, or anything.
    pub fn number(&mut self) -> i64 {
        const EDGES: [i64; 12] = [
            0,
            -1,
            i64::MIN,
            i64::MAX,
            i64::MIN + 1,
            i64::MAX - 1,
            i32::MAX as i64,
            i32::MIN as i64,
            1_000_000_000_000_000,
            1_000_000_000_000_001,
            253_402_300_799_999,
            946_684_799_999,
        ];
        match self.below(4) {
            0 | 1 => i64::from(self.byte()),
            2 => self.pick(&EDGES),
            _ => self.word().cast_signed(),
        }
    }

    /// Mostly within a month of November 2023.
    pub fn time(&mut self) -> i64 {
        if self.one_in(8) {
            self.number()
        } else {
            1_700_000_000_000 + i64::from(self.byte()) * 10_000_000 + i64::from(self.byte())
        }
    }

    pub fn text(&mut self) -> String {
        match self.below(16) {
            0..=7 => format!("x{}", self.below(8)),
            8 => String::new(),
            9 => "x".repeat(10_240),
            10 => "ñ漢字🦀\u{202e}é".to_owned(),
            11 => "a\0b\u{7f}".to_owned(),
            12 => "4111111111111111".to_owned(),
            13 => " ".to_owned(),
            14 => "x".repeat(255 + self.below(3)),
            _ => {
                let length = self.below(32);
                let bytes: Vec<u8> = (0..length).map(|_| self.byte()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
        }
    }
}
