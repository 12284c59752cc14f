//! Packets in a stream of bytes, each behind its length (RFC 4571), as ICE has them over TCP.
//!
//! Pure: bytes come in as they were read, packets go out. What is kept is at most one packet.

/// A packet that is longer than any of WebRTC's: whoever sends it means something else than ICE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet of {0} bytes: none of WebRTC's is empty or has more than {most}", most = super::LARGEST_PACKET)]
pub struct OddLength(usize);

/// Cuts a stream into packets.
#[derive(Debug, Default)]
pub struct Unframer {
    /// The beginning of a packet, its length first.
    begun: Vec<u8>,
}

impl Unframer {
    /// Gives each packet that is whole by now to `takes`, until that says that it is enough.
    pub fn feed(&mut self, mut bytes: &[u8], mut takes: impl FnMut(&[u8]) -> bool) -> Result<(), OddLength> {
        loop {
            let length = match (self.begun.as_slice(), bytes) {
                ([high, low, ..], _) | ([], [high, low, ..]) => usize::from(u16::from_be_bytes([*high, *low])),
                ([_], [next, rest @ ..]) => {
                    self.begun.push(*next);
                    bytes = rest;
                    continue;
                }
                (_, rest) => {
                    self.begun.extend_from_slice(rest);
                    return Ok(());
                }
            };
            if !(1..=super::LARGEST_PACKET).contains(&length) {
                return Err(OddLength(length));
            }
            let missing = (2 + length).saturating_sub(self.begun.len());
            let Some((part, rest)) = bytes.split_at_checked(missing) else {
                self.begun.extend_from_slice(bytes);
                return Ok(());
            };
            bytes = rest;
            // A packet that came whole is not copied.
            let goes_on = if self.begun.is_empty() {
                takes(part.get(2..).unwrap_or_default())
            } else {
                self.begun.extend_from_slice(part);
                takes(self.begun.get(2..).unwrap_or_default())
            };
            self.begun.clear();
            if !goes_on {
                return Ok(());
            }
        }
    }
}

/// A packet behind its length; `None` if it is longer than a length can say.
pub fn framed(packet: &[u8]) -> Option<Vec<u8>> {
    let length = u16::try_from(packet.len()).ok()?;
    Some([&length.to_be_bytes()[..], packet].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::LARGEST_PACKET;
    use super::*;

    proptest! {
        #[test]
        fn packets_come_out_as_they_went_in_however_the_stream_is_cut(
            packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..100), 0..8),
            cuts in proptest::collection::vec(1usize..50, 1..40),
        ) {
            let stream = packets.iter().flat_map(|packet| framed(packet).unwrap()).collect::<Vec<u8>>();
            let (mut unframer, mut found, mut rest) = (Unframer::default(), Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, behind) = rest.split_at((*cut).min(rest.len()));
                rest = behind;
                unframer.feed(piece, |packet| { found.push(packet.to_vec()); true }).unwrap();
            }
            prop_assert_eq!(found, packets);
            prop_assert!(unframer.begun.is_empty());
        }

        #[test]
        fn no_stream_makes_it_keep_more_than_a_packet(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..8),
        ) {
            let mut unframer = Unframer::default();
            for piece in pieces {
                let fed = unframer.feed(&piece, |packet| {
                    assert!((1..=LARGEST_PACKET).contains(&packet.len()));
                    true
                });
                prop_assert!(unframer.begun.len() < 2 + LARGEST_PACKET);
                if fed.is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn an_empty_packet_and_one_that_is_too_long_end_it() {
        for length in [0u16, 2049, 0xffff] {
            let fed = Unframer::default().feed(&length.to_be_bytes(), |_| true);
            assert_eq!(fed, Err(OddLength(usize::from(length))));
        }
    }
}
