//! How turns end, each in one message, and what of them is remembered.

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::animation::Performer;
use crate::avatar::OwnFrames;
use crate::dialogue::history::History;
use crate::kit;
use crate::lipsync::AvatarHandle;
use crate::session::{NoticeReceiver, notice_queue};

/// A session's turns and what its one viewer is told.
struct Bench {
    turns: Turns,
    history: SharedHistory,
    told: NoticeReceiver,
}

fn bench() -> Bench {
    let (notices, history) = (NoticeBroadcast::default(), SharedHistory::new(History::new(1000)));
    let (sender, told) = notice_queue(64);
    notices.add(sender);
    let (commands, _) = mpsc::channel(1);
    let performer = Performer::new(OwnFrames::of(Arc::new(kit::avatar::tiny())), AvatarHandle(0), commands);
    let attentive = Attentive::new(performer);
    Bench { turns: Turns::new("en-us", history.clone(), notices, attentive), history, told }
}

fn times() -> TurnTimes {
    TurnTimes::since(Instant::now())
}

impl Bench {
    fn add(&self, text: &str, mode: QueueMode) -> Result<UtteranceId, Refusal> {
        self.turns.add(Some(text.to_owned()), TurnSource::Reply(text.to_owned()), times(), mode)
    }

    fn is_added(&self, text: &str) -> UtteranceId {
        self.add(text, QueueMode::Append).unwrap()
    }

    /// Every end that was told, by the client's id: whether it was interrupted, and what was spoken.
    fn ends(&mut self) -> Vec<(String, bool, String)> {
        let mut ends = Vec::new();
        while let Ok(notice) = self.try_recv() {
            if let Notice::SpeechEnded { id, interrupted, text_spoken, .. } = notice {
                ends.push((id.unwrap(), interrupted, text_spoken));
            }
        }
        ends
    }

    fn try_recv(&mut self) -> Result<Notice, TryRecvError> {
        use futures_util::FutureExt;
        self.told.recv().now_or_never().flatten().ok_or(TryRecvError::Empty)
    }

    fn remembered(&self) -> Vec<String> {
        self.history.with(|history| history.messages().into_iter().map(|message| message.content).collect())
    }
}

fn end(frames: u64, interrupted: bool) -> PlayoutEnd {
    PlayoutEnd { frames, interrupted, at: Instant::now() }
}

#[tokio::test]
async fn a_turn_that_comes_instead_of_a_full_queue_is_taken() {
    let mut bench = bench();
    for number in 0..TURNS {
        bench.is_added(&number.to_string());
    }
    assert_eq!(bench.add("more", QueueMode::Append).unwrap_err().code, ErrorCode::Busy);
    let now = bench.add("now", QueueMode::Interrupt).unwrap();
    let ends = bench.ends();
    assert_eq!(ends.len(), TURNS, "each that waited is told once: {ends:?}");
    assert!(ends.iter().all(|(_, interrupted, spoken)| *interrupted && spoken.is_empty()));
    assert_eq!(bench.turns.next().await.unwrap().utterance, now);
    assert_eq!(bench.remembered(), ["0\n1\n2\n3\n4\n5\n6\n7"], "what the user said and nobody answered is remembered");
}

#[tokio::test]
async fn after_an_interruption_there_is_room_for_any_turn() {
    let bench = bench();
    for round in 0..3 {
        for number in 0..TURNS {
            bench.is_added(&format!("{round} {number}"));
        }
        bench.turns.interrupt();
    }
    bench.is_added("speak");
}

#[tokio::test]
async fn a_turn_that_is_made_when_it_is_cancelled_ends_once_and_when_its_maker_says_so() {
    let mut bench = bench();
    let utterance = bench.is_added("made");
    bench.turns.next().await.unwrap();
    bench.turns.interrupt();
    assert_eq!(bench.ends(), [], "it may be heard already");
    bench.turns.ended_unheard(utterance);
    bench.turns.ended(utterance, end(3, false));
    bench.turns.tell(utterance, &Notice::Transcript { content: "late".into(), is_final: true });
    bench.turns.started(utterance);
    assert_eq!(bench.ends(), [("made".to_owned(), true, String::new())]);
    assert!(bench.try_recv().is_err(), "nothing is told of it after its end");
}

