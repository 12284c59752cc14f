//! The thread with a network that only remembers: order, fairness, faults and what there is no time for.

use std::sync::{Arc, Mutex, mpsc as blocking};
use std::time::Duration;

use super::*;
use crate::picture::MouthFrame;

/// Draws a pixel that says which pose it is, and remembers the poses. Pose 99 says that it is there and waits for
/// leave, 13 panics, 14 is refused.
struct Recorder {
    drawn: Arc<Mutex<Vec<Vec<usize>>>>,
    arrived: Option<oneshot::Sender<()>>,
    leave: blocking::Receiver<()>,
}

impl LipSync for Recorder {
    fn add_avatar(&mut self, _: &std::path::Path, _: Option<[i64; 2]>) -> Result<AvatarHandle, LipSyncError> {
        Ok(AvatarHandle(0))
    }

    fn add_canvas(&mut self, _: AvatarHandle, _: &crate::avatar::Avatar) -> Result<(), LipSyncError> {
        Ok(())
    }

    fn remove_avatar(&mut self, _: AvatarHandle) {}

    fn infer_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>, LipSyncError> {
        let poses: Vec<usize> = runs.iter().flat_map(|run| run.poses.clone()).collect();
        if poses.contains(&99) {
            self.arrived.take().unwrap().send(()).unwrap();
            self.leave.recv().unwrap();
        }
        assert!(!poses.contains(&13), "pose 13");
        if poses.contains(&14) {
            return Err(LipSyncError::Latents { path: "latents".into(), problem: "are damaged".into() });
        }
        self.drawn.lock().unwrap().push(poses);
        Ok(runs.iter().map(|run| run.poses.iter().map(|pose| mouth(*pose)).collect()).collect())
    }
}

fn mouth(pose: usize) -> MouthFrame {
    MouthFrame { width: 1, height: 1, rgb: vec![u8::try_from(pose).unwrap(); 3] }
}

fn run(poses: &[usize]) -> MouthRun {
    MouthRun { avatar: AvatarHandle(0), poses: poses.to_vec(), audio: Arc::from([]), first_frame_at: 0 }
}

fn in_time(ms: u64) -> Due {
    Due { deadline: Some(Instant::now() + Duration::from_millis(ms)), awaited: false }
}

struct Bench {
    engine: Engine,
    thread: EngineThread,
    drawn: Arc<Mutex<Vec<Vec<usize>>>>,
    give_leave: blocking::Sender<()>,
}

impl Bench {
    /// With the thread at its gate until leave is given, so that all the test's runs are queued before it chooses.
    async fn start() -> Self {
        let drawn = Arc::new(Mutex::new(Vec::new()));
        let (give_leave, leave) = blocking::channel();
        let (arrived, at_gate) = oneshot::channel();
        let recorder = Recorder { drawn: Arc::clone(&drawn), arrived: Some(arrived), leave };
        let (engine, thread) = Engine::spawn(move || Ok(Box::new(recorder) as Box<dyn LipSync>)).await.unwrap();
        let bench = Self { engine, thread, drawn, give_leave };
        // What the gate draws is not looked at, but a receiver that is dropped would withdraw it.
        let gate = bench.draw(&[99], ANY_TIME).await;
        at_gate.await.unwrap();
        drop(gate);
        bench
    }

    async fn draw(&self, poses: &[usize], due: Due) -> oneshot::Receiver<Result<Mouths, LipSyncError>> {
        self.engine.draw(run(poses), due, CancellationToken::new()).await.unwrap()
    }

    async fn end(self) -> Vec<Vec<usize>> {
        let Self { engine, thread, drawn, .. } = self;
        drop(engine);
        assert!(tokio::task::spawn_blocking(move || thread.join()).await.unwrap());
        Arc::into_inner(drawn).unwrap().into_inner().unwrap()
    }
}

const ANY_TIME: Due = Due { deadline: None, awaited: false };

#[tokio::test]
async fn the_most_urgent_run_is_drawn_first_and_cancelled_ones_never() {
    let bench = Bench::start().await;
    let cancelled = CancellationToken::new();
    let late = bench.draw(&[3], in_time(60_000)).await;
    let soon = bench.draw(&[1], Due { deadline: Some(Instant::now()), awaited: true }).await;
    let withdrawn = bench.engine.draw(run(&[2]), in_time(0), cancelled.clone()).await.unwrap();
    drop(bench.draw(&[4], in_time(0)).await);
    cancelled.cancel();
    bench.give_leave.send(()).unwrap();
    soon.await.unwrap().unwrap();
    assert!(withdrawn.await.is_err());
    // The one with a minute to spare still waits for company.
    assert_eq!(bench.drawn.lock().unwrap().as_slice(), [[99], [1]]);
    drop(late);
    bench.end().await;
}

#[tokio::test]
async fn a_session_that_panics_or_is_refused_is_told_and_the_others_notice_nothing() {
    let bench = Bench::start().await;
    let mut replies = Vec::new();
    for pose in [1, 13, 2, 14] {
        replies.push(bench.draw(&[pose], ANY_TIME).await);
    }
    bench.give_leave.send(()).unwrap();
    let mut told = Vec::new();
    for reply in replies {
        told.push(reply.await.unwrap().map_err(|error| error.to_string()));
    }
    assert_eq!((&told[0], &told[2]), (&Ok(vec![Some(Mouth::Crop(mouth(1)))]), &Ok(vec![Some(Mouth::Crop(mouth(2)))])));
    assert!(told[1].as_ref().unwrap_err().contains("pose 13"), "{told:?}");
    assert!(told[3].as_ref().unwrap_err().contains("damaged"), "{told:?}");
    bench.end().await;
}

