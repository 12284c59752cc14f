//! Offers as browsers send them, and as nobody should.

use proptest::prelude::*;

use super::*;

const CHROMIUM: &str = include_str!("../../../tests/fixtures/sdp/chromium-156.sdp");
const FIREFOX: &str = include_str!("../../../tests/fixtures/sdp/firefox-like.sdp");

fn code(sdp: &str) -> ErrorCode {
    plan(sdp, &[Codec::H264]).unwrap_err().code
}

fn payload_types(sdp: &str, codecs: &[Codec]) -> (u8, u8) {
    let plan = plan(sdp, codecs).unwrap();
    (plan.video.payload_type, plan.audio.payload_type)
}

#[test]
fn chromium_is_served_with_its_constrained_baseline() {
    assert_eq!(payload_types(CHROMIUM, &[Codec::H264]), (108, 111));
    assert_eq!(payload_types(CHROMIUM, &[Codec::Vp8]), (96, 111));
    let plan = plan(CHROMIUM, &[Codec::H264]).unwrap();
    assert_eq!((plan.video.m_line, plan.audio.m_line), (0, 1));
    assert_eq!(plan.mids, [Some("0".to_owned()), Some("1".to_owned())]);
}

#[test]
fn firefox_is_served_though_its_fingerprint_is_the_sessions() {
    assert_eq!(payload_types(FIREFOX, &[Codec::H264]), (126, 109));
    assert_eq!(payload_types(FIREFOX, &[Codec::Vp8]), (120, 109));
}

#[test]
fn an_offer_without_media_is_told_to_add_transceivers() {
    let session: String =
        CHROMIUM.lines().take_while(|line| !line.starts_with("m=")).map(|line| format!("{line}\r\n")).collect();
    let error = plan(&session, &[Codec::H264]).unwrap_err();
    assert_eq!(error.code, ErrorCode::OfferWithoutMedia);
    assert!(error.message.contains("addTransceiver"), "{}", error.message);
    let data_only = format!("{session}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n");
    assert_eq!(code(&data_only), ErrorCode::OfferWithoutMedia);
}

#[test]
fn an_offer_that_receives_nothing_is_refused() {
    for direction in ["sendonly", "inactive"] {
        let sdp = CHROMIUM.replace("a=recvonly", &format!("a={direction}"));
        assert_eq!(code(&sdp), ErrorCode::OfferNotReceivable);
    }
    let video_sends_only = CHROMIUM.replacen("a=recvonly", "a=sendonly", 1);
    assert!(plan(&video_sends_only, &[Codec::H264]).unwrap_err().message.contains("no video m-line"));
    let video_only = &CHROMIUM[..CHROMIUM.find("m=audio").unwrap()];
    assert!(plan(video_only, &[Codec::H264]).unwrap_err().message.contains("no audio m-line"));
    assert_eq!(code(&CHROMIUM.replace("m=video 9 ", "m=video 0 ")), ErrorCode::OfferNotReceivable);
}

#[test]
fn an_offer_without_a_codec_of_ours_names_what_it_has() {
    let error = plan(&CHROMIUM.replace("H264/90000", "H263/90000"), &[Codec::H264]).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoCommonCodec);
    assert!(error.message.contains("H264") && error.message.contains("VP9"), "{}", error.message);
    assert_eq!(code(&CHROMIUM.replace("packetization-mode=1", "packetization-mode=0")), ErrorCode::NoCommonCodec);
    assert_eq!(code(&CHROMIUM.replace("opus/48000/2", "opus/48000/1")), ErrorCode::NoCommonCodec);
}

#[test]
fn the_first_of_our_codecs_that_an_offer_has_is_served() {
    const BOTH: &[Codec] = &[Codec::H264, Codec::Vp8];
    const TURNED: &[Codec] = &[Codec::Vp8, Codec::H264];
    let (only_vp8, only_h264) =
        (CHROMIUM.replace("H264/90000", "H263/90000"), CHROMIUM.replace("VP8/90000", "VP7/90000"));
    for (sdp, ours, served) in [
        (CHROMIUM, BOTH, (Codec::H264, 108)),
        (CHROMIUM, TURNED, (Codec::Vp8, 96)),
        (&only_vp8, BOTH, (Codec::Vp8, 96)),
        (&only_h264, TURNED, (Codec::H264, 108)),
    ] {
        let plan = plan(sdp, ours).unwrap();
        assert_eq!((plan.codec, plan.video.payload_type), served);
    }
    let neither = only_vp8.replace("VP8/90000", "VP7/90000");
    let error = plan(&neither, BOTH).unwrap_err();
    assert_eq!(error.code, ErrorCode::NoCommonCodec);
    assert!(error.message.contains("video is H264 or VP8"), "{}", error.message);
    assert!(error.message.contains("VP9"), "{}", error.message);
}

