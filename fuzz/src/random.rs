//! Random changes of inputs, for where there is no time for a campaign: the same ones for the same seed.

/// A generator of numbers (splitmix64), so that a failure can be repeated.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Bytes and texts that are worth putting anywhere.
const PIECES: &[&[u8]] = &[
    b"",
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\0\x04",
    b"'",
    b"\"",
    b"\\",
    b"/*",
    b"*/",
    b"--",
    b"$$",
    b";",
    b"\n",
    b"=",
    b",",
];

impl Random {
    /// That of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or_default()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// An input made of those that there are.
    pub fn input(&mut self, corpus: &[Vec<u8>], longest: usize) -> Vec<u8> {
        let one = corpus.get(self.below(corpus.len())).cloned();
        let mut input = one.filter(|_| self.below(8) != 0).unwrap_or_else(|| self.bytes(64));
        for _ in 0..=self.below(4) {
            self.change(&mut input, corpus);
        }
        input.truncate(longest);
        input
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let len = self.below(most);
        (0..len).map(|_| self.byte()).collect()
    }

    fn change(&mut self, input: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = at + self.below(input.len() - at + 1).min(16);
        match self.below(6) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << (self.next() % 8);
                }
            }
            1 => drop(input.drain(at..end)),
            2 => {
                let copied = input[at..end].to_vec();
                input.splice(at..at, copied);
            }
            3 => {
                let piece = PIECES[self.below(PIECES.len())];
                input.splice(at..at, piece.iter().copied());
            }
            4 => {
                let random = self.bytes(8);
                input.splice(at..end, random);
            }
            _ => {
                if let Some(other) = corpus.get(self.below(corpus.len())) {
                    let from = self.below(other.len() + 1);
                    input.truncate(at);
                    input.extend_from_slice(&other[from..]);
                }
            }
        }
    }
}
