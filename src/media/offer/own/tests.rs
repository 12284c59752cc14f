//! An offer as webrtcbin makes it, answers as media servers give them and as nobody should.

use super::*;

/// As webrtcbin 1.22 makes one, shortened.
fn made() -> String {
    let transport = "c=IN IP4 0.0.0.0\r\na=setup:actpass\r\na=ice-ufrag:ours\r\na=ice-pwd:0123456789012345678901\r\n\
                     a=rtcp-mux\r\na=rtcp-rsize\r\na=sendonly\r\n";
    let fingerprint = format!("a=fingerprint:sha-256 {}\r\n", vec!["AB"; 32].join(":"));
    format!(
        "v=0\r\no=- 1 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-options:trickle\r\na=group:BUNDLE video0 audio1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{transport}a=rtpmap:96 H264/90000\r\na=rtcp-fb:96 nack\r\n\
         a=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 ccm fir\r\na=fmtp:96 packetization-mode=1\r\na=rtpmap:97 rtx/90000\r\n\
         a=fmtp:97 apt=96\r\na=ssrc:1 msid:user x\r\na=ssrc:1 cname:user\r\na=mid:video0\r\n{fingerprint}\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{transport}a=bundle-only\r\na=rtpmap:111 OPUS/48000\r\n\
         a=rtcp-fb:111 transport-cc\r\na=mid:audio1\r\n{fingerprint}a=rtcp-mux-only\r\n"
    )
}

fn offer() -> OwnOffer {
    OwnOffer::of(&made(), Codec::H264).unwrap()
}

/// A media server's answer.
fn answer() -> String {
    let transport = format!(
        "c=IN IP4 192.0.2.1\r\na=ice-ufrag:theirs\r\na=ice-pwd:theirs-0123456789012345\r\na=setup:passive\r\na=rtcp-mux\r\n\
         a=fingerprint:sha-256 {}\r\na=candidate:1 1 udp 2130706431 192.0.2.1 443 typ host\r\n",
        vec!["CD"; 32].join(":")
    );
    format!(
        "v=0\r\no=- 9 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE video0 audio1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96\r\n{transport}a=mid:video0\r\na=recvonly\r\na=rtpmap:96 H264/90000\r\n\
         a=fmtp:96 profile-level-id=42e01f;packetization-mode=1\r\na=rtcp-fb:96 nack pli\r\na=x:\u{1f600}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{transport}a=mid:audio1\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"
    )
}

#[test]
fn the_offer_travels_as_the_rfc_wants_it() {
    let text =
        offer().text(7, &["candidate:1 1 UDP 1 192.0.2.7 6000 typ host".into(), "candidate:2 tcptype active".into()]);
    assert_eq!(text.matches("a=sendonly\r\n").count(), 2, "{text}");
    assert_eq!(text.matches("a=msid:mouthpiece ").count(), 2, "one stream: {text}");
    assert_eq!(text.matches("a=rtcp-mux-only\r\n").count(), 2, "{text}");
    assert_eq!(text.matches("a=candidate:").count(), 1, "{text}");
    assert_eq!(text.matches("a=end-of-candidates\r\n").count(), 1, "{text}");
    assert!(text.contains("a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n"));
    assert!(text.contains("a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n"), "{text}");
    for left_out in ["OPUS/48000", "bundle-only", "transport-cc"] {
        assert!(!text.contains(left_out), "{left_out}: {text}");
    }
    assert!(!text.contains("msid:user") && text.contains("a=ssrc:1 cname:user\r\n"), "{text}");
    let parsed = Sdp::parse(&text).unwrap();
    assert_eq!((parsed.media.len(), parsed.missing_mid(), parsed.repeated_mid()), (2, None, None));
}

