//! Lines of a text file, bounded in length, that can be given back.

use std::collections::VecDeque;
use std::io::{self, BufRead};

/// A longer line is no row: it is cut here, and the rest of it is skipped.
pub(super) const LINE_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Without its line end.
    pub(super) bytes: Vec<u8>,
    /// Whether it was longer than `LINE_BYTES_MAX`.
    pub(super) is_cut: bool,
}

pub(super) struct Lines<R> {
    reader: R,
    given_back: VecDeque<Line>,
    number: u64,
    bytes_read: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, given_back: VecDeque::new(), number: 0, bytes_read: 0 }
    }

    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Lines that have been read and are to be read again, in their order.
    pub(super) fn give_back(&mut self, lines: Vec<Line>) {
        for line in lines.into_iter().rev() {
            self.given_back.push_front(line);
        }
    }

    pub(super) fn next_line(&mut self) -> io::Result<Option<Line>> {
        if let Some(line) = self.given_back.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = Vec::new();
        let mut is_cut = false;
        let mut has_any = false;
        loop {
            let buffer = match self.reader.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                break;
            }
            has_any = true;
            let end = buffer.iter().position(|&b| b == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let room = LINE_BYTES_MAX - bytes.len();
            is_cut |= part.len() > room;
            bytes.extend_from_slice(&part[..part.len().min(room)]);
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(used);
            self.bytes_read += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !has_any {
            return Ok(None);
        }
        if bytes.last() == Some(&b'\r') && !is_cut {
            bytes.pop();
        }
        self.number += 1;
        if self.number == 1 && bytes.starts_with(b"\xEF\xBB\xBF") {
            bytes.drain(..3);
        }
        Ok(Some(Line { number: self.number, bytes, is_cut }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lose_their_ends_and_the_byte_order_mark() {
        let mut lines = Lines::new(&b"\xEF\xBB\xBFa\r\nb\n\nlast"[..]);
        let mut got = Vec::new();
        while let Some(line) = lines.next_line().expect("memory") {
            got.push((line.number, String::from_utf8(line.bytes).expect("text")));
        }
        assert_eq!(got, [(1, "a".into()), (2, "b".into()), (3, String::new()), (4, "last".into())]);
        assert_eq!(lines.bytes_read(), 13);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 5];
        text.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::new(&text[..]);
        let long = lines.next_line().expect("memory").expect("a line");
        assert!(long.is_cut && long.bytes.len() == LINE_BYTES_MAX);
        let next = lines.next_line().expect("memory").expect("a line");
        assert_eq!((next.number, next.bytes.as_slice(), next.is_cut), (2, &b"next"[..], false));
    }
}
