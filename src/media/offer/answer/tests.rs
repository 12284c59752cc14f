//! Answers to every kind of offer, from what a webrtcbin would have made.

use super::*;
use crate::media::offer::plan;
use crate::media::testing::sdp::{APPLICATION, CHROMIUM, Parts, high_only};

/// What webrtcbin answers to a canonical offer, in short.
fn made(canonical: &str) -> String {
    let turned = |line: &str| match line {
        "a=recvonly" => "a=sendonly".to_owned(),
        "a=sendonly" => "a=recvonly".to_owned(),
        "a=setup:actpass" => "a=setup:active".to_owned(),
        line if line.starts_with("a=fmtp:") && line.contains("profile") => {
            "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1".to_owned()
        }
        line => line.to_owned(),
    };
    canonical.lines().map(|line| turned(line) + "\r\n").collect()
}

fn negotiate(offer: &str, listens: bool) -> Negotiated {
    let plan = plan(offer, &[Codec::H264, Codec::Vp8], listens).unwrap_or_else(|error| panic!("{error}\n{offer}"));
    let made = made(&plan.canonical(listens));
    let mut negotiated = Negotiated::check(plan, &made).unwrap();
    negotiated.gathered(vec!["candidate:1 1 UDP 1 10.0.0.1 4000 typ host".to_owned()], true);
    negotiated
}

/// Kind, port, first payload type and direction of each line.
fn shape(answer: &str) -> Vec<(&str, u16, &str, &str)> {
    let sections = answer.split("m=").skip(1);
    sections
        .map(|section| {
            let mut words = section.lines().next().unwrap().split(' ');
            let (kind, port) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
            let first = words.nth(1).unwrap();
            let is_direction = |line: &&str| matches!(*line, "a=sendonly" | "a=recvonly" | "a=sendrecv" | "a=inactive");
            (kind, port, first, section.lines().find(is_direction).unwrap_or(""))
        })
        .collect()
}

#[test]
fn an_answer_has_the_lines_of_its_offer_in_their_order() {
    let parts = Parts::of(CHROMIUM);
    let camera = parts.video.replace("a=mid:0", "a=mid:cam").replace("a=recvonly", "a=sendonly");
    let bare = "m=video 0 UDP/TLS/RTP/SAVPF 96\r\na=mid:bare\r\n";
    let sections = [&camera, APPLICATION, &parts.audio, bare, &parts.video];
    let answer = negotiate(&parts.join(&sections, &["cam", "data", "1", "0"]), false).answer();
    assert_eq!(
        shape(&answer),
        [
            ("video", 9, "96", "a=inactive"),
            ("application", 0, "webrtc-datachannel", ""),
            ("audio", 9, "111", "a=sendonly"),
            ("video", 0, "96", "a=inactive"),
            ("video", 9, "108", "a=sendonly"),
        ]
    );
    for mid in ["cam", "data", "1", "bare", "0"] {
        assert_eq!(answer.matches(&format!("a=mid:{mid}\r\n")).count(), 1, "{answer}");
    }
    assert!(answer.contains("a=group:BUNDLE cam 1 0\r\n"), "{answer}");
    let first = answer.split("m=").nth(1).unwrap();
    assert!(first.contains("a=candidate:1 1 UDP 1 10.0.0.1 4000 typ host\r\na=end-of-candidates\r\n"), "{answer}");
    assert_eq!(answer.matches("a=candidate").count(), 1);
    for section in answer.split("m=").skip(1) {
        for needed in ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:"] {
            assert_eq!(section.matches(needed).count(), 1, "{section}");
        }
        assert!(section.contains("a=rtcp-mux") != section.starts_with("application"), "{section}");
    }
}