#[test]
fn an_answer_reaches_webrtcbin_in_our_words() {
    let accepted = offer().accept(&answer()).unwrap();
    let canonical = &accepted.canonical;
    assert_eq!(accepted.candidates, ["candidate:1 1 udp 2130706431 192.0.2.1 443 typ host"]);
    assert!(canonical.contains("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n"), "retransmission is not taken: {canonical}");
    assert!(canonical.contains("a=rtcp-fb:96 nack pli\r\n") && !canonical.contains("a=rtcp-fb:96 nack\r\n"));
    assert_eq!(canonical.matches("a=setup:passive\r\n").count(), 2, "{canonical}");
    assert_eq!(canonical.matches("a=ice-ufrag:theirs\r\n").count(), 2, "{canonical}");
    for foreign in ["\u{1f600}", "ice-lite", "profile-level-id", "a=candidate"] {
        assert!(!canonical.contains(foreign), "{foreign}: {canonical}");
    }
    let with_rtx = answer()
        .replace("SAVPF 96\r\n", "SAVPF 96 97\r\n")
        .replace("a=mid:video0", "a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=mid:video0");
    assert!(offer().accept(&with_rtx).unwrap().canonical.contains("a=fmtp:97 apt=96\r\n"));
}

#[test]
fn an_answer_that_does_not_take_what_is_offered_is_refused_before_webrtcbin_sees_it() {
    let whole = answer();
    for (from, to, code) in [
        ("m=video 9 ", "m=video 0 ", ErrorCode::NoCommonCodec),
        ("m=audio 9 ", "m=audio 0 ", ErrorCode::NoCommonCodec),
        ("SAVPF 96", "SAVPF 98", ErrorCode::NoCommonCodec),
        ("a=rtpmap:96 H264/90000", "a=rtpmap:96 VP8/90000", ErrorCode::NoCommonCodec),
        ("a=rtpmap:96 H264/90000\r\n", "", ErrorCode::NoCommonCodec),
        ("a=recvonly", "a=inactive", ErrorCode::NoCommonCodec),
        ("a=recvonly", "a=sendonly", ErrorCode::NoCommonCodec),
        ("m=audio", "m=video", ErrorCode::NoCommonCodec),
        ("a=setup:passive", "a=setup:actpass", ErrorCode::BadSdp),
        ("a=setup:passive\r\n", "", ErrorCode::BadSdp),
        ("a=ice-ufrag:theirs\r\n", "", ErrorCode::BadSdp),
        ("a=fingerprint:sha-256 CD", "a=fingerprint:sha-256 XY", ErrorCode::BadSdp),
        ("a=rtcp-mux\r\n", "", ErrorCode::BadSdp),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", ErrorCode::BadSdp),
        ("v=0\r\n", "", ErrorCode::BadSdp),
    ] {
        let refusal = offer().accept(&whole.replace(from, to)).unwrap_err();
        assert_eq!(refusal.code, code, "{from} -> {to}: {refusal}");
    }
    let halved = whole.get(..whole.find("m=audio").unwrap()).unwrap();
    assert_eq!(offer().accept(halved).unwrap_err().code, ErrorCode::BadSdp);
}

proptest::proptest! {
    /// Whatever the other side writes, webrtcbin is given our payload types and nothing that stands for another codec.
    #[test]
    fn nothing_that_an_answer_may_hold_changes_what_webrtcbin_is_told(at in 0..2000usize, with in "[ -~]{0,40}", cut in 0..60usize) {
        let mut text = answer();
        let at = text.char_indices().map(|(at, _)| at).nth(at).unwrap_or(text.len());
        let end = (at + cut..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        text.replace_range(at..end, &with);
        if let Ok(accepted) = offer().accept(&text) {
            let m_lines: Vec<&str> = accepted.canonical.lines().filter(|line| line.starts_with("m=")).collect();
            let video = ["m=video 9 UDP/TLS/RTP/SAVPF 96", "m=video 9 UDP/TLS/RTP/SAVPF 96 97"];
            proptest::prop_assert!(m_lines.len() == 2 && video.contains(&m_lines[0]));
            proptest::prop_assert_eq!(m_lines[1], "m=audio 9 UDP/TLS/RTP/SAVPF 111");
            proptest::prop_assert!(accepted.canonical.contains("a=rtpmap:96 H264/90000\r\n"));
        }
    }
}
