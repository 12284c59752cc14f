//! What an SDP offer from outside allows us to send, decided before webrtcbin sees it.
//!
//! webrtcbin 1.22 crashes the process when a payload type it is given is another codec's in the offer, so nothing gets
//! near it unless every promise below holds. In here: reading SDP as text and choosing payload types, pure. Not in
//! here: GStreamer, the answer.

use crate::media::Codec;
use crate::signalling::{ErrorCode, OpenPeerError};

/// Chromium's offer has 6 kB; one with a dozen m-lines stays far below this.
const MAX_BYTES: usize = 64 * 1024;
const MAX_LINES: usize = 4_000;
const MAX_MEDIA: usize = 16;

/// Which m-lines carry our tracks and under which payload types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of the video; the sound is Opus.
    pub codec: Codec,
    pub video: Track,
    pub audio: Track,
    /// The `a=mid` of every m-line, to place trickled candidates.
    pub mids: Vec<Option<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    pub m_line: usize,
    pub payload_type: u8,
}

/// Decides how an offer is served with the first of our codecs that it has and with Opus, or why it cannot be.
pub fn plan(sdp: &str, codecs: &[Codec]) -> Result<Plan, OpenPeerError> {
    let offer = Offer::parse(sdp)?;
    if !offer.media.iter().any(|media| media.kind == "video" || media.kind == "audio") {
        return Err(refuse(
            ErrorCode::OfferWithoutMedia,
            "the offer has no audio or video m-line, so no track could ever arrive: call addTransceiver('video', \
             {direction: 'recvonly'}) and the same for 'audio' before createOffer",
        ));
    }
    let receivable = offer.receivable("video")?;
    let served = |codec: &Codec| Some((*codec, track(&receivable, |media| media.video_payload_type(*codec))?));
    let (codec, video) =
        codecs.iter().find_map(served).ok_or_else(|| no_common_codec("video", &alternatives(codecs), &receivable))?;
    let receivable = offer.receivable("audio")?;
    let audio = track(&receivable, |media| media.opus_payload_type())
        .ok_or_else(|| no_common_codec("audio", "opus", &receivable))?;
    offer.check_transport(&[video, audio])?;
    offer.check_unambiguous(video, codec.encoding_name())?;
    offer.check_unambiguous(audio, "opus")?;
    let mids = offer.media.iter().map(|media| media.attribute("mid").map(str::to_owned)).collect();
    Ok(Plan { codec, video, audio, mids })
}

/// `H264 or VP8`
fn alternatives(codecs: &[Codec]) -> String {
    codecs.iter().map(|codec| codec.encoding_name()).collect::<Vec<_>>().join(" or ")
}

