//! What reaches playout, in which order: upstream loses the last frame of a clip and shifts all that follow an error.

use std::sync::Mutex;

use super::*;
use crate::avatar::Avatar;
use crate::compose::ComposeThreads;
use crate::kit::{self, network::FakeNetwork};
use crate::lipsync::device_pool::DevicePool;
use crate::lipsync::{AvatarAssets, MouthRun};
use crate::picture::{MouthFrame, blend};
use crate::playout::{AvatarNumber, PlayoutClock};
use crate::speech::{PcmChunk, pcm};
use crate::timeline::{LIPSYNC_RATE, LIPSYNC_SAMPLES_PER_FRAME};

fn grey(frame: usize) -> MouthFrame {
    kit::network::plain(32, [u8::try_from(8 * frame).unwrap(); 3])
}

/// Draws a grey that says which frame it is; fails at the batch of speech that holds the frame `fails_at`. The sound of each
/// batch goes to `given`.
fn greys(fails_at: Option<usize>, given: Arc<Mutex<Vec<Arc<[f32]>>>>) -> FakeNetwork {
    FakeNetwork::of_batches(move |runs| {
        let draw = |run: &MouthRun| {
            given.lock().unwrap().push(Arc::clone(&run.audio));
            let first = run.first_frame_at / LIPSYNC_SAMPLES_PER_FRAME;
            let frames = first..first + run.poses.len();
            let speech = run.audio.iter().any(|sample| *sample != 0.0);
            if speech && fails_at.is_some_and(|at| frames.contains(&at)) {
                return Err(LipSyncError::Config { field: "frame".into(), problem: "fails as told".into() });
            }
            Ok(frames.map(grey).collect())
        };
        runs.iter().map(draw).collect()
    })
}

struct Spoken {
    outcome: Result<Outcome, AnimationError>,
    announced: usize,
    sentences_ended: usize,
    given: Vec<Arc<[f32]>>,
    mouths: Vec<(u64, Arc<crate::picture::I420Frame>)>,
    start_pose: u64,
    /// Of the next sentence, unless idle is further.
    next_pose: u64,
    avatar: Arc<Avatar>,
}

/// Speaks `frames` frames of a loud tone to a viewer.
async fn speak(frames: usize, fails_at: Option<usize>) -> Spoken {
    let tone = [0.3, -0.3].repeat(frames * LIPSYNC_SAMPLES_PER_FRAME / 2);
    perform(vec![Ok(PcmChunk::new(tone, LIPSYNC_RATE))], fails_at, true).await
}

async fn perform(chunks: Vec<Result<PcmChunk, SpeechError>>, fails_at: Option<usize>, watched: bool) -> Spoken {
    let given = Arc::default();
    let (engine, engine_thread) = greys(fails_at, Arc::clone(&given)).spawn().await;
    let (composer, compose_thread): (Composer, ComposeThreads) = Composer::spawn().unwrap();
    let avatar = Arc::new(kit::avatar::tiny());
    let (commands, mut queue) = mpsc::channel(64);
    let collecting = tokio::spawn(async move {
        let (mut announced, mut mouths, mut start, mut ended) = (0, Vec::new(), 0, 0);
        while let Some(command) = queue.recv().await {
            match command {
                Command::BeginSentence { start_pose, .. } => start = start_pose,
                Command::Frame { .. } => announced += 1,
                Command::Mouth { index, picture, .. } => mouths.push((index, picture)),
                Command::EndSentence { .. } => ended += 1,
                Command::Swap { .. } | Command::EndUtterance { .. } => {}
            }
        }
        (announced, mouths, start, ended)
    });
    let playout =
        SessionPlayout { commands, pose: Arc::default(), volume: Arc::default(), clock: PlayoutClock::start() };
    let audience = Audience::default();
    let _seat = watched.then(|| audience.enter());
    let devices = DevicePool::new([("fake".to_owned(), engine)]);
    let handle = devices.add_avatar(kit::avatar::assets()).await.unwrap();
    let lease = devices.lease();
    drop(devices);
    let mut animator = Animator::new(lease, composer, OwnFrames::of(Arc::clone(&avatar)), handle, playout, audience);
    let (sound, speech) = mpsc::channel(chunks.len());
    for chunk in chunks {
        sound.send(chunk).await.unwrap();
    }
    drop(sound);
    given.lock().unwrap().clear();
    let times = TurnTimes::since(std::time::Instant::now());
    let sentence = UtteranceId::next().sentence(0);
    let outcome = animator.speak(sentence, pcm::received(speech), &CancellationToken::new(), &times, |_| ()).await;
    let (counted, next_pose) = (animator.announced(), animator.end_pose);
    drop(animator);
    let (announced, mouths, start_pose, sentences_ended) = collecting.await.unwrap();
    assert_eq!(counted, announced as u64);
    tokio::task::spawn_blocking(|| assert!(engine_thread.join() && compose_thread.join())).await.unwrap();
    let given = std::mem::take(&mut *given.lock().unwrap());
    Spoken { outcome, announced, sentences_ended, given, mouths, start_pose, next_pose, avatar }
}

