//! Reports of a receiver, read from RTCP: which packets arrived when, and how many were lost.
//!
//! In here: transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01) and the report blocks of RFC 3550.
//! Whatever a peer writes, reading it takes a bounded time.
//! Pure.

/// The header extension's name in an offer.
pub const TRANSPORT_EXTENSION: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Of the reference time.
pub const REFERENCE_MICROSECONDS: i64 = 64_000;
const DELTA_MICROSECONDS: i64 = 250;
/// A receiver reports several times a second; what it says of more packets than these is no report.
const MOST_PACKETS: u16 = 4096;

/// One report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportFeedback {
    /// Of the first packet.
    base: u16,
    /// 24 bits of the receiver's time, in 64 ms.
    pub reference: u32,
    /// Of each packet, the time since the one before in microseconds, or that it did not arrive.
    packets: Vec<Option<i64>>,
}

impl TransportFeedback {
    /// Reads a whole RTCP packet of type 205 and format 15; `None` if it is cut off or says more than it may.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let body = packet.get(12..)?;
        let (&[base_high, base_low, count_high, count_low, a, b, c, _], rest) = body.split_first_chunk::<8>()?;
        let count = u16::from_be_bytes([count_high, count_low]);
        if count > MOST_PACKETS {
            return None;
        }
        let mut statuses = Vec::with_capacity(usize::from(count));
        let mut rest = rest;
        while statuses.len() < usize::from(count) {
            let (chunk, others) = rest.split_first_chunk::<2>()?;
            push_statuses(&mut statuses, u16::from_be_bytes(*chunk), usize::from(count));
            rest = others;
        }
        let mut packets = Vec::with_capacity(statuses.len());
        for status in statuses {
            packets.push(match status {
                1 => {
                    let (delta, others) = rest.split_first()?;
                    rest = others;
                    Some(i64::from(*delta) * DELTA_MICROSECONDS)
                }
                2 => {
                    let (delta, others) = rest.split_first_chunk::<2>()?;
                    rest = others;
                    Some(i64::from(i16::from_be_bytes(*delta)) * DELTA_MICROSECONDS)
                }
                _ => None,
            });
        }
        let base = u16::from_be_bytes([base_high, base_low]);
        Some(Self { base, reference: u32::from_be_bytes([0, a, b, c]), packets })
    }

    /// Each packet's number, and the time since the one before of those that arrived.
    pub fn packets(&self) -> impl Iterator<Item = (u16, Option<i64>)> + '_ {
        (0u16..).zip(&self.packets).map(|(after, delta)| (self.base.wrapping_add(after), *delta))
    }
}

fn push_statuses(statuses: &mut Vec<u8>, chunk: u16, count: usize) {
    let room = count - statuses.len();
    let symbol = |shift: u16, mask: u16| u8::try_from(chunk >> shift & mask).unwrap_or(0);
    match chunk >> 14 {
        0 | 1 => {
            let run = usize::from(chunk & 0x1fff).min(room);
            // A run of nothing would be read for ever.
            let run = if chunk & 0x1fff == 0 { room } else { run };
            statuses.extend(std::iter::repeat_n(symbol(13, 3), run));
        }
        2 => statuses.extend((0..14).rev().map(|shift| symbol(shift, 1)).take(room)),
        _ => statuses.extend((0..7).rev().map(|shift| symbol(2 * shift, 3)).take(room)),
    }
}

/// A 24-bit time made continuous with the one before.
pub fn unwrap(reference: u32, before: Option<i64>) -> i64 {
    const TURN: i64 = 1 << 24;
    let reference = i64::from(reference);
    let Some(before) = before else { return reference };
    let difference = (reference - before).rem_euclid(TURN);
    before + if difference < TURN / 2 { difference } else { difference - TURN }
}

/// Of a whole receiver's or sender's report: the source that each block is of, and how many of 256 packets it lost.
pub fn report_blocks(packet: &[u8]) -> impl Iterator<Item = (u32, u8)> + '_ {
    let first = match packet {
        [_, 200, ..] => 28,
        _ => 8,
    };
    let count = packet.first().map_or(0, |first| usize::from(first & 0x1f));
    let blocks = packet.get(first..).unwrap_or_default().as_chunks::<24>().0;
    blocks.iter().take(count).map(|block| (u32::from_be_bytes([block[0], block[1], block[2], block[3]]), block[4]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(base: u16, count: u16, reference: u32, rest: &[u8]) -> Vec<u8> {
        let head = [0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        [&head[..], &base.to_be_bytes(), &count.to_be_bytes(), &reference.to_be_bytes()[1..], &[7], rest].concat()
    }

    #[test]
    fn chunks_of_every_kind_are_read() {
        // Three of a run, then 1 0 1 of a vector of one bit each, then 2 1 0 of one of two bits.
        let chunks = [0x20, 3, 0b1010_1000, 0, 0b1110_0100, 0];
        let deltas = [4, 4, 4, 8, 9, 0xff, 0xfc, 1];
        let rest: Vec<u8> = chunks.into_iter().chain(deltas).collect();
        let report = TransportFeedback::parse(&packet(65534, 3 + 14 + 3, 5, &rest)).unwrap();
        let read: Vec<(u16, Option<i64>)> = report.packets().collect();
        assert_eq!(report.reference, 5);
        assert_eq!(read[..3], [(65534, Some(1000)), (65535, Some(1000)), (0, Some(1000))]);
        assert_eq!(read[3..6], [(1, Some(2000)), (2, None), (3, Some(2250))]);
        assert_eq!(read[17..], [(15, Some(-1000)), (16, Some(250)), (17, None)]);
    }

    #[test]
    fn a_report_that_is_cut_off_or_too_long_is_none() {
        let whole = packet(1, 3, 5, &[0x20, 3, 4, 4, 4]);
        assert!(TransportFeedback::parse(&whole).is_some());
        for length in 0..whole.len() {
            assert_eq!(TransportFeedback::parse(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(TransportFeedback::parse(&packet(1, 5000, 5, &[0x1f, 0xff, 0x1f, 0xff])), None);
    }

    #[test]
    fn times_go_on_over_the_end_of_their_24_bits() {
        assert_eq!(unwrap(0xff_ffff, None), 0xff_ffff);
        assert_eq!(unwrap(2, Some(0xff_ffff)), 0x100_0002);
        assert_eq!(unwrap(0xff_fffe, Some(0x100_0002)), 0xff_fffe, "one that comes late");
    }

    #[test]
    fn blocks_of_receivers_and_senders_reports_tell_what_was_lost() {
        let block = |source: u32, lost: u8| [&source.to_be_bytes()[..], &[lost], &[0; 19]].concat();
        let receiver = [&[0x82, 201, 0, 13, 0, 0, 0, 1][..], &block(7, 26), &block(8, 0)].concat();
        assert_eq!(report_blocks(&receiver).collect::<Vec<_>>(), [(7, 26), (8, 0)]);
        let sender = [&[0x81, 200, 0, 12, 0, 0, 0, 1][..], &[0; 20], &block(9, 255)].concat();
        assert_eq!(report_blocks(&sender).collect::<Vec<_>>(), [(9, 255)]);
        assert_eq!(report_blocks(&receiver[..20]).count(), 0);
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_reading_them_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = TransportFeedback::parse(&bytes).map(|report| report.packets().count());
            let _ = report_blocks(&bytes).count();
        }
    }
}
