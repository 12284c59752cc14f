//! Copies of the sound before in each packet of it, while a viewer's network loses packets (RFC 2198).
//!
//! In here: wrapping packets, and how many copies by what is lost: none without losses. A copy costs the 48 kbit/s of the
//! sound once more and comes 20 ms late; sending a packet again would take a round trip, for which sound has no time, and
//! the correction that Opus has within itself (`inband-fec`) is a poor copy of speech alone. Own code, since `rtpredenc`
//! would have to stand in front of webrtcbin, which knows nothing of the payload type. Not in here: the pictures, of which
//! lost packets are sent again (`retransmissions`).
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::congestion::Estimate;
use crate::media::packets::Kept;

/// Copies in a packet at most.
const MOST_COPIES: usize = 2;
/// From these shares of lost packets on there is one copy, and two.
const LOSSES: [f64; MOST_COPIES] = [0.012, 0.07];
/// So long after the last loss there are copies.
const LASTING: Duration = Duration::from_secs(15);
/// Of the pictures' rate a copy must not take more than this share.
const MOST_OF_RATE: f64 = 0.25;
const BITS_OF_SOUND: f64 = 48_000.0;
/// What RFC 2198 has bits for.
const LONGEST: usize = 0x3ff;
const OLDEST: u32 = 0x3fff;
const HEADER: usize = 12;

/// The sound of one viewer.
#[derive(Debug)]
pub(super) struct Redundancy {
    /// Of the sound, and of packets with copies.
    payload_types: (u8, u8),
    copies: usize,
    /// When something was lost.
    lost: Option<Duration>,
    /// Sequence number, time stamp and payload of those before, the newest last.
    before: VecDeque<(u16, u32, Vec<u8>)>,
}

impl Redundancy {
    pub fn new(payload_type: u8, red: u8) -> Self {
        Self { payload_types: (payload_type, red), copies: 0, lost: None, before: VecDeque::new() }
    }

    /// Follows what is known of the path, with pictures of so many bits a second.
    pub fn follow(&mut self, now: Duration, estimate: &Estimate, rate: u32) {
        let affordable = MOST_OF_RATE * f64::from(rate) / BITS_OF_SOUND;
        let wanted = LOSSES.iter().filter(|least| estimate.loss >= **least).count();
        let wanted =
            (1..=wanted).rev().find(|copies| f64::from(u8::try_from(*copies).unwrap_or(u8::MAX)) <= affordable);
        match wanted {
            Some(wanted) => (self.lost, self.copies) = (Some(now), wanted.max(self.copies)),
            None if self.lost.is_none_or(|lost| now.saturating_sub(lost) > LASTING) => self.copies = 0,
            None => {}
        }
        // What is lost in a full queue is lost the more for copies.
        if estimate.is_congested {
            self.copies = 0;
        }
    }

    /// A packet that leaves.
    pub fn leaves(&mut self, packet: &[u8]) -> Kept {
        let [0x80, second, a, b, c, d, e, f, ..] = *packet else { return Kept::Whole };
        let Some((header, payload)) = packet.split_at_checked(HEADER) else { return Kept::Whole };
        let (payload_type, red) = self.payload_types;
        if second & 0x7f != payload_type {
            return Kept::Whole;
        }
        let (number, time) = (u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f]));
        let wrapped = if self.copies == 0 { None } else { self.wrap(header, payload, number, time) };
        if self.before.len() == MOST_COPIES {
            self.before.pop_front();
        }
        self.before.push_back((number, time, payload.to_vec()));
        let Some(mut wrapped) = wrapped else { return Kept::Whole };
        if let Some(second) = wrapped.get_mut(1) {
            *second = *second & 0x80 | red;
        }
        Kept::Part(wrapped)
    }

    /// `None` without anything to copy.
    fn wrap(&self, header: &[u8], payload: &[u8], number: u16, time: u32) -> Option<Vec<u8>> {
        let fits = |(before, at, copy): &&(u16, u32, Vec<u8>)| {
            let age = usize::from(number.wrapping_sub(*before));
            (1..=self.copies).contains(&age) && time.wrapping_sub(*at) <= OLDEST && copy.len() <= LONGEST
        };
        let copies: Vec<_> = self.before.iter().filter(fits).collect();
        if copies.is_empty() {
            return None;
        }
        let (payload_type, _) = self.payload_types;
        let mut wrapped = header.to_vec();
        for (_, at, copy) in &copies {
            let length = u32::try_from(copy.len()).ok()?;
            let [_, high, middle, low] = (time.wrapping_sub(*at) << 10 | length).to_be_bytes();
            wrapped.extend_from_slice(&[0x80 | payload_type, high, middle, low]);
        }
        wrapped.push(payload_type);
        copies.iter().for_each(|(_, _, copy)| wrapped.extend_from_slice(copy));
        wrapped.extend_from_slice(payload);
        Some(wrapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u16, payload: &[u8]) -> Vec<u8> {
        let time = 960 * u32::from(number);
        let head = [&[0x80, 111][..], &number.to_be_bytes(), &time.to_be_bytes(), &[0, 0, 0, 9]].concat();
        [&head[..], payload].concat()
    }

    fn losing(loss: f64) -> Estimate {
        Estimate { rate: 2_000_000, loss, round_trip: None, queue: Duration::ZERO, carried: None, is_congested: false }
    }

    #[test]
    fn a_packet_holds_the_one_before_while_packets_are_lost() {
        let mut sound = Redundancy::new(111, 63);
        let second = Duration::from_secs(1);
        sound.follow(second, &losing(0.0), 1_500_000);
        assert_eq!(sound.leaves(&packet(1, &[1; 40])), Kept::Whole);
        sound.follow(second, &losing(0.05), 1_500_000);
        let Kept::Part(wrapped) = sound.leaves(&packet(2, &[2; 50])) else { panic!("it has no copy") };
        assert_eq!(wrapped[..2], [0x80, 63]);
        assert_eq!(wrapped[2..12], packet(2, &[])[2..]);
        // 960 samples of 14 bits and 40 bytes of 10.
        assert_eq!(wrapped[12..17], [0x80 | 111, 0x0f, 0x00, 40, 111]);
        assert_eq!(wrapped[17..], [[1; 40].as_slice(), &[2; 50]].concat());
        assert_eq!(sound.leaves(&packet(4, &[4; 50])), Kept::Whole, "the third is not there to be copied");
        sound.follow(second, &losing(0.1), 1_500_000);
        let Kept::Part(wrapped) = sound.leaves(&packet(5, &[5; 50])) else { panic!("it has no copy") };
        assert_eq!(wrapped.len(), 12 + 4 + 1 + 50 + 50);
    }

    #[test]
    fn copies_end_some_time_after_the_losses_and_at_once_in_a_full_queue() {
        let mut sound = Redundancy::new(111, 63);
        let at = Duration::from_secs;
        sound.follow(at(1), &losing(0.05), 1_500_000);
        sound.follow(at(10), &losing(0.0), 1_500_000);
        assert_eq!(sound.copies, 1);
        sound.follow(at(17), &losing(0.0), 1_500_000);
        assert_eq!(sound.copies, 0);
        sound.follow(at(18), &losing(0.05), 100_000);
        assert_eq!(sound.copies, 0, "it would take half of the rate");
        sound.follow(at(18), &Estimate { is_congested: true, ..losing(0.05) }, 1_500_000);
        assert_eq!(sound.copies, 0);
    }
}