#[tokio::test]
async fn two_hundred_sessions_drawn_together_never_get_each_others_mouths() {
    let bench = Bench::start().await;
    // All of them at once, as many as the queue takes and the rest behind it, of one, two and four frames.
    let ask = |session: usize| {
        let bench = &bench;
        async move {
            let poses = vec![session % 90 + 100; [1, 2, 4][session % 3]];
            let due = Due { awaited: true, ..in_time(400) };
            let mouths = bench.draw(&poses, due).await.await.unwrap().unwrap();
            let wanted: Mouths = poses.iter().map(|pose| Some(Mouth::Crop(mouth(*pose)))).collect();
            assert_eq!(mouths, wanted);
        }
    };
    let all = futures_util::future::join_all((0..200).map(ask));
    let leave = async { bench.give_leave.send(()).unwrap() };
    tokio::join!(all, leave);
    let drawn = bench.end().await;
    assert_eq!(drawn.iter().map(Vec::len).sum::<usize>(), 1 + 67 + 2 * 67 + 4 * 66);
    assert!(drawn.iter().any(|poses| poses.len() == 16), "none of {} batches was full", drawn.len());
}

#[tokio::test]
async fn what_cannot_be_in_time_is_every_second_frame_and_what_is_late_is_none() {
    let bench = Bench::start().await;
    // Due now, so that its end is in time and its beginning is not, for two seconds.
    let thin = bench.draw(&[7; 51], in_time(0)).await;
    let late = in_time(0).deadline.and_then(|now| now.checked_sub(Duration::from_millis(500)));
    let late = bench.draw(&[5, 6], Due { deadline: late, awaited: false }).await;
    bench.give_leave.send(()).unwrap();
    assert_eq!(late.await.unwrap().unwrap(), [None, None]);
    let thin = thin.await.unwrap().unwrap();
    assert_eq!(thin.len(), 51);
    assert!((0..51).all(|frame| thin[frame].is_some() == (frame % 2 == 0)), "{thin:?}");
    bench.end().await;
}

#[tokio::test]
async fn an_avatar_is_warmed_up_while_nothing_is_to_be_drawn_and_mouths_come_between_two_steps() {
    let bench = Bench::start().await;
    let warming = bench.engine.warm_up(AvatarHandle(0));
    let drawing = async {
        // Behind the warm-up in the queue, and drawn before it.
        let first = bench.draw(&[1], Due { deadline: Some(Instant::now()), awaited: true }).await;
        let second = bench.draw(&[2], ANY_TIME).await;
        bench.give_leave.send(()).unwrap();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
        // Far from due, so that there is time for all of the warm-up meanwhile.
        Some(bench.draw(&[3], in_time(3_600_000)).await)
    };
    let (warmed, third) = tokio::join!(warming, drawing);
    warmed.unwrap();
    drop(third);
    let drawn = bench.end().await;
    assert_eq!(drawn[..3], [vec![99], vec![1], vec![2]]);
    let silent: Vec<usize> = drawn[3..].iter().map(Vec::len).collect();
    assert_eq!(silent, [1, 1, 2, 2, 4, 4, 8, 8, 16, 16]);
}

#[tokio::test]
async fn an_avatar_that_fails_to_warm_up_is_an_error_and_the_engine_goes_on() {
    struct Refusing;
    impl LipSync for Refusing {
        fn add_avatar(&mut self, _: &std::path::Path, _: Option<[i64; 2]>) -> Result<AvatarHandle, LipSyncError> {
            Ok(AvatarHandle(0))
        }

        fn add_canvas(&mut self, _: AvatarHandle, _: &crate::avatar::Avatar) -> Result<(), LipSyncError> {
            Ok(())
        }

        fn remove_avatar(&mut self, _: AvatarHandle) {}

        fn infer_all(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<MouthFrame>>, LipSyncError> {
            assert_ne!(runs[0].avatar.0, 1, "of this avatar nothing can be drawn");
            Ok(runs.iter().map(|run| run.poses.iter().map(|pose| mouth(*pose)).collect()).collect())
        }
    }
    let (engine, thread) = Engine::spawn(|| Ok(Box::new(Refusing) as Box<dyn LipSync>)).await.unwrap();
    let error = engine.warm_up(AvatarHandle(1)).await.unwrap_err().to_string();
    assert!(error.contains("nothing can be drawn"), "{error}");
    engine.warm_up(AvatarHandle(0)).await.unwrap();
    drop(engine);
    assert!(tokio::task::spawn_blocking(move || thread.join()).await.unwrap());
}

#[tokio::test]
async fn a_network_that_does_not_load_is_an_error_of_spawn() {
    let build = || Err(LipSyncError::Config { field: "unet".into(), problem: "is odd".into() });
    assert!(matches!(Engine::spawn(build).await, Err(EngineError::LipSync(LipSyncError::Config { .. }))));
}
