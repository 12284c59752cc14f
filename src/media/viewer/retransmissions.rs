//! Which of the packets that a viewer asks for are sent again.
//!
//! In here: reading its requests (RFC 4585, 6.2.1) and writing those that rtpbin is to answer. A receiver asks for a packet
//! several times while the first copy still stands in a queue, which copies would make longer, and for packets of pictures
//! that it needs no more since others begin with a key frame. Not in here: the packets (rtpbin's `rtprtxsend`).
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::media::packets::Kept;

/// What comes between two copies of a packet at least, without a round trip that is known.
const UNKNOWN_ROUND_TRIP: Duration = Duration::from_millis(60);
/// Receivers ask again after a round trip by their own measure, which a copy that was lost must not have to wait beyond.
const OF_ROUND_TRIP: f64 = 0.6;
/// So long after a key frame began other pictures a receiver may still ask for those before: longer than any queue. Beyond
/// that the numbers, which turn over, would soon mean others.
const ASKED_FOR: Duration = Duration::from_secs(10);
/// Packets sent again that are remembered.
const REMEMBERED: usize = 512;
/// Of a header and two sources, before the numbers.
const HEAD: usize = 12;

/// What one viewer was sent again.
#[derive(Debug, Default)]
pub(super) struct Retransmissions {
    /// Sequence number and when.
    sent: VecDeque<(u16, Duration)>,
    /// Of the first packet that is of use, and since when.
    first: Option<(u16, Duration)>,
}

impl Retransmissions {
    /// The pictures before this packet are not needed any more.
    pub fn begins_at(&mut self, now: Duration, sequence_number: u16) {
        self.first = Some((sequence_number, now));
        self.sent.clear();
    }

    /// What is to be answered of a request, on a path of such a round trip, the queue on it left out.
    pub fn answer(&mut self, now: Duration, round_trip: Option<Duration>, queue: Duration, request: &[u8]) -> Kept {
        let Some((head, asked)) = request.split_at_checked(HEAD) else { return Kept::Nothing };
        let (mut answered, mut is_whole) = (head.to_vec(), true);
        let between = round_trip.unwrap_or(UNKNOWN_ROUND_TRIP).mul_f64(OF_ROUND_TRIP) + queue;
        for entry in asked.chunks_exact(4) {
            let [a, b, c, d] = *entry else { continue };
            let (first, others) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let numbers = (0..=16u16).filter(|place| *place == 0 || others >> (place - 1) & 1 == 1);
            for number in numbers.map(|place| first.wrapping_add(place)) {
                if self.may_send(now, between, number) {
                    answered.extend_from_slice(&number.to_be_bytes());
                    answered.extend_from_slice(&[0, 0]);
                } else {
                    is_whole = false;
                }
            }
        }
        if is_whole {
            return Kept::Whole;
        }
        let Ok(words) = u16::try_from(answered.len() / 4 - 1) else { return Kept::Nothing };
        if answered.len() == HEAD {
            return Kept::Nothing;
        }
        if let Some(length) = answered.get_mut(2..4) {
            length.copy_from_slice(&words.to_be_bytes());
        }
        Kept::Part(answered)
    }

    fn may_send(&mut self, now: Duration, between: Duration, number: u16) -> bool {
        // Numbers turn over, so half of them are before any other.
        self.first = self.first.filter(|(_, since)| now.saturating_sub(*since) < ASKED_FOR);
        let is_before = self.first.is_some_and(|(first, _)| number.wrapping_sub(first) >= 0x8000);
        let is_under_way = |(sent, at): &(u16, Duration)| *sent == number && now.saturating_sub(*at) < between;
        if is_before || self.sent.iter().any(is_under_way) {
            return false;
        }
        if self.sent.len() == REMEMBERED {
            self.sent.pop_front();
        }
        self.sent.push_back((number, now));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(entries: &[(u16, u16)]) -> Vec<u8> {
        let length = (2 + entries.len()) as u16;
        let head = [&[0x81, 205][..], &length.to_be_bytes(), &[0, 0, 0, 1, 0, 0, 0, 2]].concat();
        entries.iter().fold(head, |packet, (first, others)| {
            [packet, first.to_be_bytes().to_vec(), others.to_be_bytes().to_vec()].concat()
        })
    }

    #[test]
    fn a_packet_is_not_sent_again_while_its_copy_is_under_way() {
        let mut sent = Retransmissions::default();
        let (ms, queue) = (Duration::from_millis, Duration::from_millis(464));
        assert_eq!(sent.answer(ms(0), None, queue, &request(&[(10, 0b1)])), Kept::Whole, "10 and 11");
        assert_eq!(sent.answer(ms(100), None, queue, &request(&[(10, 0b1)])), Kept::Nothing);
        let others = sent.answer(ms(200), None, queue, &request(&[(10, 0b101)]));
        assert_eq!(others, Kept::Part(request(&[(13, 0)])), "what is new of it");
        assert_eq!(sent.answer(ms(500), None, queue, &request(&[(10, 0b1)])), Kept::Whole, "the copies were lost");
    }

    #[test]
    fn nothing_is_sent_again_of_pictures_before_a_key_frame_that_begins_others() {
        let mut sent = Retransmissions::default();
        sent.begins_at(Duration::ZERO, 3);
        let asked = request(&[(65_530, 0), (1, 0b111)]);
        assert_eq!(sent.answer(Duration::ZERO, None, Duration::ZERO, &asked), Kept::Part(request(&[(3, 0), (4, 0)])));
        let minutes = Duration::from_secs(300);
        assert_eq!(sent.answer(minutes, None, Duration::ZERO, &asked), Kept::Whole, "the numbers mean others by now");
    }
}
