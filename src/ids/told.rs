//! Counted numbers as others are told them.
//!
//! Whoever is told a counted number knows how many there were before, and what the next one will be, whoever's those are. So
//! numbers are told in the order of a permutation of all numbers of 64 bits that this process has drawn: a Feistel network
//! (Luby and Rackoff, 1988) with a keyed hash. In here: there and back. Not in here: ids (`ids`).

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

/// Four make a permutation that cannot be told from a random one while few numbers are known; more leave a margin.
const ROUNDS: u8 = 8;

/// Drawn once for each process.
static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);

fn halves(number: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

fn joined(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

fn mixed(round: u8, half: u32) -> u32 {
    halves(KEY.hash_one((round, half))).0
}

/// What others are told in place of a number.
pub(super) fn told(number: u64) -> u64 {
    let (left, right) = (0..ROUNDS).fold(halves(number), |(left, right), round| (right, left ^ mixed(round, right)));
    joined(left, right)
}

/// The number in whose place this was told.
pub(super) fn meant(told: u64) -> u64 {
    let back = |(left, right): (u32, u32), round| (right ^ mixed(round, left), left);
    let (left, right) = (0..ROUNDS).rev().fold(halves(told), back);
    joined(left, right)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_is_told_leads_back_to_the_number_and_nobody_elses() {
        let numbers = || (0..2000).chain(u64::MAX - 20..=u64::MAX).chain((0..64).map(|bit| 1 << bit));
        assert!(numbers().all(|number| meant(told(number)) == number && told(meant(number)) == number));
        let distinct: BTreeSet<_> = numbers().collect();
        assert_eq!(distinct.iter().map(|number| told(*number)).collect::<BTreeSet<_>>().len(), distinct.len());
    }

    #[test]
    fn what_is_told_of_neighbours_has_nothing_in_common() {
        // Half of the bits of two numbers that have nothing to do with each other differ: 32 of 64, give or take 4.
        let bits: u32 = (1..=1000).map(|number| (told(number) ^ told(number + 1)).count_ones()).sum();
        assert!((31_000..33_000).contains(&bits), "{bits}");
        assert!((1..1000).all(|number| told(number) > 1_000_000), "small numbers are not told as such");
    }
}
