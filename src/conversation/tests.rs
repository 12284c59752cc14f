//! Whole sessions on a clock that runs by itself when everything waits: the real animator and schedule, and models, voices
//! and clients that fail in every way. `random` has them do it in any order, `swap` has another
//! avatar take over.

mod random;
mod swap;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::stream;

use super::*;
use crate::audience::Audience;
use crate::avatar::OwnFrames;
use crate::compose::{ComposeThreads, Composer};
use crate::dialogue::{DialogueError, Message, Reply};
use crate::ids::UtteranceId;
use crate::kit::{self, network::FakeNetwork};
use crate::lipsync::AvatarHandle;
use crate::lipsync::device_pool::DevicePool;
use crate::lipsync::engine::EngineThread;
use crate::playout::schedule::Schedule;
use crate::playout::{Event, PlayoutClock, SessionPlayout};
use crate::session::{Notice, NoticeReceiver, NoticeSender, notice_queue};
use crate::speech::{PcmChunk, PcmStream, SpeechError, pcm};
use crate::timeline::{FPS, FRAME_DURATION, LIPSYNC_RATE, LIPSYNC_SAMPLES_PER_FRAME};

/// Frames of sound of each sentence, and of one whose voice breaks off.
const SENTENCE: usize = 10;
/// Longer than anything takes that ends.
const LONG: Duration = Duration::from_secs(120);

/// Speaks as the sentence's first word says.
#[derive(Default)]
struct Actor(Mutex<Vec<mpsc::Sender<Result<PcmChunk, SpeechError>>>>);

impl Tts for Actor {
    fn speak(&self, text: &str, _: &Voice) -> Result<PcmStream, SpeechError> {
        let fault = || SpeechError::Service("lost its breath".to_owned());
        if text.starts_with("Refused") {
            return Err(fault());
        }
        let (sender, stream) = mpsc::channel(4);
        let sound = PcmChunk::new(vec![0.3; SENTENCE * LIPSYNC_SAMPLES_PER_FRAME], LIPSYNC_RATE);
        if !text.starts_with("Mute") {
            sender.try_send(Ok(sound)).unwrap();
        }
        if text.starts_with("Broken") {
            sender.try_send(Err(fault())).unwrap();
        }
        if text.starts_with("Stuck") {
            self.0.lock().unwrap().push(sender);
        }
        Ok(pcm::received(stream))
    }
}

/// Answers as the user's last word says.
struct Model;

const REPLIES: [&str; 10] =
    ["good", "refuse", "cut", "empty", "nothing", "hang", "unvoiced", "breaks", "stuck", "code"];

impl Responder for Model {
    fn reply(&self, conversation: Vec<Message>) -> Reply {
        let asked = conversation.last().map(|message| message.content.clone()).unwrap_or_default();
        let words = |text: &str| Ok(text.to_owned());
        let broke = || Err(DialogueError::BrokeOff { words: String::new() });
        let deltas = match asked.split_whitespace().last().unwrap_or_default() {
            "refuse" => vec![broke()],
            "cut" => vec![words("Fine words. And "), broke()],
            "empty" => vec![Err(DialogueError::Empty { reason: None })],
            "nothing" => vec![],
            "hang" => return Box::pin(stream::pending()),
            "unvoiced" => vec![words("Refused words.")],
            "breaks" => vec![words("Fine words. "), words("Broken words of a voice. Fine words.")],
            "stuck" => vec![words("Stuck words."), words(" Fine words.")],
            "code" => vec![words("```\nlet x = 1;\n```")],
            _ => vec![words("Fine words, all"), words(" of them. Mute words. Fine"), words(" words.")],
        };
        Box::pin(stream::iter(deltas))
    }
}

const SPEECHES: [&str; 5] =
    ["Fine words.", "Refused words.", "Fine words. Broken words.", "Stuck words.", "Mute words."];

struct Stage {
    devices: DevicePool,
    composer: Composer,
    engine_thread: EngineThread,
    compose_thread: ComposeThreads,
}

impl Stage {
    async fn set() -> Self {
        // Nobody watches, so nothing is drawn.
        let (engine, engine_thread) = FakeNetwork::unwatched().spawn().await;
        let (composer, compose_thread) = Composer::spawn().unwrap();
        Self { devices: DevicePool::new([("none".to_owned(), engine)]), composer, engine_thread, compose_thread }
    }

    fn strike(self) {
        drop((self.devices, self.composer));
        assert!(self.engine_thread.join() && self.compose_thread.join());
    }
}

/// One session that nobody watches and one client listens to.
struct Play {
    conversation: Conversation,
    history: SharedHistory,
    told: NoticeReceiver,
    /// Frames of each utterance that left.
    heard: Heard,
    _notices: NoticeSender,
    tracker: TaskTracker,
    shutdown: CancellationToken,
    removed: CancellationToken,
}

type Heard = Arc<Mutex<BTreeMap<UtteranceId, u64>>>;

