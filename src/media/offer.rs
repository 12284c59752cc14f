//! What an SDP offer from outside allows us to send, decided before webrtcbin sees any of it.
//!
//! webrtcbin 1.22 crashes the process when a payload type it is given is another codec's in the offer, keeps threads for
//! names in candidates, and opens whatever else a line asks for. So it never sees a client's text: a plan is made of the
//! offer, and an offer of our own is written from the plan. In here: the plan, pure; `payload_types`
//! and `transport` read parts of it. In `canonical` the offer that webrtcbin is given, in `answer` what is made of its answer. Not in here: reading SDP (`sdp`), GStreamer.

use super::Codec;
use super::congestion::feedback::TRANSPORT_EXTENSION;
use super::sdp::{Direction, Media, Sdp, is_token};
use crate::session::{ErrorCode, Refusal};

pub mod answer;
mod canonical;
pub mod own;
mod payload_types;
mod transport;

use payload_types::{means_another, opus, video_payload_type};
use transport::Transport;

/// Candidates within an offer that are looked at; the filter (`ice`) takes fewer.
const MAX_CANDIDATES: usize = 64;

/// How an offer is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Of the encode that is watched; the sound is Opus.
    pub codec: Codec,
    /// Absent from who only listens.
    pub video: Option<Track>,
    /// Absent from who only looks.
    pub audio: Option<Track>,
    /// Where the client's own voice comes in, if somebody listens: on the line of our sound or on another.
    pub microphone: Option<Track>,
    /// Every m-line, in the offer's order.
    pub lines: Vec<Line>,
    /// The m-lines of the BUNDLE group that is served, in its order; none where the offer has no group.
    bundle: Vec<usize>,
    pub transport: Transport,
    /// Candidates that came within the offer.
    pub candidates: Vec<String>,
}

/// Media by one m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub m_line: usize,
    pub payload_type: u8,
    /// Of retransmissions.
    pub rtx: Option<u8>,
    /// Of packets of sound that hold those before them as well (RFC 2198).
    pub red: Option<u8>,
    feedback: Vec<&'static str>,
    /// The number of the header extension by which the client reports when each packet came, if it does.
    pub transport_extension: Option<u8>,
    /// The profile that H.264 is offered with, which the answer has to name again (RFC 6184).
    profile: Option<String>,
}

/// An m-line of the offer, as far as the answer has to repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub mid: Option<String>,
    /// Whether its candidates are those of the one transport there is.
    pub is_bundled: bool,
    kind: String,
    protocol: String,
    formats: String,
    /// Not rejected by who wrote it.
    is_open: bool,
    /// Media that could go by the one transport. It is not rejected but answered `inactive` where nothing goes by it: that
    /// stops no transceiver, and aiortc waits for ever for a transport that it made for a rejected line.
    may_idle: bool,
    /// What a rejection has to repeat for clients that read one as closely as an answer.
    repeated: Vec<String>,
}

/// Decides how an offer is served with the first of our codecs that it has and with Opus, or why it cannot be.
/// `listens`: whether the client's microphone is wanted.
pub fn plan(sdp: &str, codecs: &[Codec], listens: bool) -> Result<Plan, Refusal> {
    let offer = Offer(Sdp::parse(sdp).map_err(bad)?);
    let is_medium = |media: &Media<'_>| matches!(media.kind, "video" | "audio");
    if !offer.0.media.iter().any(is_medium) {
        return Err(refuse(
            ErrorCode::OfferWithoutMedia,
            "the offer has no audio or video m-line, so no track could ever arrive: call addTransceiver('video', \
             {direction: 'recvonly'}) and the same for 'audio' before createOffer",
        ));
    }
    if let Some(mid) = offer.0.missing_mid() {
        let mid = mid.get(..20).unwrap_or(mid);
        return Err(bad(format!("a=group:BUNDLE names mid {mid:?}, which no m-line has: the SDP was cut off")));
    }
    if let Some(mid) = offer.0.repeated_mid() {
        return Err(bad(format!("two m-lines have a=mid:{}", mid.get(..20).unwrap_or(mid))));
    }
    let (videos, sounds) = (offer.receivable("video"), offer.receivable("audio"));
    if videos.is_empty() && sounds.is_empty() {
        return Err(refuse(
            ErrorCode::OfferNotReceivable,
            "the offer has no video and no audio m-line on which the client receives: one must be recvonly or sendrecv, \
             and not rejected with port 0",
        ));
    }
    let video = codecs.iter().find_map(|codec| Some((*codec, offer.video(&videos, *codec)?)));
    if video.is_none() && !videos.is_empty() {
        return Err(no_common_codec("video", &alternatives(codecs), &videos));
    }
    let audio = offer.audio(&sounds, listens);
    if audio.is_none() && !sounds.is_empty() {
        return Err(no_common_codec("audio", "opus", &sounds));
    }
    let microphone = if listens { offer.microphone(audio.as_ref()) } else { None };
    let codec = match (&video, codecs.first()) {
        (Some((codec, _)), _) | (None, Some(codec)) => *codec,
        (None, None) => return Err(no_common_codec("video", "none", &videos)),
    };
    let video = video.map(|(_, track)| track);
    let ours: Vec<&Track> = [&video, &audio].into_iter().flatten().collect();
    let used = [&video, &audio, &microphone].into_iter().flatten().map(|track| track.m_line);
    let used: Vec<usize> = used.collect();
    offer.check_unambiguous(video.as_ref(), codec.encoding_name(), &used)?;
    offer.check_unambiguous(audio.as_ref(), "opus", &used)?;
    offer.check_unambiguous(microphone.as_ref(), "opus", &used)?;
    let bundle = ours.first().map(|track| offer.bundle(track.m_line)).unwrap_or_default();
    let means = [(&video, codec.encoding_name()), (&audio, "opus"), (&microphone, "opus")];
    let means = means.into_iter().filter_map(|(track, codec)| Some((track.as_ref()?, codec)));
    let means: Vec<(&Track, &str)> = means.collect();
    let may_idle = |m_line: usize| bundle.contains(&m_line) && offer.may_idle(m_line, &means);
    let is_answered = |m_line: usize| used.contains(&m_line) || may_idle(m_line);
    let transport = offer.transport(&ours, &bundle, is_answered)?;
    let lines = offer.lines(&transport, &bundle, may_idle);
    // A microphone outside of the bundle could not come in; the rest goes on without it.
    let is_bundled = |m_line: usize| m_line == transport.m_line || bundle.contains(&m_line);
    let microphone = microphone.filter(|track| is_bundled(track.m_line));
    let candidates = offer.candidates(&lines);
    Ok(Plan { codec, video, audio, microphone, lines, bundle, transport, candidates })
}

