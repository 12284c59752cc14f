//! Two hundred sessions speaking at once, each with a mark of its own in its avatar, its mouths and its sound: none is
//! ever seen or heard in another. Everything is real but the network, which draws the mark of the avatar it is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc as blocking;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::workers::{Threads, Workers};
use crate::animation::Animator;
use crate::audience::Audience;
use crate::avatar::{Avatar, FrameMakers, Material, OwnFrames};
use crate::compose::Composer;
use crate::ids::{SessionId, UtteranceId};
use crate::kit::{self, network::FakeNetwork};
use crate::latency::TurnTimes;
use crate::lipsync::AvatarHandle;
use crate::lipsync::device_pool::DevicePool;
use crate::picture::{AvatarFrame, I420Frame};
use crate::playout::{Event, Pair, PairSink, Playout};
use crate::speech::{PcmChunk, pcm};
use crate::timeline::{PLAYOUT_RATE, PLAYOUT_SAMPLES_PER_FRAME};

const SESSIONS: usize = 200;
/// Frames that each speaks.
const SPOKEN: usize = 24;

/// Knows avatars by their handle only, as the real one does.
fn marking() -> FakeNetwork {
    FakeNetwork::of_frames(|run, _| {
        let mark = u8::try_from(run.avatar.0).unwrap();
        kit::network::plain(32, [mark % 16 * 16, 128, mark / 16 * 16])
    })
}

/// What left in one pair: the colour in the middle of the mouth, and the middle of the sound if somebody spoke.
type Left = ((u8, u8, u8), Option<i16>);

struct Watching(blocking::Sender<Left>);

impl PairSink for Watching {
    fn push(&mut self, pair: Pair) {
        let (x, y, width, luma) = (32, 36, 64, 64 * 64);
        let chroma = y / 2 * (width / 2) + x / 2;
        let data = &pair.frame.data;
        let colour = (data[y * width + x], data[luma + chroma], data[luma + luma / 4 + chroma]);
        let sound = pair.utterance.map(|_| pair.audio.map_or(0, |audio| audio[PLAYOUT_SAMPLES_PER_FRAME / 2]));
        // The test has ended if nobody takes it.
        let _ = self.0.send((colour, sound));
    }
}

/// An avatar whose own frames are of one colour, which no mouth has.
fn marked(mark: usize) -> Avatar {
    let mut avatar = kit::avatar::tiny();
    let luma = usize::try_from(kit::avatar::SIZE * kit::avatar::SIZE).unwrap();
    let data = [vec![own_colour(mark).0; luma], vec![255; luma / 2]].concat();
    let picture = Arc::new(I420Frame { width: kit::avatar::SIZE, height: kit::avatar::SIZE, data });
    let with_it = |frame: &AvatarFrame| AvatarFrame { picture: Arc::clone(&picture), ..frame.clone() };
    avatar.material = Material::Frames(avatar.frames().iter().map(with_it).collect());
    avatar
}

fn own_colour(mark: usize) -> (u8, u8, u8) {
    (u8::try_from(20 + mark).unwrap(), 255, 255)
}

fn level(mark: usize) -> i16 {
    i16::try_from(4096 + 128 * mark).unwrap()
}

async fn workers() -> Workers {
    let (mut engines, mut threads) = (Vec::new(), Vec::new());
    for name in ["one", "two"] {
        let (engine, thread) = marking().spawn().await;
        engines.push((name.to_owned(), engine));
        threads.push(thread);
    }
    let (composer, compose) = Composer::spawn().unwrap();
    let (playout, playout_thread) = Playout::spawn().unwrap();
    let (frame_makers, frames) = FrameMakers::spawn().unwrap();
    let threads = Threads { engines: threads, compose, playout: playout_thread, frames };
    Workers { devices: DevicePool::new(engines), composer, playout, frame_makers, threads }
}

/// Speaks to the end and tells what left meanwhile.
async fn speak(workers: &Workers, mark: usize) -> Vec<Left> {
    let (sink, left) = blocking::channel();
    let (events, mut told) = mpsc::channel(8);
    let own = OwnFrames::of(Arc::new(marked(mark)));
    let id = SessionId::next();
    let session = workers.playout.add(id, own.clone(), Box::new(Watching(sink)), events).await.unwrap();
    let audience = Audience::default();
    let _seat = audience.enter();
    let (lease, composer) = (workers.devices.lease(), workers.composer.clone());
    let mut animator = Animator::new(lease, composer, own, AvatarHandle(mark), session, audience);
    let (pieces, speech) = mpsc::channel(1);
    let (utterance, token) = (UtteranceId::next(), CancellationToken::new());
    let times = TurnTimes::since(std::time::Instant::now());
    let feeding = async {
        for _ in 0..SPOKEN {
            let samples = vec![pcm::from_i16(level(mark)); PLAYOUT_SAMPLES_PER_FRAME];
            pieces.send(Ok(PcmChunk::new(samples, PLAYOUT_RATE))).await.unwrap();
        }
        drop(pieces);
    };
    let (outcome, ()) =
        tokio::join!(animator.speak(utterance.sentence(0), pcm::received(speech), &token, &times, |_| ()), feeding);
    assert_eq!(outcome.unwrap().frames, SPOKEN as u64);
    animator.end_utterance(utterance, &token).await.unwrap();
    while !matches!(told.recv().await, Some(Event::Ended { .. })) {}
    drop(workers.playout.remove(id).await);
    left.iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_of_two_hundred_sessions_ever_shows_or_says_anothers_mark() {
    let workers = workers().await;
    for mark in 0..SESSIONS {
        assert_eq!(workers.devices.add_avatar(kit::avatar::assets()).await.unwrap(), AvatarHandle(mark));
    }
    let all = join_all((0..SESSIONS).map(|mark| speak(&workers, mark))).await;
    let mut mouths = BTreeSet::new();
    for (mark, left) in all.iter().enumerate() {
        let drawn: BTreeSet<_> = left.iter().map(|(colour, _)| *colour).filter(|at| *at != own_colour(mark)).collect();
        assert_eq!(drawn.len(), 1, "session {mark} shows {drawn:?}");
        mouths.extend(drawn);
        let heard: Vec<i16> = left.iter().filter_map(|(_, sound)| *sound).collect();
        assert_eq!(heard, [level(mark); SPOKEN], "session {mark}");
    }
    assert_eq!(mouths.len(), SESSIONS, "two sessions show the same mouth");
    workers.stop().await.unwrap();
}
