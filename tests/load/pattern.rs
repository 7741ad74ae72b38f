//! Bytes of which each part of a stream differs, so that a lost, repeated or changed byte is noticed.

use std::sync::OnceLock;

use bytes::Bytes;

/// The bytes of a block. Every block begins with its number.
const BLOCK: usize = 64 * 1024;
/// The bytes of the number of a block.
const NUMBER: usize = size_of::<u64>();

/// The bytes of all streams.
#[derive(Clone, Copy, Debug)]
pub struct Pattern {
    block: &'static [u8],
}

impl Default for Pattern {
    fn default() -> Self {
        static MADE: OnceLock<Vec<u8>> = OnceLock::new();
        let make = || {
            let mut random = fastrand::Rng::with_seed(1);
            std::iter::repeat_with(|| random.u8(..)).take(BLOCK).collect()
        };
        Self { block: MADE.get_or_init(make) }
    }
}

impl Pattern {
    /// The bytes of a stream from this offset, at most until the end of a block, and at most `left` of them.
    #[must_use]
    pub fn bytes(&self, offset: u64, left: u64) -> Bytes {
        let (number, within) = place(offset);
        let mut block = self.block.to_vec();
        block[..NUMBER].copy_from_slice(&number.to_be_bytes());
        let end = usize::try_from(left).map_or(BLOCK, |left| within.saturating_add(left).min(BLOCK));
        Bytes::from(block).slice(within..end)
    }
}

/// The number of the block that has this offset, and the position in it.
fn place(offset: u64) -> (u64, usize) {
    let block = BLOCK as u64;
    (offset / block, (offset % block) as usize)
}

/// Compares the bytes of a stream with the pattern.
#[derive(Debug, Default)]
pub struct Checker {
    pattern: Pattern,
    offset: u64,
    wrong: Option<u64>,
}

impl Checker {
    /// Takes the next bytes.
    pub fn see(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (number, within) = place(self.offset);
            let stamp = number.to_be_bytes();
            let wanted = if within < NUMBER { &stamp[within..] } else { &self.pattern.block[within..] };
            let count = wanted.len().min(bytes.len());
            let (now, rest) = bytes.split_at(count);
            if now != &wanted[..count] {
                self.wrong.get_or_insert(self.offset);
            }
            self.offset += count as u64;
            bytes = rest;
        }
    }

    /// The number of bytes, if all of them are those of the pattern, or else where they begin to differ, to a few bytes or
    /// to the block.
    ///
    /// # Errors
    /// If a byte is wrong.
    pub fn end(&self) -> Result<u64, String> {
        match self.wrong {
            Some(offset) => Err(format!("the bytes differ from offset {offset} on")),
            None => Ok(self.offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pattern: &Pattern, length: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while (all.len() as u64) < length {
            all.extend_from_slice(&pattern.bytes(all.len() as u64, length - all.len() as u64));
        }
        all
    }

    fn checked(bytes: &[u8], pieces: usize) -> Result<u64, String> {
        let mut checker = Checker::default();
        bytes.chunks(pieces).for_each(|piece| checker.see(piece));
        checker.end()
    }

    #[test]
    fn changed_lost_and_repeated_bytes_are_noticed_in_pieces_of_any_size() {
        let right = stream(&Pattern::default(), 300_001);
        for pieces in [1, 7, 8, 65_536, 100_000, 300_001] {
            assert_eq!(checked(&right, pieces), Ok(300_001), "{pieces}");
            for at in [0, 3, 8, 65_535, 65_536, 65_540, 300_000] {
                let mut changed = right.clone();
                changed[at] ^= 1;
                assert!(checked(&changed, pieces).is_err(), "{pieces} {at}");
            }
            let lost = [&right[..70_000], &right[135_536..]].concat();
            assert!(checked(&lost, pieces).is_err(), "a whole block is lost");
            let repeated = [&right[..65_536], &right].concat();
            assert!(checked(&repeated, pieces).is_err(), "a whole block is repeated");
        }
    }
}
