//! Offers as browsers send them, and as nobody should.

use proptest::prelude::*;

use super::super::sdp::MAX_MEDIA;
use super::*;
use crate::media::testing::sdp::{APPLICATION, CHROMIUM, FIREFOX, FIREFOX_153, Parts, high_only};
use crate::session::OFFER_BYTES;

fn plan(sdp: &str, codecs: &[Codec]) -> Result<Plan, Refusal> {
    super::plan(sdp, codecs, false)
}

fn code(sdp: &str) -> ErrorCode {
    plan(sdp, &[Codec::H264]).unwrap_err().code
}

fn payload_types(sdp: &str, codecs: &[Codec]) -> (u8, u8) {
    let plan = plan(sdp, codecs).unwrap();
    (plan.video.unwrap().payload_type, plan.audio.unwrap().payload_type)
}

/// The m-lines of video, sound and microphone.
fn m_lines(sdp: &str, listens: bool) -> [Option<usize>; 3] {
    let plan = super::plan(sdp, &[Codec::H264, Codec::Vp8], listens).unwrap_or_else(|error| panic!("{error}\n{sdp}"));
    [plan.video, plan.audio, plan.microphone].map(|track| track.map(|track| track.m_line))
}

#[test]
fn chromium_is_served_with_its_constrained_baseline() {
    assert_eq!(payload_types(CHROMIUM, &[Codec::H264]), (108, 111));
    assert_eq!(payload_types(CHROMIUM, &[Codec::Vp8]), (96, 111));
    let plan = plan(CHROMIUM, &[Codec::H264]).unwrap();
    assert_eq!((plan.video.unwrap().m_line, plan.audio.unwrap().m_line), (0, 1));
    assert_eq!(plan.lines.iter().map(|line| line.mid.as_deref()).collect::<Vec<_>>(), [Some("0"), Some("1")]);
}

#[test]
fn firefox_is_served_though_its_fingerprint_is_the_sessions() {
    assert_eq!(payload_types(FIREFOX, &[Codec::H264]), (126, 109));
    assert_eq!(payload_types(FIREFOX, &[Codec::Vp8]), (120, 109));
    assert_eq!(payload_types(FIREFOX_153, &[Codec::H264]), (126, 109));
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
    let rejected = CHROMIUM.replace("m=video 9 ", "m=video 0 ").replace("m=audio 9 ", "m=audio 0 ");
    assert_eq!(code(&rejected), ErrorCode::OfferNotReceivable);
}

#[test]
fn who_only_listens_and_who_only_looks_are_served() {
    let parts = Parts::of(CHROMIUM);
    assert_eq!(m_lines(&parts.join(&[&parts.video], &["0"]), true), [Some(0), None, None]);
    assert_eq!(m_lines(&parts.join(&[&parts.audio], &["1"]), true), [None, Some(0), None]);
    let without_group = parts.join(&[&parts.audio], &[]).replace("a=mid:1\r\n", "");
    assert_eq!(m_lines(&without_group, true), [None, Some(0), None]);
    let video_sends_only = CHROMIUM.replacen("a=recvonly", "a=sendonly", 1);
    assert_eq!(m_lines(&video_sends_only, true), [None, Some(1), None]);
    assert_eq!(m_lines(&CHROMIUM.replace("m=video 9 ", "m=video 0 "), true), [None, Some(1), None]);
}

#[test]
fn no_direction_is_both_ways() {
    let sdp = CHROMIUM.replace("a=recvonly\r\n", "");
    assert_eq!(m_lines(&sdp, false), [Some(0), Some(1), None]);
    assert_eq!(m_lines(&sdp, true), [Some(0), Some(1), Some(1)]);
    let said_for_all = sdp.replacen("t=0 0\r\n", "t=0 0\r\na=recvonly\r\n", 1);
    assert_eq!(m_lines(&said_for_all, true), [Some(0), Some(1), None]);
}