impl Spoken {
    fn pose(&self, index: u64) -> &crate::picture::AvatarFrame {
        let frames = self.avatar.frames();
        &frames[self.avatar.cycle.frame(self.start_pose + index)]
    }

    fn has_mouth(&self, index: u64) -> bool {
        let drawn = blend::paste(self.pose(index), &self.avatar.mask, &grey(usize::try_from(index).unwrap()));
        *self.mouths[usize::try_from(index).unwrap()].1 == drawn
    }
}

#[tokio::test]
async fn every_frame_of_a_clip_is_announced_and_drawn_the_last_one_too() {
    // 1.16 s: upstream counts 28 frames in floating point, and shows 27 of them.
    let spoken = speak(29, None).await;
    assert_eq!((spoken.outcome.as_ref().unwrap().frames, spoken.announced), (29, 29));
    assert_eq!(spoken.mouths.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..29).collect::<Vec<_>>());
    assert!((0..29).all(|index| spoken.has_mouth(index)));
}

#[tokio::test]
async fn frames_after_an_error_stay_where_they_belong() {
    let spoken = speak(20, Some(5)).await;
    assert!(spoken.outcome.as_ref().unwrap().lip_sync_error.is_some());
    assert_eq!(spoken.mouths.iter().map(|(index, _)| *index).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    let without: Vec<u64> = (0..20).filter(|&index| !spoken.has_mouth(index)).collect();
    // The batch that frame 5 was in: after one, one and two frames alone come four.
    assert_eq!(without, [4, 5, 6, 7]);
    assert!(
        without.iter().all(|&index| *spoken.mouths[usize::try_from(index).unwrap()].1 == *spoken.pose(index).picture)
    );
}

#[tokio::test]
async fn a_session_that_nobody_watches_speaks_without_drawing() {
    let tone = vec![0.3; 20 * LIPSYNC_SAMPLES_PER_FRAME];
    let spoken = perform(vec![Ok(PcmChunk::new(tone, LIPSYNC_RATE))], None, false).await;
    assert_eq!((spoken.outcome.unwrap().frames, spoken.announced, spoken.mouths.len()), (20, 20, 0));
}

#[tokio::test]
async fn what_a_voice_said_before_it_failed_is_spoken_and_its_sentence_ends() {
    let tone = vec![0.3; 12 * LIPSYNC_SAMPLES_PER_FRAME];
    let fault = SpeechError::Service("lost its breath".to_owned());
    let spoken = perform(vec![Ok(PcmChunk::new(tone, LIPSYNC_RATE)), Err(fault)], None, true).await;
    assert!(matches!(spoken.outcome, Err(AnimationError::Speech(_))));
    assert_eq!((spoken.announced, spoken.mouths.len()), (12, 12));
    assert_eq!(spoken.next_pose, spoken.start_pose + 12, "what comes next does not make the head jump");
    assert_eq!(spoken.sentences_ended, 1, "playout would wait for more of it, and so would every turn behind it");
}

#[tokio::test]
async fn the_sound_of_a_sentence_is_copied_once_for_all_its_batches() {
    let spoken = speak(29, None).await;
    let copies: std::collections::BTreeSet<_> = spoken.given.iter().map(|audio| audio.as_ptr() as usize).collect();
    assert!(spoken.given.len() > 5 && copies.len() <= 2, "{} copies for {} batches", copies.len(), spoken.given.len());
}

#[tokio::test]
async fn a_sentence_goes_on_in_the_face_of_an_avatar_that_takes_over() {
    let drawn: Arc<Mutex<Vec<(AvatarHandle, usize)>>> = Arc::default();
    let runs = Arc::clone(&drawn);
    let network = FakeNetwork::of_batches(move |batch| {
        let draw = |run: &MouthRun| {
            runs.lock().unwrap().push((run.avatar, run.poses.len()));
            Ok(run.poses.iter().map(|_| grey(9)).collect())
        };
        batch.iter().map(draw).collect()
    });
    let (engine, engine_thread) = network.spawn().await;
    let (composer, compose_thread) = Composer::spawn().unwrap();
    let devices = DevicePool::new([("fake".to_owned(), engine)]);
    let tall = Arc::new(kit::avatar::tall());
    let first = devices.add_avatar(kit::avatar::assets()).await.unwrap();
    let assets = AvatarAssets { avatar: Arc::clone(&tall), decoder: None };
    let second = devices.add_avatar(assets).await.unwrap();
    let (commands, mut queue) = mpsc::channel(64);
    let playout =
        SessionPlayout { commands, pose: Arc::default(), volume: Arc::default(), clock: PlayoutClock::start() };
    let audience = Audience::default();
    let _seat = audience.enter();
    let own = OwnFrames::of(Arc::new(kit::avatar::tiny()));
    let mut animator = Animator::new(devices.lease(), composer, own, first, playout, audience);
    drawn.lock().unwrap().clear();

    let tone = || Ok(PcmChunk::new([0.3, -0.3].repeat(8 * LIPSYNC_SAMPLES_PER_FRAME / 2), LIPSYNC_RATE));
    let (sound, speech) = mpsc::channel(2);
    sound.send(tone()).await.unwrap();
    let performer = animator.performer();
    let taking_over = async move {
        let (mut announced, mut mouths) = (Vec::new(), Vec::new());
        let (mut next, mut sound) = (Some(OwnFrames::of(tall)), Some(sound));
        let mut swapping = None;
        while let Some(command) = queue.recv().await {
            match command {
                Command::Frame { avatar, .. } => announced.push(avatar.0),
                Command::Mouth { avatar, picture, .. } => {
                    mouths.push((avatar.0, picture.width));
                    if let Some(own) = next.take() {
                        let performer = performer.clone();
                        swapping = Some(tokio::spawn(async move { performer.swap(own, second).await }));
                    }
                }
                Command::Swap { own, avatar, shown } => {
                    assert_eq!((own.avatar().manifest.width, avatar), (80, AvatarNumber(1)));
                    shown.send(()).unwrap();
                    let sound = sound.take().unwrap();
                    sound.send(tone()).await.unwrap();
                }
                Command::EndSentence { .. } => break,
                Command::BeginSentence { .. } | Command::EndUtterance { .. } => {}
            }
        }
        swapping.unwrap().await.unwrap().unwrap();
        (announced, mouths, queue)
    };
    let times = TurnTimes::since(std::time::Instant::now());
    let (sentence, never) = (UtteranceId::next().sentence(0), CancellationToken::new());
    let speaking = animator.speak(sentence, pcm::received(speech), &never, &times, |_| ());
    let taking_over = tokio::spawn(taking_over);
    assert_eq!(speaking.await.unwrap().frames, 16);
    let (announced, mouths, _queue) = taking_over.await.unwrap();
    assert_eq!(announced.len(), 16, "no sound is lost");
    assert!(mouths.iter().all(|(avatar, width)| *width == if *avatar == 0 { 64 } else { 80 }), "{mouths:?}");
    let drawn = drawn.lock().unwrap().clone();
    let of = |handle| drawn.iter().filter(|(of, _)| *of == handle).map(|(_, frames)| frames).sum::<usize>();
    assert_eq!(of(first) + of(second), 16);
    assert!(of(first) > 0 && of(second) >= 8 && drawn.windows(2).all(|pair| pair[0].0.0 <= pair[1].0.0), "{drawn:?}");
    drop((animator, devices));
    tokio::task::spawn_blocking(|| assert!(engine_thread.join() && compose_thread.join())).await.unwrap();
}

#[test]
fn fewer_frames_are_drawn_ahead_of_large_pictures() {
    let frames = |width: u32, height: u32| {
        let mut avatar = kit::avatar::tiny();
        avatar.base =
            Arc::new(crate::picture::I420Frame { width, height, data: vec![0; (width * height * 3 / 2) as usize] });
        AHEAD_KB / kilobytes(&OwnFrames::of(Arc::new(avatar)))
    };
    assert_eq!([frames(64, 64), frames(512, 512), frames(1024, 1024)], [16, 16, 16]);
    assert_eq!([frames(1920, 1080), frames(1920, 1920), frames(3840, 2160)], [12, 7, 6]);
}
