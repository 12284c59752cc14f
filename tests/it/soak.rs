//! A conversation of two hours at three hundred times the speed: a thousand turns, two hundred of them interrupted. What it
//! holds afterwards is what it held after the first hundred, and every mouth leaves with the very sound that drew it.
//!
//! Everything is the server's own but three things: the language model is a process that streams over HTTP, the network
//! draws the loudness of what it hears, and nine sentences of ten are spoken by a voice that says their frames' numbers
//! (the tenth by espeak-ng). The test runs in a process of its own, since it counts what the process holds.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use mouthpiece::animation::Animator;
use mouthpiece::audience::Audience;
use mouthpiece::avatar::OwnFrames;
use mouthpiece::compose::Composer;
use mouthpiece::conversation::{Character, ClientAudio, Conversation, ConversationParts};
use mouthpiece::dialogue::{Dialogues, Persona, llm};
use mouthpiece::ids::{SessionId, UtteranceId};
use mouthpiece::lipsync::AvatarAssets;
use mouthpiece::lipsync::device_pool::DevicePool;
use mouthpiece::picture::I420Frame;
use mouthpiece::playout::{Pair, PairSink, Playout, PlayoutClock, SessionPlayout};
use mouthpiece::session::{Command, Notice, NoticeBroadcast, NoticeReceiver, notice_queue};
use mouthpiece::speech::tts::espeak::Espeak;
use mouthpiece::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice, pcm};
use mouthpiece::timeline::{LIPSYNC_SAMPLES_PER_FRAME, PLAYOUT_RATE, PLAYOUT_SAMPLES_PER_FRAME};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alone::alone;
use crate::kit::{self, network::FakeNetwork};
use crate::llm::{Model, Service};
use crate::watchdog;

const SPEED: u32 = 300;
const TURNS: usize = 1000;
/// New mouths that are looked at, at least.
const MOUTHS: u64 = 20_000;
const WARM: usize = 100;
/// Every so many turns one is interrupted.
const INTERRUPTED: usize = 5;
/// 7.2 s: a thousand of them are two hours.
const PAIRS_A_TURN: u64 = 180;
const HISTORY_TOKENS: usize = 1500;
/// What the allocator may keep that nobody holds.
const SLACK_KIB: usize = 6 * 1024;

const SIZE: u32 = 64;
const MARKS: usize = 16;

/// Of the sound of a frame with this number.
fn level(number: usize) -> f32 {
    (4096.0 + 1536.0 * (number % MARKS) as f32) / 32_768.0
}

fn mark_of(sample: f32) -> usize {
    ((sample * 32_768.0 - 4096.0) / 1536.0).round().clamp(0.0, MARKS as f32 - 1.0) as usize
}

/// Draws a grey that tells the level in the middle of the frame's sound.
fn hearing() -> FakeNetwork {
    FakeNetwork::of_frames(|run, at| {
        let middle = run.first_frame_at + at * LIPSYNC_SAMPLES_PER_FRAME + LIPSYNC_SAMPLES_PER_FRAME / 2;
        let grey = mark_of(run.audio.get(middle).copied().unwrap_or(0.0)) as u8 * 16;
        kit::network::plain(32, [grey; 3])
    })
}

/// The number that a mouth was drawn by.
fn mark_shown(frame: &I420Frame) -> usize {
    let luma = f32::from(frame.data[(36 * SIZE + 32) as usize]);
    ((luma - 16.0) * 255.0 / 219.0 / 16.0).round().max(0.0) as usize
}

/// 60 ms a letter, in frames each of which says its number.
struct Counting {
    espeak: Espeak,
    sentences: AtomicUsize,
}

impl Tts for Counting {
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        if self.sentences.fetch_add(1, Ordering::Relaxed) % 10 == 9 {
            return self.espeak.speak(text, voice);
        }
        let (sender, stream) = mpsc::channel(16);
        let frames = (text.chars().count() * 60).div_ceil(40);
        tokio::spawn(async move {
            for number in 0..frames {
                let samples = vec![level(number); PLAYOUT_SAMPLES_PER_FRAME];
                if sender.send(Ok(PcmChunk::new(samples, PLAYOUT_RATE))).await.is_err() {
                    return;
                }
            }
        });
        Ok(pcm::received(stream))
    }
}