fn no_common_codec(kind: &str, ours: &str, receivable: &[(usize, &Media<'_>)]) -> OpenPeerError {
    let theirs = receivable.iter().flat_map(|(_, media)| media.codecs()).collect::<Vec<_>>().join(", ");
    refuse(ErrorCode::NoCommonCodec, format!("this session's {kind} is {ours}, and the offer receives only {theirs}"))
}

/// The first m-line that has a payload type for a codec.
fn track(receivable: &[(usize, &Media<'_>)], payload_type: impl Fn(&Media<'_>) -> Option<u8>) -> Option<Track> {
    receivable
        .iter()
        .find_map(|(m_line, media)| payload_type(media).map(|payload_type| Track { m_line: *m_line, payload_type }))
}

fn refuse(code: ErrorCode, message: impl Into<String>) -> OpenPeerError {
    OpenPeerError { code, message: message.into() }
}

fn bad(message: impl Into<String>) -> OpenPeerError {
    refuse(ErrorCode::BadSdp, message)
}

struct Offer<'a> {
    session: Vec<(&'a str, &'a str)>,
    media: Vec<Media<'a>>,
}

struct Media<'a> {
    kind: &'a str,
    port: u16,
    protocol: &'a str,
    payload_types: Vec<u8>,
    attributes: Vec<(&'a str, &'a str)>,
}

impl<'a> Offer<'a> {
    fn parse(sdp: &'a str) -> Result<Self, OpenPeerError> {
        if sdp.len() > MAX_BYTES {
            return Err(bad(format!("the SDP has {} bytes, more than {MAX_BYTES}", sdp.len())));
        }
        if !sdp.ends_with('\n') {
            return Err(bad("the SDP does not end with a line break, so it was cut off: send it whole"));
        }
        let lines: Vec<&str> = sdp.lines().collect();
        if lines.len() > MAX_LINES {
            return Err(bad(format!("the SDP has {} lines, more than {MAX_LINES}", lines.len())));
        }
        let mut offer = Self { session: Vec::new(), media: Vec::new() };
        let mut kinds_seen = String::new();
        for (number, line) in lines.iter().enumerate() {
            let (kind, value) = split_line(line)
                .ok_or_else(|| bad(format!("line {} of the SDP is not of the form x=...", number + 1)))?;
            if offer.media.is_empty() && kind != 'm' {
                kinds_seen.push(kind);
            }
            match kind {
                'm' if offer.media.len() == MAX_MEDIA => {
                    return Err(bad(format!("the SDP has more than {MAX_MEDIA} m-lines")));
                }
                'm' => offer.media.push(
                    Media::parse(value).ok_or_else(|| bad(format!("line {} of the SDP is no m-line", number + 1)))?,
                ),
                'a' => {
                    let attribute = value.split_once(':').unwrap_or((value, ""));
                    offer.media.last_mut().map_or(&mut offer.session, |media| &mut media.attributes).push(attribute);
                }
                _ => {}
            }
        }
        let complete = kinds_seen.starts_with("vos") && kinds_seen.contains('t') && lines.first() == Some(&"v=0");
        if !complete {
            return Err(bad("the SDP does not begin with v=0, o=, s= and t= lines"));
        }
        Ok(offer)
    }

    /// The m-lines of a kind that we may send on, with their numbers.
    fn receivable(&self, kind: &str) -> Result<Vec<(usize, &Media<'a>)>, OpenPeerError> {
        let m_lines: Vec<_> = self
            .media
            .iter()
            .enumerate()
            .filter(|(_, media)| media.kind == kind && self.is_receivable(media))
            .collect();
        if m_lines.is_empty() {
            return Err(refuse(
                ErrorCode::OfferNotReceivable,
                format!(
                    "the offer has no {kind} m-line on which the client receives: one must be recvonly or sendrecv"
                ),
            ));
        }
        Ok(m_lines)
    }

    fn is_receivable(&self, media: &Media<'a>) -> bool {
        let is_direction = |name: &str| matches!(name, "sendrecv" | "recvonly" | "sendonly" | "inactive");
        let direction = media.attributes.iter().chain(&self.session).find(|(name, _)| is_direction(name));
        let is_open = media.port != 0 || media.attributes.iter().any(|(name, _)| *name == "bundle-only");
        is_open && direction.is_none_or(|(name, _)| matches!(*name, "sendrecv" | "recvonly"))
    }

    /// ICE, DTLS and one bundle: without them no connection could form, or webrtcbin would refuse halfway.
    fn check_transport(&self, tracks: &[Track]) -> Result<(), OpenPeerError> {
        let bundle: Vec<&str> = self
            .session
            .iter()
            .find(|(name, value)| *name == "group" && value.starts_with("BUNDLE "))
            .map(|(_, value)| value.split_ascii_whitespace().skip(1).collect())
            .unwrap_or_default();
        for track in tracks {
            let Some(media) = self.media.get(track.m_line) else { continue };
            let named = format!("{} m-line {}", media.kind, track.m_line);
            if !media.protocol.ends_with("TLS/RTP/SAVPF") {
                return Err(bad(format!(
                    "{named} is {}: only DTLS-SRTP is served (UDP/TLS/RTP/SAVPF)",
                    media.protocol
                )));
            }
            if !media.attribute("mid").is_some_and(|mid| bundle.contains(&mid)) {
                return Err(bad(format!(
                    "{named} is not in a=group:BUNDLE: use bundlePolicy 'max-bundle' or 'balanced'"
                )));
            }
            let find = |name: &str| media.attribute(name).or_else(|| attribute(&self.session, name));
            let long_enough =
                |name: &str, least: usize| find(name).is_some_and(|value| (least..=256).contains(&value.len()));
            if !long_enough("ice-ufrag", 4) || !long_enough("ice-pwd", 22) {
                return Err(bad(format!("{named} has no usable a=ice-ufrag and a=ice-pwd")));
            }
            if !find("fingerprint").is_some_and(is_fingerprint) {
                return Err(bad(format!("{named} has no usable a=fingerprint of its DTLS certificate")));
            }
            if !matches!(find("setup"), Some("actpass" | "passive" | "active")) {
                return Err(bad(format!("{named} has no a=setup:actpass")));
            }
            let is_mapped = |pt: &u8| !media.encodings(*pt).is_empty();
            if let Some(unmapped) = media.payload_types.iter().find(|pt| is_dynamic(**pt) && !is_mapped(pt)) {
                return Err(bad(format!(
                    "{named} lists payload type {unmapped} without an a=rtpmap: the SDP was cut off"
                )));
            }
            if media.attribute("rtcp-mux").is_none() {
                return Err(bad(format!("{named} has no a=rtcp-mux")));
            }
        }
        Ok(())
    }

    /// webrtcbin matches by payload type alone, over all m-lines: ours must mean the same codec wherever it occurs.
    fn check_unambiguous(&self, track: Track, codec: &str) -> Result<(), OpenPeerError> {
        for (m_line, media) in self.media.iter().enumerate() {
            let names = media.encodings(track.payload_type);
            let differs = names.iter().any(|name| !name.eq_ignore_ascii_case(codec));
            let listed = media.payload_types.contains(&track.payload_type);
            if differs || (listed && m_line != track.m_line && names.is_empty()) {
                return Err(bad(format!(
                    "payload type {} is {codec} in m-line {} and something else in m-line {m_line}",
                    track.payload_type, track.m_line
                )));
            }
        }
        Ok(())
    }
}

impl<'a> Media<'a> {
    /// `video 9 UDP/TLS/RTP/SAVPF 96 97`. Formats that are no numbers (data channels) are left out.
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next().filter(|kind| !kind.is_empty())?;
        let port = words.next()?.split('/').next()?.parse().ok()?;
        let protocol = words.next().filter(|protocol| !protocol.is_empty())?;
        let formats: Vec<&str> = words.collect();
        if formats.is_empty() || formats.iter().any(|format| format.is_empty()) {
            return None;
        }
        let payload_types = formats.iter().filter_map(|format| format.parse().ok()).filter(|pt| *pt < 128).collect();
        Some(Self { kind, port, protocol, payload_types, attributes: Vec::new() })
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        attribute(&self.attributes, name)
    }

    /// Every encoding this m-line gives a payload type: `("108", "H264/90000")` is `H264`.
    fn encodings(&self, payload_type: u8) -> Vec<&'a str> {
        self.rtpmaps().filter(|(pt, _)| *pt == payload_type).map(|(_, rest)| until_slash(rest)).collect()
    }

    fn rtpmaps(&self) -> impl Iterator<Item = (u8, &'a str)> + '_ {
        self.attributes.iter().filter(|(name, _)| *name == "rtpmap").filter_map(|(_, value)| {
            let (payload_type, encoding) = value.split_once(' ')?;
            Some((payload_type.parse().ok()?, encoding.trim()))
        })
    }

    fn codecs(&self) -> Vec<&'a str> {
        let mut names: Vec<&str> = self
            .rtpmaps()
            .map(|(_, encoding)| until_slash(encoding))
            .filter(|name| !matches!(*name, "rtx" | "red" | "ulpfec" | "flexfec-03" | "telephone-event" | "CN"))
            .map(|name| name.get(..20).unwrap_or(name))
            .collect();
        names.sort_unstable();
        names.dedup();
        names.truncate(10);
        names
    }

    /// Payload types that are listed in the m-line and mapped to exactly this encoding.
    fn mapped_to<'b>(&'b self, encoding: &'b str) -> impl Iterator<Item = u8> + 'b {
        self.rtpmaps()
            .filter(move |(pt, found)| found.eq_ignore_ascii_case(encoding) && self.payload_types.contains(pt))
            .map(|(pt, _)| pt)
    }

    fn opus_payload_type(&self) -> Option<u8> {
        self.mapped_to("opus/48000/2").next()
    }

    fn video_payload_type(&self, codec: Codec) -> Option<u8> {
        match codec {
            Codec::Vp8 => self.mapped_to("VP8/90000").next(),
            Codec::H264 => {
                let mut usable: Vec<(u8, u8)> = self
                    .mapped_to("H264/90000")
                    .filter_map(|pt| Some((profile_rank(self.format_parameters(pt)?)?, pt)))
                    .collect();
                // Stable, so that the offer's own order decides between equals.
                usable.sort_by_key(|(rank, _)| *rank);
                usable.first().map(|(_, pt)| *pt)
            }
        }
    }

    fn format_parameters(&self, payload_type: u8) -> Option<&'a str> {
        self.attributes.iter().filter(|(name, _)| *name == "fmtp").find_map(|(_, value)| {
            let (pt, parameters) = value.split_once(' ')?;
            (pt.parse() == Ok(payload_type)).then_some(parameters)
        })
    }
}

