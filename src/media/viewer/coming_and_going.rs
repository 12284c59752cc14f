//! Viewers that come and go, at every point of their way, and what they leave behind: nothing. Runs in a process of its own,
//! since it counts what the process has.
//!
//! `MOUTHPIECE_VIEWERS=10000 cargo test --release --lib coming_and_going -- --nocapture` is the long run.

use super::*;
use crate::media::testing::held::{allowed, alone, held, let_go, resident_bytes, settles, times};
use crate::media::testing::sdp::CHROMIUM;
use crate::media::testing::{Browser, Stage, join, loopback, until_connected, watch};

/// Beyond this many it is a leak if the process grows, before it is the allocator's and the pools' first use.
const SETTLING: u64 = 1000;
/// What must not be exceeded from then on.
const GROWTH: u64 = 1 << 20;

/// One viewer, which goes at one point of its way.
async fn come_and_go(stage: &Stage, number: u64) {
    match number % 10 {
        // It never uses its answer.
        0..=5 => {
            let (events, _told) = mpsc::channel(64);
            let viewer = stage.broadcast.open_viewer(CHROMIUM.to_owned(), events, &loopback(), None).await.unwrap();
            let_go(stage, viewer).await;
        }
        // In the middle of its handshake.
        6 | 7 => {
            let (browser, viewer, _told) = watch(stage, "VP8").await;
            let_go(stage, (browser, viewer)).await;
        }
        8 => {
            let (mut browser, viewer, mut told) = watch(stage, "VP8").await;
            until_connected(&mut told).await;
            browser.decoded("video", 2).await;
            let_go(stage, (browser, viewer)).await;
        }
        // With a microphone, and without a goodbye of its own.
        _ => {
            let (microphone, _heard) = mpsc::channel(64);
            let (browser, viewer, mut told) = join(stage, Browser::with_microphone("VP8"), Some(microphone)).await;
            until_connected(&mut told).await;
            let_go(stage, browser).await;
            let_go(stage, viewer).await;
        }
    }
}

async fn coming_and_going() {
    let viewers = times("MOUTHPIECE_VIEWERS", 40);
    let stage = Stage::open(&["vp8enc"]);
    for number in 0..10 {
        come_and_go(&stage, number).await;
    }
    let base = held();
    let mut bytes = resident_bytes();
    for number in 0..viewers {
        come_and_go(&stage, number).await;
        if number == SETTLING.min(viewers / 2) {
            bytes = resident_bytes();
        }
        if number % 500 == 0 {
            eprintln!("{number}: {:?}, {} KiB", held(), resident_bytes() / 1024);
        }
    }
    settles(allowed(base), "coming and going").await;
    let grown = resident_bytes().saturating_sub(bytes);
    eprintln!("{viewers} viewers, {} KiB more", grown / 1024);
    assert!(viewers < SETTLING * 2 || grown <= GROWTH, "{grown} bytes more");
}

#[test]
fn viewers_that_come_and_go_leave_nothing_behind() {
    alone("media::viewer::coming_and_going::viewers_that_come_and_go_leave_nothing_behind", coming_and_going);
}