#[test]
fn the_wanted_lines_are_found_among_others_in_any_order() {
    let parts = Parts::of(CHROMIUM);
    let (video, audio) = (&parts.video, &parts.audio);
    let again = |section: &str, mid: &str| section.replace("a=mid:0", &format!("a=mid:{mid}"));
    let camera = again(video, "cam").replace("a=recvonly", "a=sendonly");
    let both = again(video, "both").replace("a=recvonly", "a=sendrecv");
    let rejected = again(video, "no").replace("m=video 9", "m=video 0");
    let bare = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:bare\r\n";
    let idle = again(video, "idle").replace("a=recvonly", "a=inactive");
    let all = ["0", "1", "cam", "both", "idle", "data"];
    for others in [&camera, &both, &rejected, &idle, bare, APPLICATION] {
        for sections in [[others, video, audio], [video, others, audio], [video, audio, others], [audio, others, video]]
        {
            let sdp = parts.join(
                &sections,
                &all.map(|mid| if sections.concat().contains(&format!("a=mid:{mid}\r")) { mid } else { "" }),
            );
            let place = |wanted: &str| sections.iter().position(|section| *section == wanted);
            assert_eq!(m_lines(&sdp, true), [place(video), place(audio), None], "{sdp}");
        }
    }
    let microphone = audio.replace("a=mid:1", "a=mid:mic").replace("a=recvonly", "a=sendonly");
    let sdp = parts.join(&[&microphone, video, audio], &["mic", "0", "1"]);
    assert_eq!(m_lines(&sdp, true), [Some(1), Some(2), Some(0)]);
    assert_eq!(m_lines(&sdp, false), [Some(1), Some(2), None]);
    let talk = microphone.replace("a=sendonly", "a=sendrecv");
    assert_eq!(m_lines(&parts.join(&[audio, video, &talk], &["mic", "0", "1"]), true), [Some(1), Some(2), Some(2)]);
}

#[test]
fn line_breaks_of_any_kind_and_number_end_an_offer() {
    let wanted = m_lines(CHROMIUM, false);
    let lf = CHROMIUM.replace("\r\n", "\n");
    for sdp in [
        CHROMIUM.trim_end().to_owned(),
        format!("{CHROMIUM}\r\n"),
        format!("{CHROMIUM}\r\n\n\r\n"),
        lf.trim_end().to_owned(),
        format!("{lf}\n"),
        lf,
    ] {
        assert_eq!(m_lines(&sdp, false), wanted);
    }
    assert_eq!(code(&CHROMIUM.replacen("a=mid:0\r\n", "a=mid:0\r\n\r\n", 1)), ErrorCode::BadSdp);
}

#[test]
fn high_profile_alone_is_served_though_webrtcbin_is_not_told_of_it() {
    let plan = plan(&high_only(), &[Codec::H264]).unwrap();
    assert_eq!(plan.video.as_ref().unwrap().payload_type, 108);
    assert!(plan.canonical(false).contains("a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1\r\n"));
    assert_eq!(code(&high_only().replace("640c1f", "640c1")), ErrorCode::NoCommonCodec);
    assert_eq!(code(&high_only().replace("640c1f", "f40c1f")), ErrorCode::NoCommonCodec);
}

#[test]
fn the_transport_is_read_wherever_it_stands() {
    let own = plan(CHROMIUM, &[Codec::H264]).unwrap().transport;
    let fingerprint = CHROMIUM.lines().find(|line| line.starts_with("a=fingerprint:")).unwrap();
    let moved: String =
        CHROMIUM.lines().filter(|line| *line != fingerprint).map(|line| format!("{line}\r\n")).collect();
    let moved = moved.replacen("t=0 0\r\n", &format!("t=0 0\r\n{fingerprint}\r\na=setup:actpass\r\n"), 1);
    assert_eq!(plan(&moved, &[Codec::H264]).unwrap().transport, own);
    for (hash, bytes) in [("sha-384", 48), ("sha-512", 64), ("SHA-256", 32), ("sha-1", 20)] {
        let value = format!("a=fingerprint:{hash} {}", vec!["ab"; bytes].join(":"));
        let read = plan(&CHROMIUM.replace(fingerprint, &value), &[Codec::H264]).unwrap().transport;
        assert!(read.fingerprint.starts_with(&format!("{} AB:AB", hash.to_lowercase())));
        let both = format!("{value}\r\n{fingerprint}");
        let read = plan(&CHROMIUM.replace(fingerprint, &both), &[Codec::H264]).unwrap().transport;
        assert!(hash == "SHA-256" || read == own, "{read:?}");
    }
    for setup in ["active", "passive"] {
        assert_eq!(plan(&CHROMIUM.replace("actpass", setup), &[Codec::H264]).unwrap().transport.setup, setup);
    }
    assert_eq!(code(&CHROMIUM.replace("actpass", "holdconn")), ErrorCode::BadSdp);
}

