//! Offers for tests: those of browsers, and what can be made of their parts.

pub const CHROMIUM: &str = include_str!("../../../tests/fixtures/sdp/chromium-156.sdp");
pub const FIREFOX: &str = include_str!("../../../tests/fixtures/sdp/firefox-like.sdp");
pub const FIREFOX_153: &str = include_str!("../../../tests/fixtures/sdp/firefox-153.sdp");
pub const APPLICATION: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:data\r\n\
                               a=sctp-port:5000\r\na=max-message-size:262144\r\n";

/// The parts of an offer with a video and an audio line.
pub struct Parts {
    /// Without its BUNDLE group.
    pub session: String,
    pub video: String,
    pub audio: String,
}

impl Parts {
    pub fn of(offer: &str) -> Self {
        let (video, audio) = (offer.find("m=video").unwrap(), offer.find("m=audio").unwrap());
        let session = offer[..video].split_inclusive('\n').filter(|line| !line.starts_with("a=group"));
        Self { session: session.collect(), video: offer[video..audio].to_owned(), audio: offer[audio..].to_owned() }
    }

    /// An offer of these sections, with these `a=mid` in its bundle.
    pub fn join(&self, sections: &[&str], bundle: &[&str]) -> String {
        let mids: Vec<&str> = bundle.iter().copied().filter(|mid| !mid.is_empty()).collect();
        let group = if mids.is_empty() { String::new() } else { format!("a=group:BUNDLE {}\r\n", mids.join(" ")) };
        format!("{}{group}{}", self.session, sections.concat())
    }
}

/// Chromium's offer with H.264 in its high profile and nothing else.
pub fn high_only() -> String {
    let parts = Parts::of(CHROMIUM);
    let is_of_others = |line: &&str| {
        let numbered = line.split_once(':').filter(|(name, _)| matches!(*name, "a=rtpmap" | "a=fmtp" | "a=rtcp-fb"));
        numbered.is_some_and(|(_, value)| !value.starts_with("108 ") && !value.starts_with("109 "))
    };
    let video: String = parts.video.split_inclusive('\n').skip(1).filter(|line| !is_of_others(line)).collect();
    let video = format!("m=video 9 UDP/TLS/RTP/SAVPF 108 109\r\n{}", video.replace("42e01f", "640c1f"));
    parts.join(&[&video, &parts.audio], &["0", "1"])
}
