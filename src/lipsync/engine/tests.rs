//! The thread with a network that only remembers: order, fairness, faults and what there is no time for.

use std::sync::{Arc, Mutex, mpsc as blocking};
use std::time::Duration;

use super::*;
use crate::kit::{self, network::FakeNetwork};
use crate::picture::MouthFrame;

/// Draws a pixel that says which pose it is, and remembers the poses. Pose 99 says that it is there and waits for
/// leave, 13 panics, 14 is refused.
fn recorder(
    drawn: Arc<Mutex<Vec<Vec<usize>>>>,
    arrived: oneshot::Sender<()>,
    leave: blocking::Receiver<()>,
) -> FakeNetwork {
    let mut arrived = Some(arrived);
    FakeNetwork::of_batches(move |runs| {
        let poses: Vec<usize> = runs.iter().flat_map(|run| run.poses.clone()).collect();
        if poses.contains(&99) {
            arrived.take().unwrap().send(()).unwrap();
            leave.recv().unwrap();
        }
        assert!(!poses.contains(&13), "pose 13");
        if poses.contains(&14) {
            return Err(LipSyncError::Latents { path: "latents".into(), problem: "are damaged".into() });
        }
        drawn.lock().unwrap().push(poses);
        Ok(runs.iter().map(|run| run.poses.iter().map(|pose| mouth(*pose)).collect()).collect())
    })
}

fn mouth(pose: usize) -> MouthFrame {
    kit::network::pixel([u8::try_from(pose).unwrap(); 3])
}

fn run(poses: &[usize]) -> MouthRun {
    MouthRun { avatar: AvatarHandle(0), poses: poses.to_vec(), audio: Arc::from([]), first_frame_at: 0 }
}

fn in_time(ms: u64) -> Urgency {
    Urgency { deadline: Some(Instant::now() + Duration::from_millis(ms)), awaited: false }
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
        let (engine, thread) = recorder(Arc::clone(&drawn), arrived, leave).spawn().await;
        let bench = Self { engine, thread, drawn, give_leave };
        // What the gate draws is not looked at, but a receiver that is dropped would withdraw it.
        let gate = bench.draw(&[99], ANY_TIME).await;
        at_gate.await.unwrap();
        drop(gate);
        bench
    }

    async fn draw(&self, poses: &[usize], urgency: Urgency) -> oneshot::Receiver<Result<DrawnRun, LipSyncError>> {
        self.engine.draw(0, run(poses), urgency, CancellationToken::new()).await.unwrap()
    }

    async fn end(self) -> Vec<Vec<usize>> {
        let Self { engine, thread, drawn, .. } = self;
        drop(engine);
        assert!(tokio::task::spawn_blocking(move || thread.join()).await.unwrap());
        Arc::into_inner(drawn).unwrap().into_inner().unwrap()
    }
}

const ANY_TIME: Urgency = Urgency { deadline: None, awaited: false };

#[tokio::test]
async fn the_most_urgent_run_is_drawn_first_and_cancelled_ones_never() {
    let bench = Bench::start().await;
    let cancelled = CancellationToken::new();
    let late = bench.draw(&[3], in_time(3_600_000)).await;
    let soon = bench.draw(&[1], Urgency { deadline: Some(Instant::now()), awaited: true }).await;
    let withdrawn = bench.engine.draw(0, run(&[2]), in_time(0), cancelled.clone()).await.unwrap();
    drop(bench.draw(&[4], in_time(0)).await);
    cancelled.cancel();
    bench.give_leave.send(()).unwrap();
    soon.await.unwrap().unwrap();
    assert!(withdrawn.await.is_err());
    // The one with an hour to spare still waits for company.
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
            let urgency = Urgency { awaited: true, ..in_time(2_000) };
            let mouths = bench.draw(&poses, urgency).await.await.unwrap().unwrap();
            let wanted: DrawnRun = poses.iter().map(|pose| Some(Mouth::Crop(mouth(*pose)))).collect();
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
async fn what_is_late_is_not_drawn_and_whoever_asked_is_told() {
    let bench = Bench::start().await;
    let late = in_time(0).deadline.and_then(|now| now.checked_sub(Duration::from_millis(500)));
    let late = bench.draw(&[5, 6], Urgency { deadline: late, awaited: false }).await;
    bench.give_leave.send(()).unwrap();
    assert_eq!(late.await.unwrap().unwrap(), [None, None]);
    assert_eq!(bench.end().await, [[99]]);
}

#[tokio::test]
async fn an_avatar_is_warmed_up_while_nothing_is_to_be_drawn_and_mouths_come_between_two_steps() {
    let bench = Bench::start().await;
    let warming = bench.engine.warm_up(AvatarHandle(0));
    let drawing = async {
        // Behind the warm-up in the queue, and drawn before it.
        let first = bench.draw(&[1], Urgency { deadline: Some(Instant::now()), awaited: true }).await;
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
    // What first words need, and the rest when there is nothing else to do.
    let silent: Vec<usize> = drawn[3..].iter().map(Vec::len).collect();
    assert_eq!(silent[..6], [1, 1, 2, 2, 4, 4]);
    assert!([8, 8, 16, 16].starts_with(&silent[6..]), "{silent:?}");
}

#[tokio::test]
async fn a_second_avatar_is_ready_sooner_and_nobody_waits_for_large_batches() {
    let sizes: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
    let seen = Arc::clone(&sizes);
    let network = FakeNetwork::of_batches(move |runs| {
        seen.lock().unwrap().push((runs[0].avatar.0, runs[0].poses.len()));
        Ok(runs.iter().map(|run| vec![mouth(0); run.poses.len()]).collect())
    });
    let (engine, thread) = network.spawn().await;
    engine.warm_up(AvatarHandle(0)).await.unwrap();
    engine.warm_up(AvatarHandle(1)).await.unwrap();
    drop(engine);
    assert!(tokio::task::spawn_blocking(move || thread.join()).await.unwrap());
    let sizes = sizes.lock().unwrap();
    let of = |avatar: usize| -> Vec<usize> {
        sizes.iter().filter(|(of, size)| *of == avatar && *size <= 4).map(|(_, size)| *size).collect()
    };
    assert_eq!((of(0), of(1)), (vec![1, 1, 2, 2, 4, 4], vec![1, 2, 4]));
}

#[tokio::test]
async fn an_avatar_that_fails_to_warm_up_is_an_error_and_the_engine_goes_on() {
    let refusing = FakeNetwork::of_frames(|run, at| {
        assert_ne!(run.avatar.0, 1, "of this avatar nothing can be drawn");
        mouth(run.poses[at])
    });
    let (engine, thread) = refusing.spawn().await;
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
