//! The answer that a client gets: webrtcbin's to the canonical offer, put into the m-lines of the client's own.
//!
//! In here: comparing what webrtcbin made with what was planned, and writing the answer to any offer of the same
//! connection. Not in here: making either (`plan`, webrtcbin).

use std::fmt::Write;

use super::canonical::{Purpose, h264_parameters};
use super::{Line, Plan, Track, refuse};
use crate::media::Codec;
use crate::media::congestion::feedback::TRANSPORT_EXTENSION;
use crate::media::sdp::{Direction, Sdp};
use crate::session::{ErrorCode, Refusal};

/// What webrtcbin answered, by what each line is for, and our candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    plan: Plan,
    sections: Vec<(Purpose, Vec<String>)>,
    candidates: Vec<String>,
    complete: bool,
}

impl Negotiated {
    /// Takes webrtcbin's answer apart, or says which track it did not answer as planned.
    pub fn check(plan: Plan, made: &str) -> Result<Self, Refusal> {
        let unserved = |what: &str, why: &str| {
            refuse(ErrorCode::NegotiationFailed, format!("the {what} of this offer could not be served: {why}"))
        };
        let parsed = Sdp::parse(made).map_err(|error| unserved("media", &error))?;
        let wanted = plan.sections();
        if parsed.media.len() != wanted.len() {
            return Err(unserved("media", "webrtcbin answered other m-lines than it was offered"));
        }
        for ((purpose, track), media) in wanted.iter().zip(&parsed.media) {
            let (kind, what) = match purpose {
                Purpose::Video => ("video", "video"),
                Purpose::Audio => ("audio", "sound"),
                Purpose::Microphone => ("audio", "microphone"),
            };
            let direction = parsed.direction(media);
            let goes = match purpose {
                Purpose::Microphone => direction == Direction::RecvOnly,
                _ => matches!(direction, Direction::SendOnly | Direction::SendRecv),
            };
            if media.kind != kind || media.port == 0 || !goes {
                return Err(unserved(what, "webrtcbin rejected it"));
            }
            if media.payload_types.first() != Some(&track.payload_type) {
                return Err(unserved(what, "webrtcbin chose another payload type"));
            }
        }
        let mut texts: Vec<Vec<String>> = Vec::new();
        for line in made.lines() {
            if line.starts_with("m=") {
                texts.push(Vec::new());
            } else if let Some(section) = texts.last_mut() {
                section.push(line.to_owned());
            }
        }
        let sections = wanted.iter().map(|(purpose, _)| *purpose).zip(texts).collect();
        Ok(Self { plan, sections, candidates: Vec::new(), complete: false })
    }

    /// Our candidates, as webrtcbin writes them, and whether these are all.
    pub fn gathered(&mut self, candidates: Vec<String>, complete: bool) {
        // Browsers connect to us; a candidate that would connect to them is no use to them.
        self.candidates = candidates.into_iter().filter(|line| !line.contains("tcptype active")).collect();
        self.complete = complete;
    }

    /// What the client's ICE checks are named and signed with: the USERNAME, which is our fragment and the client's, and our
    /// password.
    pub fn checks(&self) -> Option<(String, String)> {
        let (_, section) = self.sections.first()?;
        let value = |name: &str| section.iter().find_map(|text| text.strip_prefix(name)).map(str::trim_end);
        let (ufrag, password) = (value("a=ice-ufrag:")?, value("a=ice-pwd:")?);
        Some((format!("{ufrag}:{}", self.plan.transport.ufrag), password.to_owned()))
    }

    /// The answer to the offer that was negotiated.
    pub fn answer(&self) -> String {
        self.write(&self.plan, 1)
    }

    /// Whether another offer comes from the very connection that this is of: neither ICE nor DTLS begins anew.
    pub fn is_of_the_same_transport(&self, other: &Plan) -> bool {
        let (ours, theirs) = (&self.plan.transport, &other.transport);
        ours.fingerprint == theirs.fingerprint && !self.has_other_credentials(other)
    }

    fn has_other_credentials(&self, other: &Plan) -> bool {
        let (ours, theirs) = (&self.plan.transport, &other.transport);
        (&ours.ufrag, &ours.password) != (&theirs.ufrag, &theirs.password)
    }

    /// Whether the line that spoke for the bundle still does. Where it is stopped, browsers begin ICE and DTLS anew, with
    /// the ufrag of before.
    pub fn keeps_its_speaker(&self, other: &Plan) -> bool {
        let m_line = self.plan.transport.m_line;
        let mid = self.plan.lines.get(m_line).and_then(|line| line.mid.as_ref());
        other.lines.get(m_line).is_some_and(|line| line.is_open && line.mid.as_ref() == mid)
    }

