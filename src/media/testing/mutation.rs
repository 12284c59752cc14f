//! Damages text as a fuzzer does: by lines, words, numbers and bytes, and with parts of other texts.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

/// Where readers of numbers and names go wrong.
const WORDS: &[&str] = &[
    "",
    "0",
    "-1",
    "00",
    "1",
    "8",
    "9",
    "63",
    "64",
    "95",
    "96",
    "97",
    "108",
    "111",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "18446744073709551616",
    "1e9",
    "*",
    "/",
    "/90000",
    "VP8/90000",
    "H264/90000",
    "opus/48000/2",
    "OPUS/48000",
    "opus/48000/1",
    "rtx/90000",
    "red/48000/2",
    "ulpfec/90000",
    "apt=",
    "apt=96",
    "apt=111",
    "recvonly",
    "sendrecv",
    "inactive",
    "active",
    "passive",
    "actpass",
    "holdconn",
    "BUNDLE",
    "video",
    "audio",
    "application",
    "UDP/TLS/RTP/SAVPF",
    "RTP/AVP",
    "TCP/DTLS/SCTP",
    "sha-256",
    "sha-1",
    "udp",
    "tcp",
    "typ",
    "host",
    "relay",
    "srflx",
    "127.0.0.1",
    "0.0.0.0",
    "::1",
    "::ffff:127.0.0.1",
    "fe80::1%eth0",
    "169.254.169.254",
    "224.0.0.1",
    "a.local",
    "%s%n",
    "\u{0}",
    "\u{1F600}",
    "\u{FEFF}",
    "\"",
    "\\",
    ";",
    ",",
    "=",
    ":",
];
/// Lines that are worth having in places where they do not belong.
const LINES: &[&str] = &[
    "m=video 9 UDP/TLS/RTP/SAVPF 96",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "a=rtpmap:96 opus/48000/2",
    "a=rtpmap:111 VP8/90000",
    "a=rtpmap:111 H264/90000",
    "a=fmtp:97 apt=97",
    "a=fmtp:96 apt=111",
    "a=mid:0",
    "a=mid:1",
    "a=group:BUNDLE 0 1",
    "a=group:BUNDLE 1 0",
    "a=group:BUNDLE 0 0",
    "a=setup:actpass",
    "a=ice-lite",
    "a=setup:active",
    "a=setup:passive",
    "a=rtcp-mux-only",
    "a=bundle-only",
    "a=end-of-candidates",
    "a=inactive",
    "a=sendrecv",
    "a=extmap:0 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:15 x",
    "a=extmap-allow-mixed",
    "a=ssrc:1 cname:x",
    "a=rid:1 send",
    "a=simulcast:send 1;2",
    "a=sctp-port:5000",
    "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:x",
    "a=rtcp-fb:* transport-cc",
    "a=candidate:1 1 udp 1 127.0.0.1 9 typ host",
    "c=IN IP6 ::",
    "b=AS:0",
    "b=TIAS:1",
    "t=0 0",
    "v=0",
    "s=",
    "i=\u{1F600}",
];

#[derive(Debug)]
pub struct Mutator(StdRng);

impl Mutator {
    pub fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.0).copied().unwrap_or_default()
    }

    /// One to eight damages, most often few.
    pub fn damage(&mut self, text: &str, other: &str) -> String {
        let mut text = text.to_owned();
        loop {
            text = self.once(&text, other);
            if self.0.random_bool(0.5) {
                return text;
            }
        }
    }

    fn once(&mut self, text: &str, other: &str) -> String {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        if lines.is_empty() {
            return other.to_owned();
        }
        let (here, there) = (self.0.random_range(0..lines.len()), self.0.random_range(0..lines.len()));
        match self.0.random_range(0..9) {
            0 => {
                lines.remove(here);
            }
            1 => lines.insert(there, lines[here]),
            2 => lines.swap(here, there),
            3 => {
                let line = self.pick(LINES);
                lines.insert(here, line);
                lines.insert(here + 1, "\r\n");
            }
            4 => {
                let foreign: Vec<&str> = other.split_inclusive('\n').collect();
                lines[here] = self.pick(&foreign);
            }
            5 => lines.truncate(here + 1),
            6 => return self.byte(text),
            _ => {
                let line = self.word(lines[here]);
                let mut damaged: String = lines[..here].concat();
                damaged += &line;
                damaged += &lines[here + 1..].concat();
                return damaged;
            }
        }
        lines.concat()
    }

    /// Another word in place of one, or between two.
    fn word(&mut self, line: &str) -> String {
        let is_between = |character: char| " :/=;,\r\n".contains(character);
        let starts: Vec<usize> = line
            .char_indices()
            .filter(|(at, character)| !is_between(*character) && (*at == 0 || line[..*at].ends_with(is_between)))
            .map(|(at, _)| at)
            .collect();
        let Some(start) = starts.choose(&mut self.0).copied() else { return self.byte(line) };
        let end = line[start..].find(is_between).map_or(line.len(), |length| start + length);
        let word = self.pick(WORDS);
        let end = if self.0.random_bool(0.1) { start } else { end };
        format!("{}{word}{}", &line[..start], &line[end..])
    }

    /// Another byte in place of one, as text again.
    fn byte(&mut self, text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        if bytes.is_empty() {
            return "\0".to_owned();
        }
        let at = self.0.random_range(0..bytes.len());
        match self.0.random_range(0..3) {
            0 => bytes[at] = self.0.random(),
            1 => bytes[at] ^= 1 << self.0.random_range(0..8),
            _ => {
                bytes.remove(at);
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