#[test]
fn whoever_reports_when_packets_come_is_asked_to_by_the_number_that_it_offers() {
    let extension = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let answer = negotiate(CHROMIUM, false).answer();
    assert_eq!(
        answer.matches(&format!("a=extmap:4 {extension}\r\na=rtcp-fb:108 transport-cc\r\n")).count(),
        1,
        "{answer}"
    );
    assert_eq!(answer.matches("transport-cc").count(), 1, "of the video alone: {answer}");
    assert!(answer.contains("a=rtcp-fb:108 nack\r\n") && answer.contains("a=fmtp:109 apt=108\r\n"), "{answer}");
    for without in [
        CHROMIUM.replace(extension, "urn:x"),
        CHROMIUM.replace("transport-cc", "goog-remb"),
        CHROMIUM.replace("extmap:4 ", "extmap:15 "),
    ] {
        let answer = negotiate(&without, false).answer();
        assert!(!answer.contains("transport-cc") && !answer.contains("a=extmap"), "{answer}");
    }
}

#[test]
fn a_microphone_is_taken_where_somebody_listens_and_on_whichever_line_it_is() {
    let talks = CHROMIUM.replacen("a=recvonly", "a=sendrecv", 2);
    assert_eq!(shape(&negotiate(&talks, false).answer())[1].3, "a=sendonly");
    assert_eq!(shape(&negotiate(&talks, true).answer())[1].3, "a=sendrecv");
    assert_eq!(shape(&negotiate(CHROMIUM, true).answer())[1].3, "a=sendonly");
    let parts = Parts::of(CHROMIUM);
    let microphone = parts.audio.replace("a=mid:1", "a=mid:mic").replace("a=recvonly", "a=sendonly");
    let offer = parts.join(&[&microphone, &parts.video, &parts.audio], &["mic", "0", "1"]);
    let directions =
        |answer: &str| shape(answer).into_iter().map(|(.., direction)| direction.to_owned()).collect::<Vec<_>>();
    assert_eq!(directions(&negotiate(&offer, true).answer()), ["a=recvonly", "a=sendonly", "a=sendonly"]);
    assert_eq!(directions(&negotiate(&offer, false).answer()), ["a=inactive", "a=sendonly", "a=sendonly"]);
}

#[test]
fn the_first_line_of_the_bundle_that_is_not_rejected_speaks_for_it() {
    let parts = Parts::of(CHROMIUM);
    let apart = |section: &str, from: &str, to: &str| {
        section.replace(from, &format!("a=mid:{to}")).replace("a=recvonly", "a=sendonly")
    };
    let (camera, microphone) = (apart(&parts.video, "a=mid:0", "cam"), apart(&parts.audio, "a=mid:1", "mic"));
    let rejected = camera.replace("m=video 9", "m=video 0");
    for (sections, offered, answered) in [
        ([&microphone, &parts.video, &parts.audio], ["mic", "0", "1"], "mic 0 1"),
        ([&microphone, &parts.video, &parts.audio], ["1", "mic", "0"], "1 mic 0"),
        ([&camera, &parts.audio, &parts.video], ["cam", "1", "0"], "cam 1 0"),
        ([&parts.audio, &parts.video, &camera], ["1", "0", "cam"], "1 0 cam"),
        ([&rejected, &parts.video, &parts.audio], ["", "1", "0"], "1 0"),
    ] {
        let offer = parts.join(&sections.map(String::as_str), &offered);
        for listens in [false, true] {
            let answer = negotiate(&offer, listens).answer();
            assert!(answer.contains(&format!("a=group:BUNDLE {answered}\r\n")), "{answer}");
            let speaker = format!("a=mid:{}\r\n", answered.split(' ').next().unwrap());
            let with_candidates: Vec<&str> = answer.split("m=").filter(|line| line.contains("a=candidate")).collect();
            assert!(with_candidates.len() == 1 && with_candidates[0].contains(&speaker), "{answer}");
        }
    }
}