    /// Whether an offer of another transport is of the same RTCPeerConnection after all: it begins ICE anew.
    pub fn is_restarted_by(&self, other: &Plan) -> bool {
        let (ours, theirs) = (&self.plan.transport, &other.transport);
        self.has_other_credentials(other) && (&ours.origin, &ours.fingerprint) == (&theirs.origin, &theirs.fingerprint)
    }

    /// The answer to a later offer of the same connection, if it asks for nothing that was not negotiated: the lines and
    /// directions may be others. `version` counts the answers.
    pub fn answer_again(&self, plan: &Plan, version: u64) -> Option<String> {
        let mid = |plan: &Plan, track: &Track| plan.lines.get(track.m_line).map(|line| line.mid.clone());
        let same = |before: Option<&Track>, now: Option<&Track>| match (before, now) {
            (_, None) => true,
            (Some(before), Some(now)) => {
                before.payload_type == now.payload_type
                    && before.rtx == now.rtx
                    && before.red == now.red
                    && mid(&self.plan, before) == mid(plan, now)
            }
            (None, Some(_)) => false,
        };
        let (before, now) = (&self.plan, plan);
        let is_covered = (now.video.is_none() || before.codec == now.codec)
            && same(before.video.as_ref(), now.video.as_ref())
            && same(before.audio.as_ref(), now.audio.as_ref())
            // The line of our sound is open both ways where anybody listens.
            && same(before.microphone.as_ref().or(before.audio.as_ref()), now.microphone.as_ref());
        is_covered.then(|| self.write(plan, version))
    }

    fn write(&self, plan: &Plan, version: u64) -> String {
        let served: Vec<Option<Served<'_>>> = (0..plan.lines.len()).map(|m_line| self.served(plan, m_line)).collect();
        // In the offer's order: whichever line comes first speaks for the bundle, be it one that nothing goes by.
        let line = |m_line: &usize| plan.lines.get(*m_line).zip(served.get(*m_line));
        let is_answered =
            |m_line: &&usize| line(m_line).is_some_and(|(line, served)| served.is_some() || line.may_idle);
        // A line alone is a bundle of its own even if its offer has none: browsers make one of it and miss it in the answer.
        let alone = plan.bundle.is_empty().then_some(&plan.transport.m_line);
        let bundle: Vec<&usize> = plan.bundle.iter().chain(alone).filter(is_answered).collect();
        let speaker = bundle.first().map_or(plan.transport.m_line, |m_line| **m_line);
        let mids = bundle.iter().filter_map(|m_line| plan.lines.get(**m_line)?.mid.as_deref());
        let mids: String = mids.map(|mid| format!(" {mid}")).collect();
        let mut sdp = format!("v=0\r\no=- 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
        if !mids.is_empty() {
            let _ = write!(sdp, "a=group:BUNDLE{mids}\r\n");
        }
        for (m_line, (line, served)) in plan.lines.iter().zip(&served).enumerate() {
            match served {
                Some(served) => self.write_served(&mut sdp, line, served),
                None => self.write_unused(&mut sdp, line),
            }
            if m_line == speaker {
                self.write_candidates(&mut sdp);
            }
        }
        sdp
    }

    /// What an m-line carries, of what was negotiated.
    fn served<'a>(&'a self, plan: &'a Plan, m_line: usize) -> Option<Served<'a>> {
        let on = |track: &'a Option<Track>| track.as_ref().filter(|track| track.m_line == m_line);
        let microphone = on(&plan.microphone);
        let (purpose, track, direction) = match (on(&plan.video), on(&plan.audio)) {
            (Some(video), _) => (Purpose::Video, video, "sendonly"),
            (_, Some(audio)) if microphone.is_some() => (Purpose::Audio, audio, "sendrecv"),
            (_, Some(audio)) => (Purpose::Audio, audio, "sendonly"),
            // A microphone may have moved to the line of our sound, or there is no more than that.
            (None, None) => match (microphone, self.paused(plan, m_line)) {
                (Some(track), _) if self.section(Purpose::Microphone).is_some() => {
                    (Purpose::Microphone, track, "recvonly")
                }
                (Some(track), _) => (Purpose::Audio, track, "recvonly"),
                (None, paused) => paused?,
            },
        };
        Some(Served { purpose, track, direction, section: self.section(purpose)? })
    }

    /// A line that was served and for which the client wants nothing just now: rejecting it would end it for good.
    fn paused<'a>(&'a self, plan: &Plan, m_line: usize) -> Option<(Purpose, &'a Track, &'static str)> {
        let line = plan.lines.get(m_line).filter(|line| line.is_open && plan.bundle.contains(&m_line))?;
        let was = |track: &Track| self.plan.lines.get(track.m_line).is_some_and(|before| before.mid == line.mid);
        let found = self.plan.sections().into_iter().find(|(_, track)| was(track));
        found.map(|(purpose, track)| (purpose, track, "inactive"))
    }

