//! The client's side of ICE and DTLS, as an offer says it: one transport for all that is served.
//!
//! Pure.

use super::super::sdp::{Media, is_token};
use super::payload_types::is_dynamic;
use super::{Offer, Track, bad, is_secure_rtp, named};
use crate::session::Refusal;

/// The client's side of ICE and DTLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transport {
    /// The m-line that speaks for the whole bundle.
    pub m_line: usize,
    /// Of the RTCPeerConnection, as its o= line has it.
    pub(super) origin: String,
    pub ufrag: String,
    pub(super) password: String,
    pub(super) fingerprint: String,
    pub(super) setup: &'static str,
}

impl<'a> Offer<'a> {
    /// ICE, DTLS and one bundle: without them no connection could form.
    pub(super) fn transport(
        &self,
        tracks: &[&Track],
        bundle: &[usize],
        is_answered: impl Fn(usize) -> bool,
    ) -> Result<Transport, Refusal> {
        let m_line = self.speaker(tracks, bundle, is_answered)?;
        let speaker = self.0.media.get(m_line).ok_or_else(|| bad("the offer has no m-line to connect by"))?;
        // In later offers the line that comes first may be paused, and the others need not repeat what it says (RFC 9143).
        let others = bundle.iter().filter_map(|m_line| self.0.media.get(*m_line)).filter(|media| media.is_open());
        let bundled: Vec<&Media<'a>> = std::iter::once(speaker).chain(others).collect();
        for track in tracks {
            let Some(media) = self.0.media.get(track.m_line) else { continue };
            let named = named(track.m_line, media);
            if !is_secure_rtp(media) {
                return Err(bad(format!(
                    "{named} is {}: only DTLS-SRTP is served (UDP/TLS/RTP/SAVPF)",
                    media.protocol
                )));
            }
            let is_mapped = |pt: &u8| !media.encodings(*pt).is_empty();
            if let Some(unmapped) = media.payload_types.iter().find(|pt| is_dynamic(**pt) && !is_mapped(pt)) {
                return Err(bad(format!(
                    "{named} lists payload type {unmapped} without an a=rtpmap: the SDP was cut off"
                )));
            }
            // What is said once for the bundle is left out together, so that a line that was cut off is not taken for one.
            let is_said_elsewhere = media.attribute("ice-ufrag").is_none();
            let said = bundled.iter().filter(|_| is_said_elsewhere).any(|media| media.attribute("rtcp-mux").is_some());
            if media.attribute("rtcp-mux").is_none() && !said {
                return Err(bad(format!("{named} has no a=rtcp-mux")));
            }
            if media.attribute("mid").is_some_and(|mid| !is_token(mid) || mid.len() > 64) {
                return Err(bad(format!("{named} has an a=mid that is no name")));
            }
        }
        let named = named(m_line, speaker);
        let find = |name: &str, least: usize| {
            let is_usable = |value: &&str| {
                (least..=256).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_graphic())
            };
            bundled.iter().find_map(|media| self.0.inherited(media, name).filter(is_usable)).map(str::to_owned)
        };
        let (Some(ufrag), Some(password)) = (find("ice-ufrag", 4), find("ice-pwd", 22)) else {
            return Err(bad(format!("{named} has no usable a=ice-ufrag and a=ice-pwd")));
        };
        let fingerprint = bundled.iter().find_map(|media| strongest(&self.0.all_inherited(media, "fingerprint")));
        let fingerprint =
            fingerprint.ok_or_else(|| bad(format!("{named} has no usable a=fingerprint of its DTLS certificate")))?;
        let setup = match bundled.iter().find_map(|media| self.0.inherited(media, "setup")) {
            Some("actpass") => "actpass",
            Some("passive") => "passive",
            Some("active") => "active",
            _ => return Err(bad(format!("{named} has no a=setup:actpass"))),
        };
        Ok(Transport { m_line, origin: self.0.origin.clone(), ufrag, password, fingerprint, setup })
    }

    /// The m-line that speaks for the bundle: of those that are answered the first one in it (RFC 9143). Firefox connects
    /// anew where the answer names another.
    fn speaker(
        &self,
        tracks: &[&Track],
        bundle: &[usize],
        is_answered: impl Fn(usize) -> bool,
    ) -> Result<usize, Refusal> {
        let [first, others @ ..] = tracks else { return Err(bad("the offer has no m-line to connect by")) };
        if others.is_empty() && bundle.is_empty() {
            // One medium needs no bundle.
            return Ok(first.m_line);
        }
        if let Some(apart) = tracks.iter().find(|track| !bundle.contains(&track.m_line)) {
            let named = self.0.media.get(apart.m_line).map(|media| named(apart.m_line, media)).unwrap_or_default();
            return Err(bad(format!("{named} is not in a=group:BUNDLE: use bundlePolicy 'max-bundle' or 'balanced'")));
        }
        Ok(bundle.iter().copied().find(|m_line| is_answered(*m_line)).unwrap_or(first.m_line))
    }
}

/// Of several fingerprints, as RFC 8122 allows, the one that everybody checks, else the longest.
fn strongest(fingerprints: &[&str]) -> Option<String> {
    let rank = |hash: &str| match hash {
        "sha-256" => 5,
        "sha-512" => 4,
        "sha-384" => 3,
        "sha-224" => 2,
        _ => 1,
    };
    let usable = fingerprints.iter().filter_map(|value| fingerprint(value));
    usable.max_by_key(|(hash, _)| rank(hash)).map(|(hash, bytes)| format!("{hash} {bytes}"))
}

/// `sha-256 AB:CD:...` with as many bytes as the hash has.
fn fingerprint(value: &str) -> Option<(String, String)> {
    let (hash, bytes) = value.trim_end().split_once(' ')?;
    let hash = hash.to_ascii_lowercase();
    let length = match hash.as_str() {
        "sha-1" => 20,
        "sha-224" => 28,
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return None,
    };
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    let is_whole = bytes.split(':').count() == length && bytes.split(':').all(is_byte);
    is_whole.then(|| (hash, bytes.to_ascii_uppercase()))
}
