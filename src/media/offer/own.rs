//! The offer that we make where we publish, and what the other side answers to it.
//!
//! webrtcbin makes an offer and is given an answer, but neither is what travels: ours is written in the words of RFC 9725, and
//! of the other side's answer nothing reaches webrtcbin but what was checked, in lines of webrtcbin's own.
//! In here: both texts. Not in here: making the offer (`viewer::push`), HTTP.
//!
//! Pure.

use std::fmt::Write;

use super::canonical::h264_parameters;
use super::payload_types::means_another;
use super::{MAX_CANDIDATES, Offer, Plan, Track, Transport, refuse};
use crate::media::Codec;
use crate::media::sdp::{Direction, Sdp};
use crate::session::{ErrorCode, Refusal};

/// Ours; the first is the one that browsers give VP8, which no server minds.
const VIDEO_PAYLOAD_TYPE: u8 = 96;
const AUDIO_PAYLOAD_TYPE: u8 = 111;
/// Constrained baseline, which every receiver takes.
const PROFILE: &str = "42e01f";
/// Of the one stream that picture and sound are of.
const STREAM: &str = "mouthpiece";

impl Plan {
    /// What our own pipeline is built by where it publishes with this codec.
    pub fn published(codec: Codec) -> Self {
        let track = |m_line, payload_type| {
            Some(Track {
                m_line,
                payload_type,
                rtx: None,
                red: None,
                feedback: Vec::new(),
                transport_extension: None,
                profile: None,
            })
        };
        let transport = Transport {
            m_line: 0,
            origin: String::new(),
            ufrag: String::new(),
            password: String::new(),
            fingerprint: String::new(),
            setup: "actpass",
        };
        Self {
            codec,
            video: track(0, VIDEO_PAYLOAD_TYPE),
            audio: track(1, AUDIO_PAYLOAD_TYPE),
            microphone: None,
            lines: Vec::new(),
            bundle: vec![0, 1],
            transport,
            candidates: Vec::new(),
        }
    }
}

/// webrtcbin's offer, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnOffer {
    codec: Codec,
    /// Picture, then sound.
    sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    kind: String,
    mid: String,
    payload_type: u8,
    /// Of retransmissions.
    rtx: Option<u8>,
    /// All that follows the m-line.
    lines: Vec<String>,
}

/// What an answer allows, in our words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The answer as webrtcbin is given it.
    pub canonical: String,
    /// Candidates that came within it, not judged yet.
    pub candidates: Vec<String>,
}

impl OwnOffer {
    /// Takes webrtcbin's offer apart, or says what is not as it was to be.
    pub fn of(made: &str, codec: Codec) -> Result<Self, Refusal> {
        let unusable = |why: &str| refuse(ErrorCode::NegotiationFailed, format!("webrtcbin's offer: {why}"));
        let parsed = Sdp::parse(made).map_err(|error| unusable(&error))?;
        let wanted = [("video", VIDEO_PAYLOAD_TYPE), ("audio", AUDIO_PAYLOAD_TYPE)];
        if parsed.media.len() != wanted.len() {
            return Err(unusable("not a picture and a sound"));
        }
        let mut texts: Vec<Vec<String>> = Vec::new();
        for line in made.lines() {
            if line.starts_with("m=") {
                texts.push(Vec::new());
            } else if let Some(section) = texts.last_mut() {
                section.push(line.to_owned());
            }
        }
        let mut sections = Vec::new();
        for (((kind, payload_type), media), lines) in wanted.into_iter().zip(&parsed.media).zip(texts) {
            let mid = media.attribute("mid").filter(|mid| super::is_token(mid)).ok_or_else(|| unusable("no a=mid"))?;
            if media.kind != kind || !media.payload_types.contains(&payload_type) {
                return Err(unusable("other media than were to be sent"));
            }
            let rtx = media
                .mapped_to("rtx/90000")
                .find(|rtx| media.parameter(*rtx, "apt").is_some_and(|original| original.parse() == Ok(payload_type)));
            sections.push(Section { kind: kind.to_owned(), mid: mid.to_owned(), payload_type, rtx, lines });
        }
        Ok(Self { codec, sections })
    }

    fn head(&self, version: &str) -> String {
        let mids: String = self.sections.iter().map(|section| format!(" {}", section.mid)).collect();
        format!("v=0\r\no=- {version} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{mids}\r\n")
    }

    /// The offer as it travels, with all of our candidates. `id` tells it from others (RFC 8866, o=).
    pub fn text(&self, id: u64, candidates: &[String]) -> String {
        let mut sdp = self.head(&id.to_string());
        let _ = write!(sdp, "a=msid-semantic: WMS {STREAM}\r\n");
        for (number, section) in self.sections.iter().enumerate() {
            let payload_type = section.payload_type;
            section.write_m_line(&mut sdp, section.rtx);
            let _ = write!(sdp, "a=mid:{}\r\na=sendonly\r\na=msid:{STREAM} {}\r\n", section.mid, section.kind);
            let is_h264 = section.kind == "video" && self.codec == Codec::H264;
            let is_ours = |line: &str| {
                let of = payload_type_of(line) == Some(payload_type);
                of && (section.kind == "audio" || is_h264 && line.starts_with("a=fmtp:"))
            };
            for line in section.lines.iter().filter(|line| is_said(line) && !is_ours(line)) {
                let _ = write!(sdp, "{line}\r\n");
                if line == "a=rtcp-mux" {
                    sdp.push_str("a=rtcp-mux-only\r\n");
                }
            }
            if is_h264 {
                let _ = write!(sdp, "a=fmtp:{payload_type} {}\r\n", h264_parameters(Some(PROFILE)));
            }
            if section.kind == "audio" {
                // RFC 7587, 7: two channels, whatever there is in them. webrtcbin says none, and Janus takes no such thing.
                let _ = write!(
                    sdp,
                    "a=rtpmap:{payload_type} opus/48000/2\r\na=fmtp:{payload_type} minptime=10;useinbandfec=1\r\n"
                );
            }
            // The first line speaks for the bundle.
            for candidate in candidates.iter().filter(|line| number == 0 && !line.contains("tcptype")) {
                let _ = write!(sdp, "a={candidate}\r\n");
            }
            if number == 0 {
                sdp.push_str("a=end-of-candidates\r\n");
            }
        }
        sdp
    }