    fn section(&self, purpose: Purpose) -> Option<&[String]> {
        self.sections.iter().find(|(of, _)| *of == purpose).map(|(_, section)| section.as_slice())
    }

    fn write_served(&self, sdp: &mut String, line: &Line, served: &Served<'_>) {
        let Served { purpose, track, direction, section } = served;
        let (payload_type, kind, protocol) = (track.payload_type, &line.kind, &line.protocol);
        // Behind the codec itself: a browser sends its voice with redundancy only where that comes first.
        let red = track.red.filter(|_| *purpose == Purpose::Audio);
        let also = |other: Option<u8>| other.map(|other| format!(" {other}")).unwrap_or_default();
        let (rtx, copies) = (also(track.rtx), also(red));
        let _ = write!(sdp, "m={kind} 9 {protocol} {payload_type}{rtx}{copies}\r\nc=IN IP4 0.0.0.0\r\n{}", mid(line));
        let _ = write!(sdp, "a={direction}\r\n");
        let parameters = format!("a=fmtp:{payload_type} ");
        let names_profile = *purpose == Purpose::Video && self.plan.codec == Codec::H264;
        let is_ours = |text: &&String| {
            let name = text.strip_prefix("a=").map_or("", |text| text.split(':').next().unwrap_or(text));
            let is_written_here = matches!(
                name,
                "" | "mid" | "sendrecv" | "sendonly" | "recvonly" | "inactive" | "candidate" | "end-of-candidates"
            );
            !(is_written_here || names_profile && text.starts_with(&parameters))
        };
        for text in section.iter().filter(is_ours) {
            let _ = write!(sdp, "{text}\r\n");
        }
        if let Some(number) = track.transport_extension.filter(|number| self.stamps() == Some(*number)) {
            // webrtcbin knows nothing of it: packets get their numbers after it, and it does not see the reports.
            let _ = write!(sdp, "a=extmap:{number} {TRANSPORT_EXTENSION}\r\na=rtcp-fb:{payload_type} transport-cc\r\n");
        }
        if let Some(red) = red {
            // Nor of this: packets are wrapped after it (`viewer::redundancy`).
            let _ = write!(sdp, "a=rtpmap:{red} red/48000/2\r\na=fmtp:{red} {payload_type}/{payload_type}\r\n");
        }
        if names_profile {
            // webrtcbin leaves out the profile, and without one browsers take the answer for another codec than theirs.
            let _ = write!(sdp, "{parameters}{}\r\n", h264_parameters(track.profile.as_deref()));
        }
    }

    /// The header extension that the video's packets have in this connection.
    fn stamps(&self) -> Option<u8> {
        self.plan.video.as_ref().and_then(|track| track.transport_extension)
    }

    fn write_candidates(&self, sdp: &mut String) {
        for candidate in &self.candidates {
            let _ = write!(sdp, "a={}\r\n", candidate.trim_start_matches("a="));
        }
        if self.complete {
            sdp.push_str("a=end-of-candidates\r\n");
        }
    }

    /// Rejected, or in the bundle without anything to go by it. With the transport of the others, which webrtcbin and
    /// aiortc look for in rejected lines too.
    fn write_unused(&self, sdp: &mut String, line: &Line) {
        let Line { kind, protocol, formats, .. } = line;
        let port = if line.may_idle { 9 } else { 0 };
        let _ = write!(sdp, "m={kind} {port} {protocol} {formats}\r\nc=IN IP4 0.0.0.0\r\n{}", mid(line));
        if kind == "video" || kind == "audio" {
            sdp.push_str("a=inactive\r\na=rtcp-mux\r\n");
        }
        let transport = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:"];
        let is_transport = |text: &&String| transport.iter().any(|name| text.starts_with(name));
        let transport = self.sections.iter().take(1).flat_map(|(_, section)| section.iter().filter(is_transport));
        for text in line.repeated.iter().chain(transport) {
            let _ = write!(sdp, "{text}\r\n");
        }
    }
}

/// An m-line of an answer that is not rejected.
struct Served<'a> {
    purpose: Purpose,
    track: &'a Track,
    direction: &'static str,
    section: &'a [String],
}

fn mid(line: &Line) -> String {
    line.mid.as_ref().map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