#[test]
fn webrtcbin_is_offered_nothing_that_was_not_planned() {
    let evil = "a=candidate:1 1 udp 1 evil.local 1 typ host\r\na=remote-candidates:1 evil.local 1\r\na=x-odd:1\r\n";
    let sdp = format!("{CHROMIUM}{evil}{APPLICATION}{evil}");
    let sdp = sdp.replacen("a=group:BUNDLE 0 1", &format!("{evil}a=group:BUNDLE 0 1 data"), 1);
    let plan = plan(&sdp, &[Codec::H264]).unwrap();
    assert_eq!(plan.candidates.len(), 3, "the filter decides on those");
    let canonical = plan.canonical(false);
    assert!(!canonical.contains("evil") && !canonical.contains("odd") && !canonical.contains("application"));
    assert!(!canonical.contains("extmap") && canonical.matches("m=").count() == 2);
    for line in canonical.lines().filter(|line| line.starts_with("a=rtpmap:")) {
        assert!(
            ["108 H264/90000", "109 rtx/90000", "111 OPUS/48000/2"].iter().any(|known| line.ends_with(known)),
            "{line}"
        );
    }
}

#[test]
fn a_bundle_that_names_what_is_not_there_or_two_of_a_name_are_refused() {
    let error = plan(&CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0 1 2"), &[Codec::H264]).unwrap_err();
    assert!(error.code == ErrorCode::BadSdp && error.message.contains("cut off"), "{error}");
    assert_eq!(code(&CHROMIUM.replace("a=mid:1", "a=mid:0").replace("BUNDLE 0 1", "BUNDLE 0")), ErrorCode::BadSdp);
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
        assert_eq!((plan.codec, plan.video.unwrap().payload_type), served);
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
    let long_line = format!("{CHROMIUM}a=x:{}\r\n", "y".repeat(OFFER_BYTES));
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
    let plan_of_all = plan(CHROMIUM, &[Codec::H264]).unwrap();
    for end in (0..CHROMIUM.len()).step_by(7) {
        let cut = plan(&CHROMIUM[..end], &[Codec::H264]);
        // Cut within a last line that says nothing of our tracks, nothing is missing.
        let is_whole = |plan: Plan| {
            (&plan.video, &plan.audio) == (&plan_of_all.video, &plan_of_all.audio) && end + 120 > CHROMIUM.len()
        };
        assert!(cut.is_err() || cut.is_ok_and(is_whole), "cut at byte {end}");
    }
}

/// Whether the text itself says that a payload type is this codec's, on any line.
fn maps(sdp: &str, payload_type: u8, codec: &str) -> bool {
    sdp.to_ascii_lowercase().contains(&format!("a=rtpmap:{payload_type} {}/", codec.to_ascii_lowercase()))
}

proptest! {
    #[test]
    fn a_plan_for_a_damaged_offer_only_uses_what_the_offer_says(
        source in prop::sample::select(vec![CHROMIUM, FIREFOX, FIREFOX_153]),
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
                let (video, audio) = (plan.video.as_ref(), plan.audio.as_ref());
                prop_assert!(video.is_none_or(|video| maps(&sdp, video.payload_type, codec.encoding_name())));
                prop_assert!(audio.is_none_or(|audio| maps(&sdp, audio.payload_type, "opus")));
                prop_assert!(video.or(audio).is_some());
                prop_assert!(video.map(|video| video.m_line) != audio.map(|audio| audio.m_line));
            }
        }
    }

    #[test]
    fn bytes_that_are_no_offer_never_panic(sdp in "(?s)(v=0\r\n)?.{0,400}\n") {
        let _ = plan(&sdp, &[Codec::H264]);
    }
}