#[test]
fn a_payload_type_that_is_not_listed_in_its_m_line_is_not_used() {
    let sdp = CHROMIUM.replacen(" 108 ", " ", 1);
    assert_eq!(payload_types(&sdp, &[Codec::H264]).0, 102);
}

#[test]
fn a_payload_type_that_means_two_codecs_is_refused() {
    let twice = CHROMIUM.replace("a=rtpmap:108 H264/90000", "a=rtpmap:108 H264/90000\r\na=rtpmap:108 VP8/90000");
    assert_eq!(code(&twice), ErrorCode::BadSdp);
    let in_audio = CHROMIUM.replace("a=rtpmap:111 opus", "a=rtpmap:108 PCMU/8000\r\na=rtpmap:111 opus");
    assert_eq!(code(&in_audio), ErrorCode::BadSdp);
}

#[test]
fn an_offer_without_bundle_ice_or_dtls_is_refused_and_says_which() {
    for (gone, named) in [
        ("a=group:BUNDLE", "BUNDLE"),
        ("a=ice-ufrag", "ice-ufrag"),
        ("a=ice-pwd", "ice-pwd"),
        ("a=fingerprint", "fingerprint"),
        ("a=setup", "setup"),
        ("a=rtcp-mux", "rtcp-mux"),
        ("a=mid", "BUNDLE"),
    ] {
        let sdp: String =
            CHROMIUM.lines().filter(|line| !line.starts_with(gone)).map(|line| format!("{line}\r\n")).collect();
        let error = plan(&sdp, &[Codec::H264]).unwrap_err();
        assert_eq!(error.code, ErrorCode::BadSdp, "without {gone}");
        assert!(error.message.contains(named), "without {gone}: {}", error.message);
    }
    assert_eq!(code(&CHROMIUM.replace("UDP/TLS/RTP/SAVPF", "RTP/SAVPF")), ErrorCode::BadSdp);
    assert_eq!(code(&CHROMIUM.replace("sha-256", "md5")), ErrorCode::BadSdp);
}

#[test]
fn what_is_no_sdp_is_refused() {
    let long_line = format!("{CHROMIUM}a=x:{}\r\n", "y".repeat(MAX_BYTES));
    let many_media = format!("{CHROMIUM}{}", "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(MAX_MEDIA));
    let no_session: String = CHROMIUM.lines().skip(3).map(|line| format!("{line}\r\n")).collect();
    for sdp in
        ["", "\n", "v=0\r\n", "hello\n", "{\"type\":\"offer\"}\n", "\u{0}\n", &long_line, &many_media, &no_session]
    {
        assert_eq!(code(sdp), ErrorCode::BadSdp, "{:?}", &sdp[..sdp.len().min(60)]);
    }
    assert_eq!(code(&CHROMIUM.replace("m=audio 9 ", "m=audio nine ")), ErrorCode::BadSdp);
    assert_eq!(code(&CHROMIUM.replace("a=recvonly", "a=recvonly\u{7}")), ErrorCode::BadSdp);
}

#[test]
fn a_truncated_offer_is_refused_wherever_it_is_cut() {
    for end in (0..CHROMIUM.len()).step_by(50) {
        let error = plan(&CHROMIUM[..end], &[Codec::H264]);
        // What may be missing from a plan that is accepted is checked against webrtcbin in `viewer`.
        assert!(error.is_err(), "cut at byte {end}");
    }
}

/// Whether the text itself says that a payload type is this codec's, on any line.
fn maps(sdp: &str, payload_type: u8, codec: &str) -> bool {
    sdp.to_ascii_lowercase().contains(&format!("a=rtpmap:{payload_type} {}/", codec.to_ascii_lowercase()))
}

proptest! {
    #[test]
    fn a_plan_for_a_damaged_offer_only_uses_what_the_offer_says(
        source in prop::sample::select(vec![CHROMIUM, FIREFOX]),
        edits in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        for (edit, here, there) in edits {
            let (here, there) = (here.index(lines.len()), there.index(lines.len()));
            match edit {
                0 => { lines.remove(here); }
                1 => { let line = lines[here].clone(); lines.insert(there, line); }
                2 => lines.swap(here, there),
                _ => { let keep = lines[here].len() / 2; lines[here].truncate(keep); }
            }
        }
        let sdp = lines.join("\r\n") + "\r\n";
        for codec in [Codec::H264, Codec::Vp8] {
            if let Ok(plan) = plan(&sdp, &[codec]) {
                prop_assert_eq!(plan.codec, codec);
                prop_assert!(maps(&sdp, plan.video.payload_type, codec.encoding_name()));
                prop_assert!(maps(&sdp, plan.audio.payload_type, "opus"));
                prop_assert!(plan.video.m_line != plan.audio.m_line);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_offer_never_panic(sdp in "(?s)(v=0\r\n)?.{0,400}\n") {
        let _ = plan(&sdp, &[Codec::H264]);
    }
}
