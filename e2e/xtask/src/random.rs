//! Randomness of tests: the same in every run unless a test wants the system's own.

use std::fs::File;
use std::io::{self, Read};

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators").
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; equal seeds give equal numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// From the system's own randomness.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of_the_system() -> io::Result<Random> {
        let mut seed = [0_u8; 8];
        File::open("/dev/urandom")?.read_exact(&mut seed)?;
        Ok(Random(u64::from_be_bytes(seed)))
    }

    /// The next number, of all there are.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 below 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// An index below `length`; 0 below 0.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let [byte, ..] = self.number().to_be_bytes();
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    /// The first numbers of seed 1234567, as the generator's users publish them.
    #[test]
    fn a_seed_gives_the_published_numbers() {
        let mut random = Random::new(1_234_567);
        assert_eq!(random.number(), 6_457_827_717_110_365_317);
        assert_eq!(random.number(), 3_203_168_211_198_807_973);
        assert_eq!((random.below(0), random.index(1)), (0, 0));
    }
}