/// `H264 or VP8`
fn alternatives(codecs: &[Codec]) -> String {
    codecs.iter().map(|codec| codec.encoding_name()).collect::<Vec<_>>().join(" or ")
}

fn no_common_codec(kind: &str, ours: &str, receivable: &[(usize, &Media<'_>)]) -> Refusal {
    let theirs = receivable.iter().flat_map(|(_, media)| media.codecs()).collect::<Vec<_>>().join(", ");
    refuse(ErrorCode::NoCommonCodec, format!("this session's {kind} is {ours}, and the offer receives only {theirs}"))
}

fn refuse(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

fn bad(message: impl Into<String>) -> Refusal {
    refuse(ErrorCode::BadSdp, message)
}

/// An offer that could be read.
struct Offer<'a>(Sdp<'a>);

impl<'a> Offer<'a> {
    /// The m-lines of a kind that we may send on, with their numbers: those on which the client sends nothing first, since
    /// a camera's line is offered for the camera.
    fn receivable(&self, kind: &str) -> Vec<(usize, &Media<'a>)> {
        let mut found: Vec<_> = self.open(kind).filter(|(_, media)| self.receives(media)).collect();
        found.sort_by_key(|(_, media)| self.0.direction(media) == Direction::SendRecv);
        found
    }

    fn open(&self, kind: &str) -> impl Iterator<Item = (usize, &Media<'a>)> {
        self.0.media.iter().enumerate().filter(move |(_, media)| media.kind == kind && media.is_open())
    }

    fn receives(&self, media: &Media<'a>) -> bool {
        matches!(self.0.direction(media), Direction::SendRecv | Direction::RecvOnly)
    }

    fn sends(&self, media: &Media<'a>) -> bool {
        matches!(self.0.direction(media), Direction::SendRecv | Direction::SendOnly)
    }

    fn video(&self, receivable: &[(usize, &Media<'a>)], codec: Codec) -> Option<Track> {
        let served = receivable.iter().copied();
        let (m_line, media, payload_type) =
            served.filter_map(|(m_line, media)| Some((m_line, media, video_payload_type(media, codec)?))).next()?;
        let feedback = ["nack", "nack pli", "ccm fir"];
        let rtx = media.mapped_to("rtx/90000").find(|rtx| {
            media.parameter(*rtx, "apt").is_some_and(|original| original.parse() == Ok(payload_type))
                && media.encodings(*rtx).len() == 1
        });
        Some(Track {
            m_line,
            payload_type,
            rtx: rtx.filter(|_| media.has_feedback(payload_type, "nack")),
            red: None,
            feedback: feedback.into_iter().filter(|kind| media.has_feedback(payload_type, kind)).collect(),
            transport_extension: media
                .extension(TRANSPORT_EXTENSION)
                .filter(|_| media.has_feedback(payload_type, "transport-cc")),
            profile: media
                .parameter(payload_type, "profile-level-id")
                .filter(|_| codec == Codec::H264)
                .map(str::to_owned),
        })
    }

    fn audio(&self, receivable: &[(usize, &Media<'a>)], listens: bool) -> Option<Track> {
        // Who listens takes the line that carries the microphone, where one does both.
        let both = receivable.iter().filter(|(_, media)| listens && self.sends(media));
        both.chain(receivable).find_map(|(m_line, media)| opus(*m_line, media))
    }

    fn microphone(&self, audio: Option<&Track>) -> Option<Track> {
        let on_our_line = audio.filter(|track| self.0.media.get(track.m_line).is_some_and(|media| self.sends(media)));
        on_our_line.cloned().or_else(|| {
            let others = self
                .open("audio")
                .filter(|(m_line, media)| self.sends(media) && audio.is_none_or(|track| track.m_line != *m_line));
            others.filter(|(_, media)| is_secure_rtp(media)).find_map(|(m_line, media)| opus(m_line, media))
        })
    }

    /// webrtcbin matches by payload type alone, over all m-lines: ours must mean the same codec in all that are used.
    fn check_unambiguous(&self, track: Option<&Track>, codec: &str, used: &[usize]) -> Result<(), Refusal> {
        let Some(track) = track else { return Ok(()) };
        for (m_line, media) in self.0.media.iter().enumerate().filter(|(m_line, _)| used.contains(m_line)) {
            if means_another(media, track.payload_type, codec) {
                return Err(bad(format!(
                    "payload type {} is {codec} in m-line {} and something else in m-line {m_line}",
                    track.payload_type, track.m_line
                )));
            }
        }
        Ok(())
    }

    /// Whether nothing that an m-line says stands against answering it without using it.
    fn may_idle(&self, m_line: usize, means: &[(&Track, &str)]) -> bool {
        self.0.media.get(m_line).is_some_and(|media| {
            let has_name = media.attribute("mid").is_some_and(is_token);
            let is_medium = matches!(media.kind, "video" | "audio") && is_secure_rtp(media) && media.is_open();
            let is_clear = means.iter().all(|(track, codec)| !means_another(media, track.payload_type, codec));
            has_name && is_medium && is_clear
        })
    }

    /// The m-lines that share a transport with this one, in the order of their group, if there is one.
    fn bundle(&self, m_line: usize) -> Vec<usize> {
        let mid = |media: &Media<'a>| media.attribute("mid");
        let group = self.0.media.get(m_line).and_then(mid).and_then(|mid| self.0.bundle_of(mid)).unwrap_or_default();
        let place = |bundled: &str| self.0.media.iter().position(|media| mid(media) == Some(bundled));
        group.into_iter().filter_map(place).collect()
    }

    fn lines(&self, transport: &Transport, bundle: &[usize], may_idle: impl Fn(usize) -> bool) -> Vec<Line> {
        let line = |(m_line, media): (usize, &Media<'a>)| Line {
            mid: media.attribute("mid").filter(|mid| is_token(mid)).map(str::to_owned),
            // Whoever offers several transports at once gathers for each; only one of them is used.
            is_bundled: match self.0.inherited(media, "ice-ufrag") {
                Some(ufrag) => ufrag == transport.ufrag,
                None => m_line == transport.m_line || bundle.contains(&m_line),
            },
            kind: media.kind.to_owned(),
            protocol: media.protocol.to_owned(),
            formats: media.formats.to_owned(),
            is_open: media.is_open(),
            may_idle: may_idle(m_line),
            repeated: repeated(media),
        };
        self.0.media.iter().enumerate().map(line).collect()
    }

    fn candidates(&self, lines: &[Line]) -> Vec<String> {
        let of_session = self.0.attributes.iter();
        let of_media = self.0.media.iter().zip(lines).filter(|(_, line)| line.is_bundled);
        of_session
            .chain(of_media.flat_map(|(media, _)| &media.attributes))
            .filter(|(name, _)| *name == "candidate")
            .map(|(_, value)| format!("candidate:{value}"))
            .take(MAX_CANDIDATES)
            .collect()
    }
}

/// Which codecs its payload types are, or where its data channels are.
fn repeated(media: &Media<'_>) -> Vec<String> {
    let is_listed = |value: &str| {
        let payload_type = value.split(' ').next().and_then(|payload_type| payload_type.parse().ok());
        payload_type.is_some_and(|payload_type| media.payload_types.contains(&payload_type))
    };
    let is_repeated = |(name, value): &&(&str, &str)| match *name {
        "rtpmap" | "fmtp" => is_listed(value),
        "sctp-port" | "sctpmap" => media.kind == "application",
        _ => false,
    };
    media.attributes.iter().filter(is_repeated).map(|(name, value)| format!("a={name}:{value}")).collect()
}

fn named(m_line: usize, media: &Media<'_>) -> String {
    format!("{} m-line {m_line}", media.kind)
}

fn is_secure_rtp(media: &Media<'_>) -> bool {
    matches!(media.protocol, "UDP/TLS/RTP/SAVPF" | "TCP/TLS/RTP/SAVPF" | "TCP/DTLS/RTP/SAVPF")
}

#[cfg(test)]
mod tests;