/// A session's place in playout.
async fn play(
    mut schedule: Schedule,
    mut commands: mpsc::Receiver<playout::Command>,
    events: mpsc::Sender<Event>,
    removed: CancellationToken,
    heard: Heard,
) {
    let mut ticks = tokio::time::interval(FRAME_DURATION);
    let mut index = FrameIndex(0);
    loop {
        let goes_on = removed.run_until_cancelled(ticks.tick()).await.is_some();
        while let Ok(command) = commands.try_recv() {
            schedule.apply(command);
        }
        if goes_on {
            if let Some(utterance) = schedule.tick().utterance {
                *heard.lock().unwrap().entry(utterance).or_default() += 1;
            }
        } else {
            schedule.close();
        }
        let at = Instant::now();
        for change in schedule.take_changes() {
            events.send(Event::of(change, index, at)).await.unwrap();
        }
        if !goes_on {
            return;
        }
        index.0 += 1;
    }
}

impl Play {
    fn begin(stage: &Stage) -> Self {
        let own = OwnFrames::of(Arc::new(kit::avatar::tiny()));
        let (commands, queue) = mpsc::channel(256);
        let (events, playout_events) = mpsc::channel(64);
        let (tracker, shutdown, removed) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let heard = Heard::default();
        tracker.spawn(play(Schedule::new(own.clone()), queue, events, removed.clone(), Arc::clone(&heard)));
        let playout =
            SessionPlayout { commands, pose: Arc::default(), volume: Arc::default(), clock: PlayoutClock::start() };
        let (lease, composer) = (stage.devices.lease(), stage.composer.clone());
        let animator = Animator::new(lease, composer, own, AvatarHandle(0), playout, Audience::default());
        let notices = NoticeBroadcast::default();
        let (sender, told) = notice_queue(100_000);
        notices.add(sender.clone());
        let parts = ConversationParts {
            animator,
            character: Character {
                tts: Arc::new(Actor::default()),
                voice: Voice::plain("en-us"),
                responder: Arc::new(Model),
            },
            history: History::new(10_000),
            notices,
            playout_events,
            audio_clock: Arc::new(|_| None),
            video_clock: Arc::new(|_| None),
        };
        let conversation = Conversation::start(parts, &tracker, &shutdown);
        let history = conversation.turns.history();
        Self { conversation, history, told, heard, _notices: sender, tracker, shutdown, removed }
    }

    fn says(&self, text: &str, id: &str) {
        self.submit(Command::Text { text: text.into(), id: Some(id.into()) }).unwrap();
    }

    fn submit(&self, command: Command) -> Result<(), Refusal> {
        self.conversation.submit(command, &ClientAudio::default())
    }

    async fn until(&mut self, fits: impl Fn(&Notice) -> bool) -> Notice {
        let found = async {
            loop {
                let notice = self.told.recv().await.unwrap();
                if fits(&notice) {
                    return notice;
                }
            }
        };
        tokio::time::timeout(LONG, found).await.expect("it is told")
    }

    /// The one message that ends a turn.
    async fn end_of(&mut self, turn: &str) -> Notice {
        self.until(|notice| end(notice).is_some_and(|(_, id)| id.as_deref() == Some(turn))).await
    }

    fn remembered(&self) -> Vec<String> {
        self.history.with(|history| history.messages().into_iter().map(|message| message.content).collect())
    }

    async fn close(self) -> Vec<Notice> {
        let Self { conversation, mut told, _notices, tracker, shutdown, removed, .. } = self;
        shutdown.cancel();
        removed.cancel();
        tracker.close();
        tracker.wait().await;
        assert_eq!(
            conversation.reply_to("Late.".into(), None, TurnTimes::since(Instant::now())).unwrap_err().code,
            ErrorCode::ShuttingDown
        );
        drop((conversation, _notices));
        let mut rest = Vec::new();
        while let Some(notice) = told.recv().await {
            rest.push(notice);
        }
        rest
    }
}

/// Whose end this is.
fn end(notice: &Notice) -> Option<(UtteranceId, Option<String>)> {
    match notice {
        Notice::SpeechEnded { utterance, id, .. } | Notice::Failed { utterance, id, .. } => {
            Some((*utterance, id.clone()))
        }
        _ => None,
    }
}

fn utterance_of(notice: &Notice) -> Option<UtteranceId> {
    match notice {
        Notice::Text { utterance, .. }
        | Notice::SpeechStarted { utterance, .. }
        | Notice::Latency { utterance, .. }
        | Notice::SpeechEnded { utterance, .. }
        | Notice::Failed { utterance, .. } => Some(*utterance),
        Notice::Caption { sentence, .. } => Some(sentence.utterance),
        Notice::Transcript { .. }
        | Notice::Stats { .. }
        | Notice::Avatar(_)
        | Notice::Outputs(_)
        | Notice::Error { .. }
        | Notice::Missed { .. } => None,
    }
}

fn on_a_clock_of_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(work)
}

/// Runs a scene and takes everything down after it.
fn scene<F: Future<Output = Play>>(act: impl FnOnce(Play) -> F) {
    on_a_clock_of_its_own(async {
        let stage = Stage::set().await;
        act(Play::begin(&stage)).await.close().await;
        stage.strike();
    });
}

