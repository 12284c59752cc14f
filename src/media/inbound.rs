//! What a connected peer may send into its pipeline: one voice and reports on what it receives.
//!
//! In here: dropping packets before they cost anything. rtpbin gives every new source two threads and each payload type of
//! it a pad, srtpdec keeps a key for each for ever, and what RTCP may say is much more than what is of use here.
//! Not in here: what is done with the voice (`microphone`).
//! Runs on: the peer's receiving thread, in pad probes around its `srtpdec`: before it by the headers, which are not
//! encrypted, and after it by what the reports say.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use gstreamer as gst;
use gstreamer::prelude::*;

use super::packets::{Kept, keep};

/// A microphone has one source, and another one if it is begun anew.
const MOST_VOICES: usize = 2;
/// Browsers report as one source for each track that they receive, or as one for all.
const MOST_REPORTERS: usize = 16;
/// No payload type: they have seven bits.
const NONE: u8 = 0x80;

/// Takes each RTCP packet of a peer that says how ours arrive, and keeps what rtpbin is to see of it.
pub type Reporter = Box<dyn Fn(&[u8]) -> Kept + Send + Sync>;

/// The guard of one peer.
pub struct Inbound {
    /// The payload type of the microphone, if it is open.
    voice: AtomicU8,
    /// Packets that were not let in.
    refused: AtomicU64,
    /// Packets of RTCP that came, whatever they said: they are signs of life.
    reports: AtomicU64,
    sources: Mutex<Sources>,
    reporter: OnceLock<Reporter>,
}

impl std::fmt::Debug for Inbound {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Inbound").field("voice", &self.voice).field("refused", &self.refused).finish()
    }
}

#[derive(Debug, Default)]
struct Sources {
    voices: Vec<u32>,
    reporters: Vec<u32>,
}

impl Inbound {
    pub fn new(microphone: Option<u8>) -> Arc<Self> {
        let inbound = Self {
            voice: AtomicU8::new(NONE),
            refused: AtomicU64::new(0),
            reports: AtomicU64::new(0),
            sources: Mutex::default(),
            reporter: OnceLock::new(),
        };
        inbound.open(microphone);
        Arc::new(inbound)
    }

    /// Lets this payload type in, or nothing.
    pub fn open(&self, microphone: Option<u8>) {
        self.voice.store(microphone.unwrap_or(NONE), Ordering::Relaxed);
    }

    /// Who is told of reports; the first one that says so.
    pub fn report_to(&self, reporter: Reporter) {
        let _ = self.reporter.set(reporter);
    }

    /// Watches every `srtpdec` that webrtcbin makes within a pipeline.
    pub fn guard(self: &Arc<Self>, pipeline: &gst::Pipeline) {
        let inbound = Arc::clone(self);
        pipeline.connect_deep_element_added(move |_, _, element| inbound.watch(element));
    }

    fn watch(self: &Arc<Self>, element: &gst::Element) {
        if element.factory().is_none_or(|factory| factory.name() != "srtpdec") {
            return;
        }
        for name in ["rtp_sink", "rtcp_sink"] {
            let Some(pad) = element.static_pad(name) else { continue };
            let inbound = Arc::clone(self);
            keep(&pad, move |packet| inbound.judge(packet));
        }
        if let Some(pad) = element.static_pad("rtcp_src") {
            let inbound = Arc::clone(self);
            keep(&pad, move |packet| inbound.reports(packet));
        }
    }

    fn judge(&self, packet: &[u8]) -> Kept {
        if self.admits(packet) {
            return Kept::Whole;
        }
        if self.refused.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::debug!("a viewer sends what nobody asked it for; it is thrown away");
        }
        Kept::Nothing
    }

    /// How many packets of RTCP the peer has sent so far.
    pub fn reported(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether an encrypted packet is taken: of the voice, or RTCP.
    fn admits(&self, packet: &[u8]) -> bool {
        match packet {
            // RFC 5761 tells the two apart by this.
            [_, 192..=223, _, _, a, b, c, d, ..] => {
                let source = u32::from_be_bytes([*a, *b, *c, *d]);
                let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
                sources.voices.contains(&source) || room(&mut sources.reporters, source, MOST_REPORTERS)
            }
            [_, kind, _, _, _, _, _, _, a, b, c, d, ..] if kind & 0x7f == self.voice.load(Ordering::Relaxed) => {
                let source = u32::from_be_bytes([*a, *b, *c, *d]);
                let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
                room(&mut sources.voices, source, MOST_VOICES)
            }
            _ => false,
        }
    }

    /// What of a compound RTCP packet is of use to rtpbin: how well our packets arrive, what is asked for again, and
    /// when the voice was sent. The rest ends here: goodbyes (the connection's own end tells), descriptions,
    /// extensions, what is cut off.
    fn reports(&self, packet: &[u8]) -> Kept {
        self.reports.fetch_add(1, Ordering::Relaxed);
        let mut kept = Vec::new();
        let mut rest = packet;
        while let [first, kind, high, low, ..] = rest {
            let length = 4 * (usize::from(u16::from_be_bytes([*high, *low])) + 1);
            let Some((report, others)) = rest.split_at_checked(length) else { break };
            if first >> 6 != 2 {
                break;
            }
            let of_report = self.reporter.get().map_or(Kept::Whole, |reporter| reporter(report));
            if self.is_of_use(*first & 0x1f, *kind, report) && first & 0x20 == 0 {
                match &of_report {
                    Kept::Whole => kept.extend_from_slice(report),
                    Kept::Part(part) => kept.extend_from_slice(part),
                    Kept::Nothing => {}
                }
            }
            rest = others;
        }
        match kept.len() {
            0 => Kept::Nothing,
            _ if kept == packet => Kept::Whole,
            _ => Kept::Part(kept),
        }
    }

    /// `count` is of report blocks, or the format of a request.
    fn is_of_use(&self, count: u8, kind: u8, report: &[u8]) -> bool {
        let [_, _, _, _, a, b, c, d, ..] = report else { return false };
        let source = u32::from_be_bytes([*a, *b, *c, *d]);
        let (words, count) = (report.len() / 4, usize::from(count));
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        match (kind, count) {
            // A sender's report makes rtpbin a stream for it.
            (200, blocks) => words >= 7 + 6 * blocks && sources.voices.contains(&source),
            (201, blocks) => {
                let is_known = sources.voices.contains(&source) || room(&mut sources.reporters, source, MOST_REPORTERS);
                words >= 2 + 6 * blocks && is_known
            }
            // Lost packets (RFC 4585), a lost picture, a key frame (RFC 5104).
            (205, 1) => words > 3,
            (206, 1) => words == 3,
            (206, 4) => words >= 5 && words % 2 == 1,
            _ => false,
        }
    }
}

