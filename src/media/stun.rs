//! STUN messages (RFC 8489), as far as they are read or written here: whose viewer a packet is for, and what a STUN or TURN
//! server answers.
//!
//! In here: one message in bytes, its attributes, its integrity. Pure; nothing of a message is believed but what its lengths
//! allow. Not in here: sockets (`one_port`, `doctor`), ICE itself, which libnice does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Of every message since RFC 5389.
const COOKIE: [u8; 4] = 0x2112_A442u32.to_be_bytes();
const HEADER: usize = 20;
const INTEGRITY: u16 = 0x0008;
const INTEGRITY_BYTES: usize = 20;

/// Of messages: the method and whether it is a request, a success or an error.
pub(crate) const BINDING: u16 = 0x0001;
pub(crate) const BINDING_SUCCESS: u16 = 0x0101;
pub(crate) const ALLOCATE: u16 = 0x0003;
pub(crate) const ALLOCATE_SUCCESS: u16 = 0x0103;
pub(crate) const ALLOCATE_ERROR: u16 = 0x0113;
pub(crate) const REFRESH: u16 = 0x0004;

/// Of attributes.
pub(crate) const USERNAME: u16 = 0x0006;
pub(crate) const ERROR_CODE: u16 = 0x0009;
pub(crate) const LIFETIME: u16 = 0x000D;
pub(crate) const REALM: u16 = 0x0014;
pub(crate) const NONCE: u16 = 0x0015;
pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// A message whose lengths fit together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    bytes: &'a [u8],
}

impl<'a> Message<'a> {
    /// `None` for whatever is not exactly one message.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let kind = number(bytes, 0)?;
        let length = usize::from(number(bytes, 2)?);
        let is_whole = length % 4 == 0 && bytes.len() == HEADER + length;
        // The two highest bits tell STUN from all else on its port.
        (is_whole && kind < 0x4000 && bytes.get(4..8)? == COOKIE).then_some(Self { kind, bytes })
    }

    /// Which request this is, or answers.
    pub(crate) fn transaction(&self) -> &'a [u8] {
        self.bytes.get(8..HEADER).unwrap_or_default()
    }

    /// The first attribute of this kind, of those that integrity covers, if there is that.
    pub(crate) fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        let covered = self.attributes().take_while(|(_, found, _)| *found != INTEGRITY);
        covered.into_iter().find(|(_, found, _)| *found == kind).map(|(_, _, value)| value)
    }

    /// Whether it was made by somebody who has this key: a password of ICE as it is, or a long-term one's hash.
    pub(crate) fn is_signed_by(&self, key: &[u8]) -> bool {
        let Some((at, _, sum)) = self.attributes().find(|(_, kind, _)| *kind == INTEGRITY) else { return false };
        if sum.len() != INTEGRITY_BYTES {
            return false;
        }
        let (Some(kind), Some(rest), Ok(mut mac)) =
            (self.bytes.get(..2), self.bytes.get(4..at), Hmac::<Sha1>::new_from_slice(key))
        else {
            return false;
        };
        mac.update(kind);
        mac.update(&length_until(at + 4 + INTEGRITY_BYTES).to_be_bytes());
        mac.update(rest);
        mac.verify_slice(sum).is_ok()
    }

    /// An address that is written XORed, as XOR-MAPPED-ADDRESS and XOR-RELAYED-ADDRESS are.
    pub(crate) fn address(&self, kind: u16) -> Option<SocketAddr> {
        let value = self.attribute(kind)?;
        let port = number(value, 2)? ^ u16::from_be_bytes([COOKIE[0], COOKIE[1]]);
        let mask = COOKIE.iter().chain(self.transaction());
        let unmasked: Vec<u8> = value.get(4..)?.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        let address = match value.get(1)? {
            1 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(unmasked).ok()?)),
            2 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(unmasked).ok()?)),
            _ => return None,
        };
        Some(SocketAddr::new(address, port))
    }

    /// The number of an error, such as 401.
    pub(crate) fn error_code(&self) -> Option<u16> {
        let value = self.attribute(ERROR_CODE)?;
        Some(u16::from(value.get(2)? & 7) * 100 + u16::from(*value.get(3)?))
    }

    /// Where each begins, its kind and value; ends where lengths do not fit.
    fn attributes(&self) -> impl Iterator<Item = (usize, u16, &'a [u8])> + use<'a> {
        let (bytes, mut at) = (self.bytes, HEADER);
        std::iter::from_fn(move || {
            let (begins, kind) = (at, number(bytes, at)?);
            let length = usize::from(number(bytes, at + 2)?);
            let value = bytes.get(at + 4..at + 4 + length)?;
            at += 4 + length.next_multiple_of(4);
            Some((begins, kind, value))
        })
    }
}

