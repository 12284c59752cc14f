//! Offers, re-offers and candidates as a fuzzer damages them: whatever is served of them goes to a webrtcbin, each that it
//! has not been given yet. Runs in a process of its own, since a fault in there ends the process.
//!
//! `MOUTHPIECE_OFFERS=1000000 cargo test --release --lib hostile_offers -- --nocapture` is the long run;
//! `MOUTHPIECE_SEED` begins it elsewhere.

use std::collections::HashSet;

use super::*;
use crate::media::testing::held::{allowed, alone, held, let_go, resident_bytes, settles, times};
use crate::media::testing::mutation::Mutator;
use crate::media::testing::sdp::{CHROMIUM, FIREFOX, FIREFOX_153};
use crate::media::testing::{Browser, Stage, join, loopback, until_connected};

/// With candidates of their own, as those of the browsers have that trickle none.
const OFFERS: &[&str] = &[CHROMIUM, FIREFOX, FIREFOX_153];
const CANDIDATES: &[&str] = &[
    "candidate:1 1 udp 2113937151 192.0.2.77 50000 typ host generation 0 ufrag abcd network-cost 999",
    "candidate:842163049 1 udp 1677729535 203.0.113.9 46154 typ srflx raddr 10.0.0.17 rport 46154 generation 0",
    "candidate:3 1 udp 41885439 198.51.100.7 53012 typ relay raddr 203.0.113.9 rport 46154",
    "candidate:4 1 tcp 1518280447 192.0.2.77 9 typ host tcptype active generation 0",
    "candidate:5 1 UDP 2122262783 2001:db8::17 60007 typ host",
    "candidate:6 1 udp 2113937151 4d2e1d2c-0c5e-4bd4-8c3d-1c2d3e4f5a6b.local 50000 typ host",
    "",
];
/// Of one viewer.
const TRICKLED: usize = 8;
/// Viewers that are there at once.
const AT_ONCE: usize = 16;

#[derive(Debug, Default)]
struct Counts {
    offers: u64,
    refused: u64,
    /// Told to webrtcbin already in the same words.
    known: u64,
    opened: u64,
    reoffers: u64,
    candidates: u64,
}

/// What libnice and webrtcbin are given of it.
fn told(plan: &Plan, listens: bool) -> String {
    format!("{:?}{}{:?}", plan.codec, plan.canonical(listens), plan.candidates)
}

async fn hostile_offers() {
    let (offers, seed) = (times("MOUTHPIECE_OFFERS", 1000), times("MOUTHPIECE_SEED", 1));
    let stage = Stage::open(&["vp8enc", "openh264enc"]);
    let (browser, viewer, mut told_of) = join(&stage, Browser::new("VP8"), None).await;
    until_connected(&mut told_of).await;
    let_go(&stage, (browser, viewer)).await;
    let (base, bytes) = (held(), resident_bytes());
    let mut mutator = Mutator::seeded(seed);
    let mut counts = Counts::default();
    let mut seen = HashSet::new();
    let mut open = Vec::new();
    while counts.offers < offers {
        let (offer, other) = (mutator.pick(OFFERS), mutator.pick(OFFERS));
        let offer = mutator.damage(offer, other);
        let listens = counts.offers.is_multiple_of(2);
        counts.offers += 1;
        let Ok(plan) = offer::plan(&offer, stage.broadcast.codecs(), listens) else {
            counts.refused += 1;
            continue;
        };
        let mut hasher = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&told(&plan, listens), &mut hasher);
        if !seen.insert(std::hash::Hasher::finish(&hasher)) {
            counts.known += 1;
            continue;
        }
        let (events, _told) = mpsc::channel(64);
        let microphone = listens.then(|| mpsc::channel(4).0);
        let opened = stage.broadcast.open_viewer(offer.clone(), events, &loopback(), microphone).await;
        // webrtcbin may refuse in words of its own, such as for a fingerprint that is of no certificate.
        let Ok(viewer) = opened else { continue };
        counts.opened += 1;
        for _ in 0..TRICKLED {
            let (line, other) = (mutator.pick(CANDIDATES), mutator.pick(CANDIDATES));
            let candidate = IceCandidate {
                candidate: mutator.damage(line, other),
                sdp_mid: None,
                sdp_m_line_index: Some(0),
                username_fragment: None,
            };
            viewer.add_candidate(&candidate);
            counts.candidates += 1;
        }
        // Most are other transports, which is for who opens viewers.
        let _ = viewer.renegotiate(&mutator.damage(&offer, other));
        counts.reoffers += 1;
        open.push(viewer);
        if open.len() == AT_ONCE {
            let_go(&stage, std::mem::take(&mut open)).await;
        }
    }
    let_go(&stage, open).await;
    settles(allowed(base), "offers").await;
    eprintln!("{counts:?}, {} KiB more", (resident_bytes().saturating_sub(bytes)) / 1024);
    assert!(counts.opened >= 20, "{counts:?}");
}

#[test]
fn damaged_offers_and_candidates_neither_end_the_process_nor_stay_in_it() {
    alone(
        "media::viewer::hostile_offers::damaged_offers_and_candidates_neither_end_the_process_nor_stay_in_it",
        hostile_offers,
    );
}

/// The reading alone, which needs no webrtcbin: candidates of every kind against a filter that is asked for ever.
#[test]
fn damaged_candidates_are_written_anew_or_refused() {
    let mut mutator = Mutator::seeded(times("MOUTHPIECE_SEED", 1));
    let mut admitted = 0;
    for _ in 0..times("MOUTHPIECE_CANDIDATES", 20_000) {
        let (line, other) = (mutator.pick(CANDIDATES), mutator.pick(CANDIDATES));
        let line = mutator.damage(line, other);
        let Ok(Some(written)) = CandidateFilter::new(&loopback()).admit(&line) else { continue };
        admitted += 1;
        let words: Vec<&str> = written.split(' ').collect();
        assert!(
            written.is_ascii() && words.len() >= 8 && words[1] == "1" && words[6] == "typ",
            "{line:?}: {written:?}"
        );
        assert!(words[4].parse::<std::net::IpAddr>().is_ok(), "{line:?}: {written:?}");
    }
    assert!(admitted > 0);
}