/// Whether a source is among these, or there is room for it.
fn room(sources: &mut Vec<u32>, source: u32, most: usize) -> bool {
    if sources.contains(&source) {
        return true;
    }
    let has_room = sources.len() < most;
    if has_room {
        sources.push(source);
    }
    has_room
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOICE: u8 = 111;

    fn rtp(payload_type: u8, source: u32) -> Vec<u8> {
        [&[0x80, payload_type, 0, 1, 0, 0, 0, 1], source.to_be_bytes().as_slice(), &[1, 2, 3]].concat()
    }

    fn rtcp(first: u8, kind: u8, source: u32, words: u16) -> Vec<u8> {
        let mut packet = [&[first, kind], (words - 1).to_be_bytes().as_slice(), &source.to_be_bytes()].concat();
        packet.resize(4 * usize::from(words), 0);
        packet
    }

    #[test]
    fn a_peer_without_a_microphone_sends_reports_and_nothing_else() {
        let inbound = Inbound::new(None);
        assert!(!inbound.admits(&rtp(VOICE, 1)));
        assert!(inbound.admits(&rtcp(0x81, 201, 1, 8)));
        inbound.open(Some(VOICE));
        assert!(inbound.admits(&rtp(VOICE, 1)));
        inbound.open(None);
        assert!(!inbound.admits(&rtp(VOICE, 1)));
    }

    #[test]
    fn of_many_sources_and_payload_types_only_the_voice_comes_in() {
        let inbound = Inbound::new(Some(VOICE));
        let voices = (0..300).filter(|source| inbound.admits(&rtp(VOICE, *source))).count();
        assert_eq!(voices, MOST_VOICES);
        assert!(inbound.admits(&rtp(0x80 | VOICE, 0)), "with the marker it is the same payload type");
        assert!((0..128).filter(|kind| *kind != VOICE).all(|kind| !inbound.admits(&rtp(kind, 0))));
        let reporters = (1000..1300).filter(|source| inbound.admits(&rtcp(0x80, 201, *source, 2))).count();
        assert_eq!(reporters, MOST_REPORTERS);
        for cut in 0..12 {
            assert!(!inbound.admits(&rtp(VOICE, 0)[..cut]));
        }
    }

    #[test]
    fn of_rtcp_only_what_is_of_use_is_kept() {
        let inbound = Inbound::new(Some(VOICE));
        inbound.admits(&rtp(VOICE, 7));
        let receiver = rtcp(0x81, 201, 9, 8);
        let sender = rtcp(0x80, 200, 7, 7);
        let picture = rtcp(0x81, 206, 9, 3);
        let lost = rtcp(0x81, 205, 9, 4);
        let key_frame = rtcp(0x84, 206, 9, 5);
        for of_use in [&receiver, &sender, &picture, &lost, &key_frame] {
            assert_eq!(inbound.reports(of_use), Kept::Whole, "{of_use:?}");
        }
        let goodbye = rtcp(0x81, 203, 9, 2);
        let malformed_goodbye = [0x9f, 203, 0, 1, 0, 0, 0, 9, 255, 255];
        let description = rtcp(0x81, 202, 9, 6);
        let strange_sender = rtcp(0x80, 200, 1234, 7);
        let too_short = rtcp(0x9f, 201, 9, 8);
        let padded = rtcp(0xa1, 201, 9, 8);
        for useless in
            [&goodbye[..], &malformed_goodbye, &description, &strange_sender, &too_short, &padded, &[], &[0x80]]
        {
            assert_eq!(inbound.reports(useless), Kept::Nothing, "{useless:?}");
        }
        let compound = [&receiver[..], &description, &picture, &goodbye].concat();
        assert_eq!(inbound.reports(&compound), Kept::Part([&receiver[..], &picture].concat()));
        let cut_off = [&receiver[..], &lost[..10]].concat();
        assert_eq!(inbound.reports(&cut_off), Kept::Part(receiver));
    }
}