/// A message that is written, attribute after attribute.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u16, transaction: [u8; 12]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&COOKIE);
        bytes.extend_from_slice(&transaction);
        Self(bytes).measured(0)
    }

    /// Of at most some hundred bytes.
    pub(crate) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend_from_slice(&kind.to_be_bytes());
        self.0.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.measured(0)
    }

    /// Covers what is written so far with the key that [`Message::is_signed_by`] has.
    pub(crate) fn signed(self, key: &[u8]) -> Self {
        let covered = self.measured(4 + INTEGRITY_BYTES);
        // HMAC takes a key of any length.
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(key) else { return covered };
        mac.update(&covered.0);
        let sum = mac.finalize().into_bytes();
        covered.attribute(INTEGRITY, &sum)
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }

    /// With its length in its header, as if so many bytes more were there.
    fn measured(mut self, more: usize) -> Self {
        let length = length_until(self.0.len() + more).to_be_bytes();
        if let Some(place) = self.0.get_mut(2..4) {
            place.copy_from_slice(&length);
        }
        self
    }
}

/// What the header says of a message that ends there.
fn length_until(end: usize) -> u16 {
    u16::try_from(end.saturating_sub(HEADER)).unwrap_or(u16::MAX)
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The request of RFC 5769, 2.1, whose password is `VOkJxbRl1RmTxUk/WvJxBt`.
    const SAMPLE: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff\
                          80290008932ff9b151263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f2\
                          49c1b571a280280004e57a3bcf";

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_rfc_s_own_request_is_read_and_its_integrity_holds() {
        let bytes = unhex(SAMPLE);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!((message.kind, message.attribute(USERNAME)), (BINDING, Some(&b"evtj:h6vY"[..])));
        assert!(message.is_signed_by(b"VOkJxbRl1RmTxUk/WvJxBt") && !message.is_signed_by(b"VOkJxbRl1RmTxUk/WvJxBu"));
        // Any other bit of what is covered, of the sum, or of the header.
        for at in (0..bytes.len() - 8).filter(|at| !(2..8).contains(at)) {
            let mut other = bytes.clone();
            other[at] ^= 1;
            let signed = Message::parse(&other).is_some_and(|message| message.is_signed_by(b"VOkJxbRl1RmTxUk/WvJxBt"));
            // What fills an attribute up to four bytes is covered as well.
            assert!(!signed, "byte {at}");
        }
    }

    #[test]
    fn what_is_behind_the_integrity_does_not_count() {
        let signed =
            Writer::new(BINDING, [7; 12]).attribute(USERNAME, b"a:b").signed(b"key").attribute(USERNAME, b"c:d");
        let bytes = signed.bytes();
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.attribute(USERNAME), Some(&b"a:b"[..]));
        assert!(message.is_signed_by(b"key"));
        let behind = Writer::new(BINDING, [7; 12]).signed(b"key").attribute(USERNAME, b"c:d").bytes();
        assert_eq!(Message::parse(&behind).unwrap().attribute(USERNAME), None);
    }

    /// RFC 5769, 2.2 and 2.3.
    #[test]
    fn addresses_are_read_of_both_protocols() {
        let transaction = unhex("b7e7a701bc34d686fa87dfae").try_into().unwrap();
        for (value, address) in [
            ("0001a147e112a643", "192.0.2.1:32853"),
            ("0002a1470113a9faa5d3f179bc25f4b5bed2b9d9", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
        ] {
            let bytes = Writer::new(BINDING_SUCCESS, transaction).attribute(XOR_MAPPED_ADDRESS, &unhex(value)).bytes();
            let found = Message::parse(&bytes).unwrap().address(XOR_MAPPED_ADDRESS);
            assert_eq!(found, Some(address.parse().unwrap()));
        }
        for value in ["", "0001", "0001a147", "0001a147e112a6", "0003a147e112a643", "0002a147e112a643"] {
            let bytes = Writer::new(BINDING_SUCCESS, transaction).attribute(XOR_MAPPED_ADDRESS, &unhex(value)).bytes();
            assert_eq!(Message::parse(&bytes).unwrap().address(XOR_MAPPED_ADDRESS), None, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd_to_be_read(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            is_message in any::<bool>(),
        ) {
            if is_message {
                bytes.truncate(bytes.len() / 4 * 4);
                let body = u16::try_from(bytes.len()).unwrap();
                let head = [&[0, 1][..], &body.to_be_bytes(), &COOKIE, &[0; 12]].concat();
                bytes.splice(0..0, head);
            }
            let message = Message::parse(&bytes);
            prop_assert!(message.is_some() || !is_message);
            if let Some(message) = message {
                prop_assert!(!message.is_signed_by(b"key"));
                let _ = (message.attribute(USERNAME), message.address(XOR_MAPPED_ADDRESS), message.error_code());
            }
        }
    }
}