/// What left.
#[derive(Default)]
struct Left {
    /// Mouths that were new, and those of them that belong to other sound.
    mouths: u64,
    skewed: u64,
    /// Frames of counted sound, and those that do not follow the one before.
    counted: u64,
    torn: u64,
    /// Pairs of each utterance that has not ended.
    spoken: BTreeMap<UtteranceId, u64>,
}

struct Watching {
    own: HashSet<usize>,
    last: usize,
    heard: Option<(UtteranceId, usize)>,
    pairs: u64,
    left: Arc<Mutex<Left>>,
    progress: watch::Sender<u64>,
}

impl PairSink for Watching {
    fn push(&mut self, pair: Pair) {
        self.pairs += 1;
        if self.pairs.is_multiple_of(25) {
            self.progress.send_replace(self.pairs);
        }
        let picture = Arc::as_ptr(&pair.frame) as usize;
        let is_new = std::mem::replace(&mut self.last, picture) != picture && !self.own.contains(&picture);
        let Some(utterance) = pair.utterance else { return };
        let mut left = self.left.lock().unwrap();
        *left.spoken.entry(utterance).or_default() += 1;
        let Some(number) = pair.audio.and_then(|audio| counted(&audio[..])) else {
            self.heard = None;
            return;
        };
        left.counted += 1;
        left.mouths += u64::from(is_new);
        left.skewed += u64::from(is_new && mark_shown(&pair.frame) != number);
        // A sentence begins with 0.
        let follows = self.heard.is_none_or(|(of, before)| of != utterance || number == (before + 1) % MARKS);
        left.torn += u64::from(!follows && number != 0);
        self.heard = Some((utterance, number));
    }
}

/// The number that the sound of a frame says; espeak-ng's says none.
fn counted(sound: &[i16]) -> Option<usize> {
    let sample = sound[0];
    (sample >= 4096 && sound.iter().all(|other| *other == sample)).then(|| mark_of(f32::from(sample) / 32_768.0))
}

/// What the process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident_kib: usize,
    descriptors: usize,
    threads: usize,
    tasks: usize,
}

impl Held {
    fn now() -> Self {
        let count = |folder: &str| std::fs::read_dir(folder).unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Self {
            resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
            // Less the one that reads the folder.
            descriptors: count("/proc/self/fd") - 1,
            threads: count("/proc/self/task"),
            tasks: tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        }
    }

    fn is_no_more_than(self, before: Self) -> bool {
        self.descriptors <= before.descriptors && self.threads <= before.threads && self.tasks <= before.tasks
    }
}

/// The conversation and what is told of it.
struct Talk {
    conversation: Conversation,
    notices: NoticeReceiver,
    progress: watch::Receiver<u64>,
    left: Arc<Mutex<Left>>,
    model: Service,
}

impl Talk {
    fn says(&self, text: &str, id: &str) {
        let command = Command::Text { text: text.into(), id: Some(id.into()) };
        self.conversation.submit(command, &ClientAudio::default()).unwrap();
    }

    /// Reads notices up to one that fits. What ended lasted as long as its pairs.
    async fn until(&mut self, what: &str, fits: impl Fn(&Notice) -> bool) -> Notice {
        let found = async {
            loop {
                let notice = self.notices.recv().await.unwrap();
                match &notice {
                    Notice::Error { message, .. } => panic!("{message}"),
                    Notice::SpeechEnded { utterance, spoken_ms, .. } => {
                        let pairs = self.left.lock().unwrap().spoken.remove(utterance).unwrap_or(0);
                        assert_eq!(pairs * 40, *spoken_ms, "of what was heard");
                    }
                    _ => {}
                }
                if fits(&notice) {
                    return notice;
                }
            }
        };
        watchdog::comes(what, found).await
    }

    async fn starts(&mut self, name: &str) {
        let starts =
            |notice: &Notice| matches!(notice, Notice::SpeechStarted { id, .. } if id.as_deref() == Some(name));
        self.until(name, starts).await;
    }

