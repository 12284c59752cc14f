//! The offer that webrtcbin is given instead of the client's: the same tracks and the same transport, in our own words.
//!
//! In here: writing it from a plan. Our tracks come first, then a microphone on a line of its own; each line has one codec
//! and its retransmissions, no candidate, no extension, and nothing that a client wrote but what was checked.

use std::fmt::Write;

use super::{Plan, Track};
use crate::media::Codec;

/// What an m-line of the canonical offer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Video,
    Audio,
    /// On a line of its own.
    Microphone,
}

impl Plan {
    /// The lines of the canonical offer in their order.
    pub fn sections(&self) -> Vec<(Purpose, &Track)> {
        let apart = self
            .microphone
            .as_ref()
            .filter(|track| self.audio.as_ref().map(|audio| audio.m_line) != Some(track.m_line));
        let all = [
            (Purpose::Video, self.video.as_ref()),
            (Purpose::Audio, self.audio.as_ref()),
            (Purpose::Microphone, apart),
        ];
        all.into_iter().filter_map(|(purpose, track)| Some((purpose, track?))).collect()
    }

    /// `hears`: whether the line of our sound is to be open for a microphone, in this offer or in one to come.
    pub fn canonical(&self, hears: bool) -> String {
        let sections = self.sections();
        let mids: String = (0..sections.len()).map(|mid| format!(" {mid}")).collect();
        let mut sdp = format!("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE{mids}\r\n");
        for (mid, (purpose, track)) in sections.into_iter().enumerate() {
            self.section(&mut sdp, mid, purpose, track, hears);
        }
        sdp
    }

    fn section(&self, sdp: &mut String, mid: usize, purpose: Purpose, track: &Track, hears: bool) {
        let super::Transport { ufrag, password, fingerprint, setup, .. } = &self.transport;
        let payload_type = track.payload_type;
        let kind = if purpose == Purpose::Video { "video" } else { "audio" };
        let retransmitted = track.rtx.map(|rtx| format!(" {rtx}")).unwrap_or_default();
        let direction = match purpose {
            Purpose::Video => "recvonly",
            Purpose::Audio if hears => "sendrecv",
            Purpose::Audio => "recvonly",
            Purpose::Microphone => "sendonly",
        };
        // Writing to a string cannot fail.
        let _ = write!(
            sdp,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}{retransmitted}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\n\
             a=ice-pwd:{password}\r\na=ice-options:trickle\r\na=fingerprint:{fingerprint}\r\na=setup:{setup}\r\n\
             a=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
        );
        let _ = match (purpose, self.codec) {
            (Purpose::Video, Codec::Vp8) => write!(sdp, "a=rtpmap:{payload_type} VP8/90000\r\n"),
            // Without its profile: webrtcbin does not send constrained baseline to who decodes more than that.
            (Purpose::Video, Codec::H264) => {
                write!(sdp, "a=rtpmap:{payload_type} H264/90000\r\na=fmtp:{payload_type} {}\r\n", h264_parameters(None))
            }
            _ => write!(
                sdp,
                "a=rtpmap:{payload_type} OPUS/48000/2\r\na=fmtp:{payload_type} minptime=10;useinbandfec=1\r\n"
            ),
        };
        for kind in &track.feedback {
            let _ = write!(sdp, "a=rtcp-fb:{payload_type} {kind}\r\n");
        }
        if let Some(rtx) = track.rtx {
            let _ = write!(sdp, "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload_type}\r\n");
        }
    }
}

/// As browsers write them.
pub(super) fn h264_parameters(profile: Option<&str>) -> String {
    let profile = profile.map(|profile| format!(";profile-level-id={profile}")).unwrap_or_default();
    format!("level-asymmetry-allowed=1;packetization-mode=1{profile}")
}