#[test]
fn a_line_that_cannot_go_by_the_one_transport_or_that_confuses_it_is_rejected() {
    let parts = Parts::of(CHROMIUM);
    let camera = parts.video.replace("a=mid:0", "a=mid:cam").replace("a=recvonly", "a=sendonly");
    let unused = |camera: &str, bundle: &[&str]| {
        let answer = negotiate(&parts.join(&[camera, &parts.video, &parts.audio], bundle), false).answer();
        let line = shape(&answer)[0];
        assert_eq!((line.0, line.3), ("video", "a=inactive"), "{answer}");
        assert_eq!(answer.contains("BUNDLE cam 0 1"), line.1 == 9, "{answer}");
        line.1
    };
    let bundle = ["cam", "0", "1"];
    assert_eq!(unused(&camera, &bundle), 9);
    assert_eq!(unused(&camera, &["0", "1"]), 0);
    assert_eq!(unused(&camera.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), &bundle), 0);
    assert_eq!(unused(&camera.replace("a=rtpmap:108 H264", "a=rtpmap:108 H265"), &bundle), 0);
}

#[test]
fn a_line_alone_is_a_bundle_of_its_own() {
    let parts = Parts::of(CHROMIUM);
    let answer = negotiate(&parts.join(&[&parts.audio], &[]), false).answer();
    assert!(answer.contains("a=group:BUNDLE 1\r\n") && answer.contains("a=candidate"), "{answer}");
    let nameless = parts.audio.replace("a=mid:1\r\n", "");
    let answer = negotiate(&parts.join(&[&nameless], &[]), false).answer();
    assert!(!answer.contains("a=group") && answer.contains("a=candidate"), "{answer}");
}

#[test]
fn another_line_speaks_where_the_one_that_spoke_is_stopped_and_not_where_it_is_paused() {
    let first = negotiate(CHROMIUM, false);
    let keeps = |offer: &str| {
        let plan = plan(offer, &[Codec::H264], false).unwrap();
        assert!(first.is_of_the_same_transport(&plan) && !first.is_restarted_by(&plan));
        first.keeps_its_speaker(&plan)
    };
    assert!(keeps(CHROMIUM) && keeps(&CHROMIUM.replacen("a=recvonly", "a=inactive", 1)));
    assert!(keeps(&CHROMIUM.replace("m=audio 9", "m=audio 0").replace("BUNDLE 0 1", "BUNDLE 0")));
    assert!(!keeps(&CHROMIUM.replace("m=video 9", "m=video 0").replace("BUNDLE 0 1", "BUNDLE 1")));
}

#[test]
fn what_is_said_once_for_the_bundle_holds_for_all_its_lines() {
    let parts = Parts::of(CHROMIUM);
    let is_said =
        |line: &&str| ["a=ice-", "a=fingerprint", "a=setup", "a=rtcp-mux"].iter().any(|name| line.starts_with(name));
    let bare: String = parts.audio.split_inclusive('\n').filter(|line| !is_said(line)).collect();
    let first = negotiate(CHROMIUM, false);
    for direction in ["recvonly", "inactive"] {
        let video = parts.video.replace("recvonly", direction);
        let later = plan(&parts.join(&[&video, &bare], &["0", "1"]), &[Codec::H264], false).unwrap();
        assert!(first.is_of_the_same_transport(&later));
        assert_eq!(shape(&first.answer_again(&later, 2).unwrap())[1].3, "a=sendonly");
    }
}

#[test]
fn the_answer_names_the_profile_of_the_offer() {
    let answer = negotiate(&high_only(), false).answer();
    let named = "a=fmtp:108 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f\r\n";
    assert!(answer.contains(named) && answer.matches("a=fmtp:108 ").count() == 1, "{answer}");
}

#[test]
fn what_was_not_answered_as_planned_is_an_error_and_no_answer() {
    let plan = plan(CHROMIUM, &[Codec::H264], false).unwrap();
    let good = made(&plan.canonical(false));
    for (from, to, what) in [
        ("m=video 9", "m=video 0", "video"),
        ("m=audio 9", "m=audio 0", "sound"),
        ("SAVPF 108", "SAVPF 96", "video"),
        ("SAVPF 111", "SAVPF 63", "sound"),
        ("a=sendonly", "a=inactive", "video"),
        ("m=audio", "m=video", "sound"),
    ] {
        let error = Negotiated::check(plan.clone(), &good.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.code, ErrorCode::NegotiationFailed);
        assert!(error.message.contains(&format!("the {what} of this offer")), "{to}: {error}");
    }
    let one_line = &good[..good.find("m=audio").unwrap()];
    assert!(Negotiated::check(plan.clone(), one_line).is_err());
    assert!(Negotiated::check(plan, "nonsense").is_err());
}