#[test]
fn what_was_heard_of_a_voice_that_fails_is_told_and_remembered() {
    scene(async |mut play| {
        play.says("breaks", "one");
        let Notice::Failed { code, spoken_ms, text_spoken, .. } = play.end_of("one").await else { panic!("no error") };
        assert_eq!(code, ErrorCode::SpeechFailed);
        // The first sentence, and what came of the second.
        assert_eq!(spoken_ms, 2 * SENTENCE as u64 * 1000 / u64::from(FPS));
        assert!(text_spoken.starts_with("Fine words. Broken") && !text_spoken.contains("voice"), "{text_spoken}");
        assert_eq!(play.remembered(), ["breaks", &text_spoken]);
        // And the session speaks on.
        play.submit(Command::Speak { text: "Fine words.".into(), id: Some("two".into()) }).unwrap();
        let Notice::SpeechEnded { interrupted: false, spoken_ms, .. } = play.end_of("two").await else { panic!() };
        assert_eq!(spoken_ms, SENTENCE as u64 * 1000 / u64::from(FPS));
        play
    });
}

#[test]
fn what_was_heard_of_a_reply_that_breaks_off_is_told_and_remembered() {
    scene(async |mut play| {
        play.says("cut", "one");
        let Notice::Failed { code, text_spoken, .. } = play.end_of("one").await else { panic!("no error") };
        assert_eq!((code, text_spoken.as_str()), (ErrorCode::LlmFailed, "Fine words. And"));
        assert_eq!(play.remembered(), ["cut", "Fine words. And"]);
        play
    });
}

#[test]
fn a_fault_is_told_even_if_what_was_left_to_say_is_interrupted() {
    scene(async |mut play| {
        play.says("cut", "one");
        play.until(|notice| matches!(notice, Notice::SpeechStarted { .. })).await;
        play.conversation.interrupt();
        let Notice::Failed { code, text_spoken, .. } = play.end_of("one").await else { panic!("no error") };
        assert_eq!(code, ErrorCode::LlmFailed);
        assert!("Fine words.".starts_with(&text_spoken), "{text_spoken}");
        play
    });
}

#[test]
fn a_new_turn_is_taken_however_full_the_queue_is_and_the_rest_ends() {
    scene(async |mut play| {
        play.says("hang", "first");
        for number in 0..turns::TURNS + 1 {
            let speak = Command::Speak { text: "Fine words.".into(), id: Some(number.to_string()) };
            tokio::task::yield_now().await;
            // The first is being made, so there is room for all but the last.
            assert_eq!(play.submit(speak).is_ok(), number < turns::TURNS);
        }
        play.says("good", "mine");
        for number in 0..turns::TURNS {
            let Notice::SpeechEnded { interrupted: true, spoken_ms: 0, text_spoken, .. } =
                play.end_of(&number.to_string()).await
            else {
                panic!("{number}")
            };
            assert_eq!(text_spoken, "");
        }
        play.end_of("mine").await;
        assert_eq!(play.remembered()[0], "hang\ngood");
        play
    });
}

#[test]
fn two_clients_speak_one_after_the_other() {
    scene(async |mut play| {
        let (one, other) = (ClientAudio::default(), ClientAudio::default());
        let start = |id: &str| Command::AudioStart { sample_rate: LIPSYNC_RATE, id: Some(id.into()) };
        play.conversation.submit(start("one"), &one).unwrap();
        play.conversation.submit(start("other"), &other).unwrap();
        let sound = vec![9000; LIPSYNC_SAMPLES_PER_FRAME];
        for _ in 0..20 {
            play.conversation.submit(Command::Audio(sound.clone()), &one).unwrap();
            play.conversation.submit(Command::Audio(sound.clone()), &other).unwrap();
        }
        play.conversation.submit(Command::AudioEnd, &other).unwrap();
        play.conversation.submit(Command::Audio(sound.repeat(5)), &one).unwrap();
        drop(one);
        for (id, frames) in [("one", 25), ("other", 20)] {
            let Notice::SpeechEnded { interrupted: false, spoken_ms, .. } = play.end_of(id).await else {
                panic!("{id}")
            };
            assert_eq!(spoken_ms, frames * 1000 / u64::from(FPS), "{id}");
        }
        play
    });
}

#[test]
fn a_client_that_starts_to_speak_and_falls_silent_ends_its_turn_in_an_error() {
    scene(async |mut play| {
        let audio = ClientAudio::default();
        let start = Command::AudioStart { sample_rate: LIPSYNC_RATE, id: Some("one".into()) };
        play.conversation.submit(start, &audio).unwrap();
        play.submit(Command::Speak { text: "Fine words.".into(), id: Some("two".into()) }).unwrap();
        let Notice::Failed { code, .. } = play.end_of("one").await else { panic!("no error") };
        assert_eq!(code, ErrorCode::BadAudio);
        assert!(matches!(play.end_of("two").await, Notice::SpeechEnded { interrupted: false, .. }));
        play
    });
}