    /// Checks the answer of the other side and writes it anew.
    pub fn accept(&self, answer: &str) -> Result<Accepted, Refusal> {
        let bad = |why: String| refuse(ErrorCode::BadSdp, format!("the answer {why}"));
        let answer = Offer(Sdp::parse(answer).map_err(|error| bad(format!("cannot be read: {error}")))?);
        if answer.0.media.len() != self.sections.len() {
            return Err(bad(format!("has {} m-lines, the offer {}", answer.0.media.len(), self.sections.len())));
        }
        let mut tracks = Vec::new();
        for (m_line, (section, media)) in self.sections.iter().zip(&answer.0.media).enumerate() {
            let Section { kind, payload_type, .. } = section;
            let codec = if kind == "video" { self.codec.encoding_name() } else { "opus" };
            let refused =
                || refuse(ErrorCode::NoCommonCodec, format!("the other side does not take our {kind} as {codec}"));
            if media.kind != kind || !media.is_open() || !media.payload_types.contains(payload_type) {
                return Err(refused());
            }
            if means_another(media, *payload_type, codec)
                || !matches!(answer.0.direction(media), Direction::RecvOnly | Direction::SendRecv)
            {
                return Err(refused());
            }
            let rtx = section.rtx.filter(|rtx| {
                media.payload_types.contains(rtx)
                    && media.parameter(*rtx, "apt").is_some_and(|apt| apt.parse() == Ok(*payload_type))
            });
            tracks.push(Track {
                m_line,
                payload_type: *payload_type,
                rtx,
                red: None,
                feedback: Vec::new(),
                transport_extension: None,
                profile: None,
            });
        }
        let transport = answer.transport(&tracks.iter().collect::<Vec<_>>(), &[0, 1], |_| true)?;
        let setup = match transport.setup {
            "actpass" => return Err(bad("has a=setup:actpass, which only an offer may say".to_owned())),
            setup => setup,
        };
        let mut canonical = self.head("2");
        for ((section, track), media) in self.sections.iter().zip(&tracks).zip(&answer.0.media) {
            section.write_m_line(&mut canonical, track.rtx);
            let Transport { ufrag, password, fingerprint, .. } = &transport;
            let _ = write!(
                canonical,
                "a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n\
                 a=mid:{}\r\na=recvonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n",
                section.mid
            );
            let takes_feedback = |line: &str| {
                let kind = line.split_once(' ').map_or("", |(_, kind)| kind);
                media.has_feedback(track.payload_type, kind)
            };
            for line in &section.lines {
                let Some(of) = payload_type_of(line) else { continue };
                let is_feedback = line.starts_with("a=rtcp-fb:");
                if of == track.payload_type && (!is_feedback || takes_feedback(line)) || Some(of) == track.rtx {
                    let _ = write!(canonical, "{line}\r\n");
                }
            }
        }
        let of_media = answer.0.media.iter().flat_map(|media| &media.attributes);
        let candidates = answer.0.attributes.iter().chain(of_media).filter(|(name, _)| *name == "candidate");
        let mut found: Vec<String> = Vec::new();
        for candidate in candidates.map(|(_, value)| format!("candidate:{value}")) {
            // Of one transport, and yet repeated in each line by some.
            if !found.contains(&candidate) && found.len() < MAX_CANDIDATES {
                found.push(candidate);
            }
        }
        Ok(Accepted { canonical, candidates: found })
    }
}

impl Section {
    fn write_m_line(&self, sdp: &mut String, rtx: Option<u8>) {
        let rtx = rtx.map(|rtx| format!(" {rtx}")).unwrap_or_default();
        let _ = write!(sdp, "m={} 9 UDP/TLS/RTP/SAVPF {}{rtx}\r\nc=IN IP4 0.0.0.0\r\n", self.kind, self.payload_type);
    }
}

/// Lines of webrtcbin's that travel as they are. What is written anew, or is of another stream's name, is left out.
fn is_said(line: &&String) -> bool {
    let Some(text) = line.strip_prefix("a=") else { return false };
    let name = text.split(':').next().unwrap_or(text);
    match name {
        "mid" | "msid" | "sendrecv" | "sendonly" | "recvonly" | "inactive" | "candidate" | "end-of-candidates" => false,
        // All lines have a port, and the one is said beside a=rtcp-mux.
        "bundle-only" | "rtcp-mux-only" => false,
        // Its packets would have to be numbered (a=extmap).
        "rtcp-fb" => !text.ends_with(" transport-cc"),
        "ssrc" => text.contains(" cname:"),
        _ => true,
    }
}

/// Whose line it is: of `a=rtpmap:96 H264/90000` it is 96.
fn payload_type_of(line: &str) -> Option<u8> {
    let (name, value) = line.strip_prefix("a=")?.split_once(':')?;
    matches!(name, "rtpmap" | "fmtp" | "rtcp-fb").then(|| value.split(' ').next()?.parse().ok())?
}

#[cfg(test)]
mod tests;