/// How well H.264 format parameters suit our constrained baseline in packetization mode 1; `None` is not at all.
fn profile_rank(parameters: &str) -> Option<u8> {
    let parameter = |wanted: &str| {
        let pairs = parameters.split(';').filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value).next()
    };
    if parameter("packetization-mode") != Some("1") {
        return None;
    }
    // Without a profile RFC 6184 assumes baseline.
    let profile = parameter("profile-level-id").unwrap_or("42000a").to_ascii_lowercase();
    match profile.get(..4) {
        Some("42e0") => Some(0),
        Some(profile) if profile.starts_with("42") => Some(1),
        // A decoder of a higher profile decodes constrained baseline as well.
        Some(profile) if profile.starts_with("4d") || profile.starts_with("64") => Some(2),
        _ => None,
    }
}

fn attribute<'a>(attributes: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
}

/// Payload types without a meaning of their own (RFC 3551, and the range that browsers add below 64).
fn is_dynamic(payload_type: u8) -> bool {
    matches!(payload_type, 35..=63 | 96..=127)
}

fn until_slash(encoding: &str) -> &str {
    encoding.split('/').next().unwrap_or(encoding)
}

fn split_line(line: &str) -> Option<(char, &str)> {
    let (kind, value) = line.split_once('=')?;
    let mut letters = kind.chars();
    let letter = letters.next().filter(char::is_ascii_lowercase)?;
    (letters.next().is_none() && !value.chars().any(char::is_control)).then_some((letter, value))
}

/// `sha-256 AB:CD:...` with as many bytes as the hash has.
fn is_fingerprint(value: &str) -> bool {
    let Some((hash, bytes)) = value.split_once(' ') else { return false };
    let length = match hash.to_ascii_lowercase().as_str() {
        "sha-1" => 20,
        "sha-224" => 28,
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return false,
    };
    let is_byte = |byte: &str| byte.len() == 2 && u8::from_str_radix(byte, 16).is_ok();
    bytes.split(':').count() == length && bytes.split(':').all(is_byte)
}

#[cfg(test)]
mod tests;
