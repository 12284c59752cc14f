//! The packets of one path that were sent lately, by their transport-wide numbers.
//!
//! Pure.

use std::collections::VecDeque;
use std::time::Duration;

/// Some ten seconds of the largest pictures; what is reported later is of no use.
const MOST: usize = 8192;

/// Frames come every 40 ms; after such a time nothing is sent at all, and nothing reported.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
pub struct History {
    /// Without gaps.
    packets: VecDeque<Sent>,
    /// The number of the next packet, never turning over.
    next: u64,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    bytes: u32,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Lost,
    Arrived,
}

/// What is known of a packet that a report names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reported {
    pub sent: Duration,
    pub bytes: u32,
    /// It was not reported before.
    pub is_news: bool,
    /// It was reported as lost before.
    pub was_lost: bool,
}

impl History {
    /// Remembers a packet; its number turns over after 65535.
    pub fn sent(&mut self, at: Duration, bytes: u32) -> u16 {
        if self.packets.len() == MOST {
            self.packets.pop_front();
        }
        self.packets.push_back(Sent { at, bytes, fate: Fate::Unknown });
        self.next += 1;
        #[allow(clippy::cast_possible_truncation, reason = "numbers turn over")]
        let number = (self.next - 1) as u16;
        number
    }

    /// What a report says of a packet; `None` of one that is not known any more, or that had arrived already.
    pub fn reported(&mut self, number: u16, arrived: bool) -> Option<Reported> {
        #[allow(clippy::cast_possible_truncation, reason = "numbers turn over")]
        let age = usize::from((self.next as u16).wrapping_sub(number));
        let place = self.packets.len().checked_sub(age).filter(|_| age > 0)?;
        let packet = self.packets.get_mut(place)?;
        let before = packet.fate;
        if before == Fate::Arrived {
            return None;
        }
        packet.fate = if arrived { Fate::Arrived } else { Fate::Lost };
        let (is_news, was_lost) = (before == Fate::Unknown, before == Fate::Lost);
        Some(Reported { sent: packet.at, bytes: packet.bytes, is_news, was_lost })
    }

    /// Bytes sent since a moment.
    pub fn bytes_since(&self, since: Duration) -> u32 {
        let lately = self.packets.iter().rev().take_while(|packet| packet.at >= since);
        lately.fold(0, |sum, packet| sum.saturating_add(packet.bytes))
    }

    /// When the first packet was sent since which nothing was reported, of those that left without a pause until `now`.
    pub fn unreported_since(&self, now: Duration) -> Option<Duration> {
        let mut later = now;
        let silent = self.packets.iter().rev().take_while(|packet| {
            let goes_on = later.saturating_sub(packet.at) < PAUSE;
            later = packet.at;
            goes_on && packet.fate == Fate::Unknown
        });
        silent.last().map(|packet| packet.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_found_by_its_number_until_it_has_arrived_or_is_forgotten() {
        let mut history = History::default();
        let mut numbers = Vec::new();
        for at in 0..70_000u64 {
            numbers.push(history.sent(Duration::from_millis(at), 100));
        }
        assert_eq!((numbers[65_535], numbers[65_536]), (65_535, 0));
        let last = *numbers.last().unwrap();
        let found = history.reported(last, false).unwrap();
        assert_eq!((found.sent, found.is_news, found.was_lost), (Duration::from_millis(69_999), true, false));
        let late = history.reported(last, true).unwrap();
        assert_eq!((late.is_news, late.was_lost), (false, true));
        assert_eq!(history.reported(last, true), None, "it had arrived");
        assert_eq!(history.reported(last.wrapping_add(1), true), None, "it was not sent yet");
        assert_eq!(history.reported(numbers[60_000], true), None, "it is forgotten");
        assert_eq!(history.bytes_since(Duration::from_millis(69_990)), 1000);
        let at = Duration::from_millis;
        assert_eq!(history.unreported_since(at(70_000)), None);
        history.sent(at(70_000), 1);
        history.sent(at(70_400), 1);
        assert_eq!(history.unreported_since(at(70_500)), Some(at(70_000)));
        assert_eq!(history.unreported_since(at(71_000)), None, "nothing is sent any more");
        history.sent(at(90_000), 1);
        assert_eq!(history.unreported_since(at(90_000)), Some(at(90_000)), "after a pause it begins anew");
    }
}