#[test]
fn later_offers_of_the_same_connection_are_answered_from_what_was_negotiated() {
    let first = negotiate(CHROMIUM, true);
    let again = |offer: &str| {
        let plan = plan(offer, &[Codec::H264], true).unwrap();
        assert!(first.is_of_the_same_transport(&plan));
        first.answer_again(&plan, 2)
    };
    let version = |answer: &str| answer.lines().nth(1).unwrap().to_owned();
    assert_eq!(version(&first.answer()), "o=- 1 1 IN IP4 127.0.0.1");
    let same = again(CHROMIUM).unwrap();
    assert_eq!((version(&same), shape(&same)), ("o=- 1 2 IN IP4 127.0.0.1".to_owned(), shape(&first.answer())));

    let with_data = format!("{}{APPLICATION}", CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0 1 data"));
    assert_eq!(shape(&again(&with_data).unwrap())[2], ("application", 0, "webrtc-datachannel", ""));
    let talks = CHROMIUM.replace("m=audio", "m=AUDIO").replacen("a=recvonly", "a=keep", 1);
    let talks = talks.replace("a=recvonly", "a=sendrecv").replace("a=keep", "a=recvonly").replace("m=AUDIO", "m=audio");
    assert_eq!(shape(&again(&talks).unwrap())[1], ("audio", 9, "111", "a=sendrecv"));
    let paused = CHROMIUM.replacen("a=recvonly", "a=inactive", 1);
    assert_eq!(shape(&again(&paused).unwrap())[0], ("video", 9, "108", "a=inactive"));
    assert!(again(&paused).unwrap().contains("a=group:BUNDLE 0 1\r\n"), "a paused line speaks for the bundle");
    let stopped = CHROMIUM.replace("m=audio 9", "m=audio 0").replace("BUNDLE 0 1", "BUNDLE 0");
    assert_eq!(shape(&again(&stopped).unwrap())[1].1, 0);

    let parts = Parts::of(CHROMIUM);
    let another = parts.video.replace("a=mid:0", "a=mid:2");
    let gone = parts.video.replace("a=recvonly", "a=inactive");
    let moved = parts.join(&[&gone, &parts.audio, &another], &["0", "1", "2"]);
    assert_eq!(again(&moved), None, "another line was not negotiated");
    let audio_only = negotiate(&parts.join(&[&parts.audio], &["1"]), false);
    assert_eq!(audio_only.answer_again(&plan(CHROMIUM, &[Codec::H264], false).unwrap(), 2), None);
}

#[test]
fn another_ufrag_password_or_certificate_is_another_connection() {
    let first = negotiate(CHROMIUM, false);
    let is_same = |offer: &str| first.is_of_the_same_transport(&plan(offer, &[Codec::H264], false).unwrap());
    assert!(is_same(CHROMIUM));
    let value = |name: &str| CHROMIUM.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    for name in ["a=ice-ufrag:", "a=ice-pwd:"] {
        assert!(!is_same(&CHROMIUM.replace(value(name), &format!("{}x", value(name)))), "{name}");
    }
    let restarts = |offer: &str| first.is_restarted_by(&plan(offer, &[Codec::H264], false).unwrap());
    let restart = CHROMIUM.replace("a=ice-ufrag:", "a=ice-ufrag:x");
    assert!(restarts(&restart) && !restarts(CHROMIUM));
    assert!(!restarts(&restart.replacen("o=- ", "o=- 1", 1)), "of another RTCPeerConnection with the same certificate");
    let bytes = value("a=fingerprint:sha-256 ");
    assert!(!is_same(&CHROMIUM.replace(bytes, &vec!["00"; 32].join(":"))));
}