    async fn ends(&mut self, name: &str, was_interrupted: bool) {
        let ends = |notice: &Notice| matches!(notice, Notice::SpeechEnded { id, .. } if id.as_deref() == Some(name));
        let Notice::SpeechEnded { interrupted, .. } = self.until(name, ends).await else { unreachable!() };
        assert_eq!(interrupted, was_interrupted, "{name}");
    }

    async fn pairs(&mut self, at_least: u64) {
        let enough = self.progress.wait_for(|pairs| *pairs >= at_least);
        watchdog::comes("playout goes on", enough).await.unwrap();
    }

    async fn more_pairs(&mut self, more: u64) {
        let at_least = *self.progress.borrow() + more;
        self.pairs(at_least).await;
    }

    async fn model_counts(&self, of: &str, number: usize) {
        let what = format!("the model has {number} {of}");
        watchdog::until(&what, async || self.model.tells("counts").await[of] == number).await;
    }

    /// Interrupts before the first word, in the middle, or by saying the next thing; tells when.
    async fn is_interrupted(&mut self, turn: usize) -> f64 {
        let number = turn / INTERRUPTED;
        let name = format!("turn {turn}");
        let before_a_word = number.is_multiple_of(4);
        self.says(if before_a_word { "hang" } else { "count" }, &name);
        if before_a_word {
            self.model_counts("asked", turn + 1).await;
        } else {
            self.starts(&name).await;
            self.more_pairs(25 + (turn % 75) as u64).await;
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        if number % 4 != 3 {
            self.conversation.interrupt();
            if !before_a_word {
                self.ends(&name, true).await;
            }
        }
        at
    }

    /// What is held once everything has come to rest, which has a while to be no more than `before`.
    async fn held(&mut self, before: Option<Held>) -> Held {
        self.more_pairs(500).await;
        // The runtime's idle threads live for ten seconds.
        let is_so = async || before.is_none_or(|before| Held::now().is_no_more_than(before));
        // The caller says more about what is held than that it took too long.
        let _ = watchdog::guarded(watchdog::looking(is_so)).await;
        Held::now()
    }
}

/// About how many tokens the conversation in a request has, as the server counts.
fn history_tokens(request: &serde_json::Value) -> usize {
    let messages = request["asked"]["messages"].as_array().unwrap().iter().skip(1);
    messages.map(|message| 4 + message["content"].as_str().unwrap().len().div_ceil(3)).sum()
}

/// Tells what it found.
async fn talk_for_two_hours() -> String {
    let avatar = Arc::new(kit::avatar::tiny());
    let model = Model::start(0, &["0", "4000"]);
    let dialogues = Dialogues::new(Some(llm::Settings {
        url: format!("http://127.0.0.1:{}/v1", model.port),
        model: "a-model".into(),
        key: None,
        history_tokens: HISTORY_TOKENS,
        connect: watchdog::LIMIT,
        first_token: watchdog::LIMIT,
        next_token: watchdog::LIMIT,
        begins_thinking: false,
    }))
    .unwrap();
    let (engine, engine_thread) = hearing().spawn().await;
    let devices = DevicePool::new([("hearing".to_owned(), engine)]);
    let assets = AvatarAssets { avatar: Arc::clone(&avatar), decoder: None };
    let handle = devices.add_avatar(assets).await.unwrap();
    let (composer, compose_thread) = Composer::spawn().unwrap();
    let (playout, playout_thread) = Playout::spawn_on(PlayoutClock::at_speed(SPEED)).unwrap();

    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let left = Arc::new(Mutex::new(Left::default()));
    let (progress, watched) = watch::channel(0);
    let own = avatar.frames().iter().map(|frame| Arc::as_ptr(&frame.picture) as usize).collect();
    let sink = Watching { own, last: 0, heard: None, pairs: 0, left: Arc::clone(&left), progress };
    let (events, playout_events) = mpsc::channel(64);
    let id = SessionId::next();
    let own_frames = OwnFrames::of(Arc::clone(&avatar));
    let session = playout.add(id, own_frames.clone(), Box::new(sink), events).await.unwrap();
    // With no deadlines the engine skips no mouth: every new picture then has a mouth of its own.
    let session = SessionPlayout { pose: Arc::default(), ..session };
    let audience = Audience::default();
    let _seat = audience.enter();
    let voice = avatar.manifest.voice.clone();
    let (responder, history) = dialogues.of("Tiny", &Persona::default(), &voice.language);
    let (notices, (told, heard)) = (NoticeBroadcast::default(), notice_queue(1024));
    notices.add(told);
    let parts = ConversationParts {
        animator: Animator::new(devices.lease(), composer.clone(), own_frames, handle, session, audience),
        character: Character {
            tts: Arc::new(Counting { espeak: Espeak::new(), sentences: AtomicUsize::new(0) }),
            voice,
            responder,
        },
        history,
        notices,
        playout_events,
        audio_clock: Arc::new(|_| None),
        video_clock: Arc::new(|_| None),
    };
    let conversation = Conversation::start(parts, &tracker, &stop);
    let mut talk = Talk { conversation, notices: heard, progress: watched, left, model };

    let (mut warm, mut interrupted_at, mut turns) = (None, Vec::new(), 0);
    // A slow machine draws fewer mouths in time, so it talks for longer.
    while turns < TURNS || talk.left.lock().unwrap().mouths <= MOUTHS {
        let turn = turns;
        turns += 1;
        if turn % INTERRUPTED == INTERRUPTED - 1 {
            interrupted_at.push((turn, talk.is_interrupted(turn).await));
        } else {
            let name = format!("turn {turn}");
            talk.says(&format!("{name}, and it is a fine day for a talk"), &name);
            talk.ends(&name, false).await;
        }
        talk.pairs((turn as u64 + 1) * PAIRS_A_TURN).await;
        if turn + 1 == WARM {
            warm = Some(talk.held(None).await);
        }
    }
    talk.conversation.interrupt();
    let warm = warm.unwrap();
    let after = talk.held(Some(warm)).await;
    let held = format!("after {WARM} turns {warm:?}, after {turns} turns {after:?}");
    assert!(after.is_no_more_than(warm) && after.resident_kib <= warm.resident_kib + SLACK_KIB, "{held}");

    talk.model_counts("closed", turns / INTERRUPTED).await;
    let requests = talk.model.requests().await;
    let took = interrupted_at.iter().map(|(turn, at)| requests[*turn]["closed_at"].as_f64().expect("is closed") - at);
    let slowest = took.fold(0.0, f64::max);
    assert_eq!((requests.len(), interrupted_at.len()), (turns, turns / INTERRUPTED));

    let longest = requests.iter().map(history_tokens).max().unwrap();
    assert!((HISTORY_TOKENS / 2..=HISTORY_TOKENS).contains(&longest), "{longest} of {HISTORY_TOKENS} tokens");

    let pairs = *talk.progress.borrow();
    let Left { mouths, skewed, counted, torn, .. } = std::mem::take(&mut *talk.left.lock().unwrap());
    assert_eq!((skewed, torn), (0, 0), "new mouths with another sound, frames of sound out of order");
    assert!(pairs >= 2 * 3600 * 25 && mouths > MOUTHS, "{mouths} new mouths of {pairs} pairs");

    drop(talk);
    stop.cancel();
    tracker.close();
    // What watches playout ends with the session's way there.
    drop(playout.remove(id).await);
    tracker.wait().await;
    drop((playout, composer, devices));
    assert!(engine_thread.join() && compose_thread.join() && playout_thread.join());
    format!(
        "{held}; {} interruptions, connections closed within {:.0} ms; the longest history has {longest} of \
         {HISTORY_TOKENS} tokens; {pairs} pairs, {mouths} new mouths and {counted} frames of sound, all in step",
        interrupted_at.len(),
        slowest * 1000.0
    )
}

#[test]
fn a_conversation_of_two_hours_leaves_nothing_behind_and_never_drifts() {
    alone("soak::a_conversation_of_two_hours_leaves_nothing_behind_and_never_drifts", || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        eprintln!("{}", runtime.block_on(talk_for_two_hours()));
    });
}