#[tokio::test]
async fn what_was_heard_before_a_fault_is_told_with_it_and_remembered() {
    let mut bench = bench();
    let utterance = bench.is_added("count");
    bench.history.with(|history| history.begin(utterance, "count"));
    for (number, (text, frames)) in [("One two.", Some(20)), ("Three four five six.", None)].into_iter().enumerate() {
        let sentence = utterance.sentence(number);
        bench.turns.begin_sentence(sentence, text.to_owned());
        frames.map(|frames| bench.turns.set_frames(sentence, frames));
    }
    let failure = Failure { code: ErrorCode::SpeechFailed, message: "no breath".to_owned() };
    bench.turns.fail(utterance, failure);
    bench.turns.remember_what_will_be_heard(utterance, 34);
    assert_eq!(bench.remembered(), ["count", "One two. Three"], "as far as it will be heard");
    bench.turns.ended(utterance, end(34, false));
    assert_eq!(bench.remembered(), ["count", "One two. Three"]);
    let Ok(Notice::Failed { id, code, spoken_ms, text_spoken, .. }) = bench.try_recv() else { panic!("no error") };
    let told = (id.as_deref(), code, spoken_ms, text_spoken.as_str());
    assert_eq!(told, (Some("count"), ErrorCode::SpeechFailed, 1360, "One two. Three"));
    assert!(bench.try_recv().is_err(), "and no other end");
}

#[tokio::test]
async fn a_turn_that_fails_unheard_is_forgotten() {
    let mut bench = bench();
    let utterance = bench.is_added("ask");
    bench.history.with(|history| history.begin(utterance, "ask"));
    bench.turns.fail(utterance, Failure { code: ErrorCode::LlmFailed, message: String::new() });
    bench.turns.ended_unheard(utterance);
    assert!(bench.remembered().is_empty());
    assert!(matches!(bench.try_recv(), Ok(Notice::Failed { code: ErrorCode::LlmFailed, spoken_ms: 0, .. })));
}

#[tokio::test]
async fn a_session_that_closes_ends_every_turn_and_takes_no_more() {
    let mut bench = bench();
    bench.is_added("made");
    bench.turns.next().await.unwrap();
    bench.is_added("waiting");
    bench.turns.end_all();
    let mut ends: Vec<String> = bench.ends().into_iter().map(|(id, ..)| id).collect();
    ends.sort();
    assert_eq!(ends, ["made", "waiting"]);
    assert_eq!(bench.add("late", QueueMode::Interrupt).unwrap_err().code, ErrorCode::ShuttingDown);
    assert!(bench.turns.next().await.is_none());
}

#[test]
fn a_viewer_is_believed_once_and_only_what_can_be() {
    let bench = bench();
    let times = TurnTimes::since(Instant::now().checked_sub(Duration::from_millis(500)).unwrap());
    let utterance = bench.turns.add(None, TurnSource::Text("a".into()), times.clone(), QueueMode::Append).unwrap();
    let told = |after| {
        bench.turns.shown(utterance, Duration::from_millis(after));
        times.of(Stage::Shown)
    };
    assert_eq!(told(450), None, "nothing has left yet");
    times.reach_after(Stage::FirstFrame, Duration::from_micros(400_900));
    assert_eq!(told(399), None, "before it left");
    assert_eq!(told(3_600_000), None, "in an hour");
    bench.turns.shown(UtteranceId::next(), Duration::from_millis(450));
    assert_eq!(told(400), Some(Duration::from_millis(400)), "as it was told of the frame");
    assert_eq!(told(450), Some(Duration::from_millis(400)), "by the first viewer");
}

#[tokio::test(start_paused = true)]
async fn the_next_turn_waits_until_it_is_known_what_was_heard() {
    let bench = bench();
    let utterance = bench.is_added("heard");
    let next = bench.is_added("next");
    bench.turns.interrupted_have_ended(next).await;
    bench.turns.interrupt();
    bench.turns.interrupted_have_ended(utterance).await;
    let waiting = bench.turns.clone();
    let waiting = tokio::spawn(async move { waiting.interrupted_have_ended(UtteranceId::next()).await });
    tokio::task::yield_now().await;
    assert!(waiting.is_finished(), "both were waiting, so both have ended");
    let utterance = bench.is_added("heard");
    bench.turns.next().await.unwrap();
    bench.turns.interrupt();
    let waiting = bench.turns.clone();
    let waiting = tokio::spawn(async move { waiting.interrupted_have_ended(UtteranceId::next()).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    bench.turns.ended(utterance, end(5, true));
    waiting.await.unwrap();
}
