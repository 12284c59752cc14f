//! How turns end, each in one message, and what of them is remembered.

use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::dialogue::history::History;
use crate::session::{NoticeReceiver, notices};

/// A session's turns and what its one viewer is told.
struct Bench {
    active: Active,
    said: Said,
    told: NoticeReceiver,
}

fn bench() -> Bench {
    let (viewers, said) = (Notices::default(), Said(Arc::new(Mutex::new(History::new(1000)))));
    let (sender, told) = notices(64);
    viewers.add(sender);
    Bench { active: Active::new("en-us", said.clone(), viewers), said, told }
}

fn times() -> TurnTimes {
    TurnTimes::since(Instant::now())
}

impl Bench {
    fn add(&self, text: &str, place: Place) -> Result<UtteranceId, Refusal> {
        self.active.add(Some(text.to_owned()), Say::ReplyTo(text.to_owned()), times(), place)
    }

    fn is_added(&self, text: &str) -> UtteranceId {
        self.add(text, Place::Behind).unwrap()
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

    fn history(&self) -> Vec<String> {
        self.said.with(|history| history.messages().into_iter().map(|message| message.content).collect())
    }
}

fn extent(frames: u64, interrupted: bool) -> Extent {
    Extent { frames, interrupted, at: Instant::now() }
}

#[tokio::test]
async fn a_turn_that_comes_instead_of_a_full_queue_is_taken() {
    let mut bench = bench();
    for number in 0..TURNS {
        bench.is_added(&number.to_string());
    }
    assert_eq!(bench.add("more", Place::Behind).unwrap_err().code, ErrorCode::Busy);
    let now = bench.add("now", Place::Instead).unwrap();
    let ends = bench.ends();
    assert_eq!(ends.len(), TURNS, "each that waited is told once: {ends:?}");
    assert!(ends.iter().all(|(_, interrupted, spoken)| *interrupted && spoken.is_empty()));
    assert_eq!(bench.active.next().await.unwrap().utterance, now);
    assert_eq!(bench.history(), ["0\n1\n2\n3\n4\n5\n6\n7"], "what the user said and nobody answered is remembered");
}

#[tokio::test]
async fn after_an_interruption_there_is_room_for_any_turn() {
    let bench = bench();
    for round in 0..3 {
        for number in 0..TURNS {
            bench.is_added(&format!("{round} {number}"));
        }
        bench.active.interrupt();
    }
    bench.is_added("speak");
}

#[tokio::test]
async fn a_turn_that_is_made_when_it_is_cancelled_ends_once_and_when_its_maker_says_so() {
    let mut bench = bench();
    let utterance = bench.is_added("made");
    bench.active.next().await.unwrap();
    bench.active.interrupt();
    assert_eq!(bench.ends(), [], "it may be heard already");
    bench.active.ended_unheard(utterance);
    bench.active.ended(utterance, extent(3, false));
    bench.active.tell(utterance, &Notice::Transcript { content: "late".into(), is_final: true });
    bench.active.started(utterance);
    assert_eq!(bench.ends(), [("made".to_owned(), true, String::new())]);
    assert!(bench.try_recv().is_err(), "nothing is told of it after its end");
}

#[tokio::test]
async fn what_was_heard_before_a_fault_is_told_with_it_and_remembered() {
    let mut bench = bench();
    let utterance = bench.is_added("count");
    bench.said.with(|history| history.begin(utterance, "count"));
    for (sentence, frames) in [("One two.", Some(20)), ("Three four five six.", None)] {
        bench.active.sentence_begins(utterance, sentence.to_owned());
        frames.map(|frames| bench.active.sentence_has(utterance, frames));
    }
    let failure = Failure { code: ErrorCode::SpeechFailed, message: "no breath".to_owned() };
    bench.active.fails(utterance, failure);
    bench.active.will_have_said(utterance, 34);
    assert_eq!(bench.history(), ["count", "One two. Three"], "as far as it will be heard");
    bench.active.ended(utterance, extent(34, false));
    assert_eq!(bench.history(), ["count", "One two. Three"]);
    let Ok(Notice::Failed { id, code, spoken_ms, text_spoken, .. }) = bench.try_recv() else { panic!("no error") };
    let told = (id.as_deref(), code, spoken_ms, text_spoken.as_str());
    assert_eq!(told, (Some("count"), ErrorCode::SpeechFailed, 1360, "One two. Three"));
    assert!(bench.try_recv().is_err(), "and no other end");
}

#[tokio::test]
async fn a_turn_that_fails_unheard_is_forgotten() {
    let mut bench = bench();
    let utterance = bench.is_added("ask");
    bench.said.with(|history| history.begin(utterance, "ask"));
    bench.active.fails(utterance, Failure { code: ErrorCode::LlmFailed, message: String::new() });
    bench.active.ended_unheard(utterance);
    assert!(bench.history().is_empty());
    assert!(matches!(bench.try_recv(), Ok(Notice::Failed { code: ErrorCode::LlmFailed, spoken_ms: 0, .. })));
}

#[tokio::test]
async fn a_session_that_closes_ends_every_turn_and_takes_no_more() {
    let mut bench = bench();
    bench.is_added("made");
    bench.active.next().await.unwrap();
    bench.is_added("waiting");
    bench.active.end_all();
    let mut ends: Vec<String> = bench.ends().into_iter().map(|(id, ..)| id).collect();
    ends.sort();
    assert_eq!(ends, ["made", "waiting"]);
    assert_eq!(bench.add("late", Place::Instead).unwrap_err().code, ErrorCode::ShuttingDown);
    assert!(bench.active.next().await.is_none());
}

#[test]
fn a_viewer_is_believed_once_and_only_what_can_be() {
    let bench = bench();
    let times = TurnTimes::since(Instant::now().checked_sub(Duration::from_millis(500)).unwrap());
    let utterance = bench.active.add(None, Say::Exactly("a".into()), times.clone(), Place::Behind).unwrap();
    let told = |after| {
        bench.active.shown(utterance, Duration::from_millis(after));
        times.of(Stage::Shown)
    };
    assert_eq!(told(450), None, "nothing has left yet");
    times.reach_after(Stage::FirstFrame, Duration::from_micros(400_900));
    assert_eq!(told(399), None, "before it left");
    assert_eq!(told(3_600_000), None, "in an hour");
    bench.active.shown(UtteranceId::next(), Duration::from_millis(450));
    assert_eq!(told(400), Some(Duration::from_millis(400)), "as it was told of the frame");
    assert_eq!(told(450), Some(Duration::from_millis(400)), "by the first viewer");
}

#[tokio::test(start_paused = true)]
async fn the_next_turn_waits_until_it_is_known_what_was_heard() {
    let bench = bench();
    let utterance = bench.is_added("heard");
    let next = bench.is_added("next");
    bench.active.interrupted_have_ended(next).await;
    bench.active.interrupt();
    bench.active.interrupted_have_ended(utterance).await;
    let waiting = bench.active.clone();
    let waiting = tokio::spawn(async move { waiting.interrupted_have_ended(UtteranceId::next()).await });
    tokio::task::yield_now().await;
    assert!(waiting.is_finished(), "both were waiting, so both have ended");
    let utterance = bench.is_added("heard");
    bench.active.next().await.unwrap();
    bench.active.interrupt();
    let waiting = bench.active.clone();
    let waiting = tokio::spawn(async move { waiting.interrupted_have_ended(UtteranceId::next()).await });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    bench.active.ended(utterance, extent(5, true));
    waiting.await.unwrap();
}
