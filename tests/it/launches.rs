//! How often libtorch's operators are called for a batch, each of which is a launch or a copy on a GPU: as often for one
//! session as for eight. Counted by libtorch itself, through a few lines of its C++ (`launches.cpp`) that are compiled here,
//! since its Rust binding has no way to them.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use libloading::Library;
use mouthpiece::avatar::Avatar;
use mouthpiece::lipsync::{AvatarHandle, LipSync, MouthRun};
use mouthpiece::musetalk::MuseTalk;
use mouthpiece::musetalk::network::config::AudioWindow;
use mouthpiece::portrait::Portrait;
use tch::Device;

use crate::network::{random_model, small};

const FRAMES: usize = 8;

/// Calls of operators on the thread that made it.
struct Calls(Library);

impl Calls {
    fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (library, libtorch) = (folder.path().join("liblaunches.so"), std::env::var("LIBTORCH").unwrap());
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/launches.cpp");
        let mut compiler = Command::new("c++");
        compiler.args(["-std=c++17", "-shared", "-fPIC", "-I"]).arg(Path::new(&libtorch).join("include"));
        let compiled = compiler.arg(source).arg("-o").arg(&library).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // SAFETY: what was just compiled initialises nothing but one number.
        #[allow(unsafe_code, reason = "a library of the test's own")]
        let library = unsafe { Library::new(&library) }.unwrap();
        // SAFETY: as in the source, a function of no arguments that gives nothing.
        #[allow(unsafe_code, reason = "a library of the test's own")]
        unsafe {
            library.get::<unsafe extern "C" fn()>(b"count_operators").unwrap()();
        }
        Self(library)
    }

    fn so_far(&self) -> i64 {
        // SAFETY: as in the source, a function of no arguments that gives a number.
        #[allow(unsafe_code, reason = "a library of the test's own")]
        unsafe {
            self.0.get::<unsafe extern "C" fn() -> i64>(b"operators_called").unwrap()()
        }
    }

    fn of(&self, work: impl FnOnce()) -> i64 {
        let before = self.so_far();
        work();
        self.so_far() - before
    }
}

fn sound(session: usize) -> Arc<[f32]> {
    (0..32_000).map(|at| 0.3 * (at as f32 * (0.03 + session as f32 * 0.002)).sin()).collect()
}

/// As many frames in all, of so many sessions with sound of their own, which speak as these avatars in turn.
fn batch(sessions: usize, avatars: &[AvatarHandle]) -> Vec<MouthRun> {
    let run = |session: usize| MouthRun {
        avatar: avatars[session % avatars.len()],
        poses: vec![session % 3; FRAMES / sessions],
        audio: sound(session),
        first_frame_at: 640 * (5 + session),
    };
    (0..sessions).map(run).collect()
}

/// The calls for batches of two, four and eight sessions, which must be the same, as those for one are but for a handful: libtorch
/// leaves out a dimension of one.
fn assert_same(calls: &Calls, what: &str, mut work: impl FnMut(&[MouthRun]), avatars: &[AvatarHandle]) -> i64 {
    let mut counts = Vec::new();
    for sessions in [1, 2, 4, FRAMES] {
        let runs = batch(sessions, avatars);
        counts.push(calls.of(|| work(&runs)));
    }
    assert!(counts[1] > 20 && counts[1..].iter().all(|count| *count == counts[1]), "{what}: {counts:?}");
    assert!(counts[0].abs_diff(counts[1]) <= 12, "{what}: {counts:?}");
    counts[0]
}

#[test]
fn a_batch_takes_as_many_launches_and_copies_for_eight_sessions_as_for_one() {
    let calls = Calls::begin();
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = Arc::new(Avatar::load(&project.join("models/avatars/demo")).unwrap());
    let mut demo = MuseTalk::load(&project.join("models/demo"), Device::Cpu, 1).unwrap();
    let mut add = |pastes: bool| {
        demo.paste_on_device(pastes);
        let handle = demo.add_latents(&shipped.latents, shipped.manifest.decode_rows).unwrap();
        demo.add_frames(handle, &shipped).unwrap();
        handle
    };
    let (plain, pasting) = ([add(false), add(false)], [add(true)]);
    let mut draw = |runs: &[MouthRun]| drop(demo.draw(runs).unwrap());
    let crops = assert_same(&calls, "crops of two avatars", &mut draw, &plain);
    let pasted = assert_same(&calls, "pasted", &mut draw, &pasting);
    assert!(pasted > crops);
    // Several runs of one sentence are no more work than one of the same frames.
    let whole = batch(1, &plain).remove(0);
    let half = |first: usize| MouthRun {
        poses: whole.poses[first..first + 4].to_vec(),
        first_frame_at: whole.first_frame_at + 640 * first,
        ..whole.clone()
    };
    assert!(calls.of(|| draw(&[half(0), half(4)])).abs_diff(crops) <= 12);

    let mut portrait = Portrait::load(&project.join("models/portrait"), Device::Cpu, 1).unwrap();
    let hear = |runs: &[MouthRun]| assert_eq!(portrait.hear(runs).unwrap().len(), FRAMES);
    assert_same(&calls, "what portraits hear", hear, &[AvatarHandle(0)]);
}

#[test]
fn a_sentence_heard_as_a_whole_is_heard_once_however_many_batches_and_sessions_there_are() {
    let calls = Calls::begin();
    let mut config = small();
    config.audio_window = AudioWindow::Utterance;
    let (folder, latents) = random_model(&config);
    let mut model = MuseTalk::load(folder.path(), Device::Cpu, 1).unwrap();
    let avatars = [model.add_latents(&latents, None).unwrap()];
    // Room for what is heard grows once.
    model.draw(&batch(FRAMES, &avatars)).unwrap();
    let new = assert_same(&calls, "new sentences", |runs| drop(model.draw(runs).unwrap()), &avatars);
    let turns: Vec<Vec<MouthRun>> = [1, 2, 4, FRAMES].map(|sessions| batch(sessions, &avatars)).into();
    turns.iter().for_each(|runs| drop(model.draw(runs).unwrap()));
    let again: Vec<i64> = turns.iter().rev().map(|runs| calls.of(|| drop(model.draw(runs).unwrap()))).collect();
    assert!(again.iter().all(|count| *count == again[0] && *count < new), "{again:?}, {new} when they were new");
}
