//! Which payload type of an m-line is the codec that we send.
//!
//! Pure.

use super::super::Codec;
use super::super::sdp::Media;
use super::Track;

/// Whether a payload type is another codec's in this m-line, or nobody says whose.
pub(super) fn means_another(media: &Media<'_>, payload_type: u8, codec: &str) -> bool {
    let names = media.encodings(payload_type);
    let is_listed = media.payload_types.contains(&payload_type);
    names.iter().any(|name| !name.eq_ignore_ascii_case(codec)) || (is_listed && names.is_empty())
}

pub(super) fn opus(m_line: usize, media: &Media<'_>) -> Option<Track> {
    let payload_type = media.mapped_to("opus/48000/2").next()?;
    let red = media.mapped_to("red/48000/2").find(|red| is_red_of(media, *red, payload_type));
    Some(Track { m_line, payload_type, rtx: None, red, feedback: Vec::new(), transport_extension: None, profile: None })
}

/// Whether a payload type is redundancy of another: `a=fmtp:63 111/111` says so of 63 and of two times 111.
fn is_red_of(media: &Media<'_>, red: u8, payload_type: u8) -> bool {
    let levels = media.all("fmtp").find_map(|value| {
        let (of, levels) = value.split_once(' ')?;
        (of.parse() == Ok(red)).then_some(levels.trim())
    });
    let is_whole = |level: &str| level.parse() == Ok(payload_type);
    is_dynamic(red) && media.encodings(red).len() == 1 && levels.is_some_and(|levels| levels.split('/').all(is_whole))
}

pub(super) fn video_payload_type(media: &Media<'_>, codec: Codec) -> Option<u8> {
    match codec {
        Codec::Vp8 => media.mapped_to("VP8/90000").next(),
        Codec::H264 => {
            let ranked = media.mapped_to("H264/90000").filter_map(|pt| Some((profile_rank(media, pt)?, pt)));
            // The first of equals, so that the offer's own order decides between them.
            ranked.min_by_key(|(rank, _)| *rank).map(|(_, pt)| pt)
        }
    }
}

/// How well H.264 format parameters suit our constrained baseline in packetization mode 1; `None` is not at all.
fn profile_rank(media: &Media<'_>, payload_type: u8) -> Option<u8> {
    if media.parameter(payload_type, "packetization-mode") != Some("1") {
        return None;
    }
    // Without a profile RFC 6184 assumes baseline.
    let profile = media.parameter(payload_type, "profile-level-id").unwrap_or("42000a").to_ascii_lowercase();
    if profile.len() != 6 || !profile.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match profile.get(..4) {
        Some("42e0") => Some(0),
        Some(profile) if profile.starts_with("42") => Some(1),
        // A decoder of a higher profile decodes constrained baseline as well: Main, Extended has other tools, High.
        Some(profile) if profile.starts_with("4d") || profile.starts_with("64") => Some(2),
        _ => None,
    }
}

/// Payload types without a meaning of their own (RFC 3551, and the range that browsers add below 64).
pub(super) fn is_dynamic(payload_type: u8) -> bool {
    matches!(payload_type, 35..=63 | 96..=127)
}
