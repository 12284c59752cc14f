//! `mouthpiece render`: the same engine, animator and schedule as `serve`, without the clock, into a file.
//!
//! The playout thread is not used: its schedule is ticked as soon as the next frame is ready, so nothing is ever
//! late and every mouth is in the film.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::measure::{Recording, peak_memory_mb};
use super::{BadInput, print, print_json};
use crate::animation::{AnimationError, Animator, Outcome};
use crate::audience::Audience;
use crate::avatar::{AvatarStore, Manifest, OwnFrames};
use crate::cli::{Home, Render};
use crate::config::Folders;
use crate::ids::{AvatarId, UtteranceId};
use crate::latency::TurnTimes;
use crate::media::{self, CutoutWriter, EncoderChoice, FileWriter, MediaError, PipelineDir, VideoFormat};
use crate::playout::schedule::{Kind, Schedule};
use crate::playout::{Command, Pair, PlayoutClock, SessionPlayout};
use crate::server::{self, Workers};
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, normalise, pcm, sound, tts};
use crate::timeline::FrameIndex;

/// Idle frames after the last word, so that a film does not end on an open mouth.
const TAIL_FRAMES: u64 = 8;
/// Between two words on how far a slow film is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Commands from the animator to the film at a time; the animator waits beyond.
const COMMANDS: usize = 64;

pub(super) async fn run(home: &Home, arguments: Render) -> anyhow::Result<ExitCode> {
    let folders = Folders::find(home)?;
    let id: AvatarId = arguments.avatar.parse()?;
    let manifest = AvatarStore::new(&folders.avatars).manifest(&id)?;
    match (arguments.alpha, manifest.matte) {
        (true, None) => {
            let problem =
                format!("avatar \"{id}\" is not cut out, so its film has no alpha channel: make it with --alpha");
            return Err(BadInput(problem).into());
        }
        (false, Some(_)) => {
            tracing::warn!("an MP4 has no alpha channel: its picture is the colours and the matte, each half")
        }
        _ => {}
    }
    let (devices, encoder) = arguments.machine.resolve()?;
    let pipelines = media::PipelineDir::find(&folders.pipelines);
    encoder.check(&pipelines)?;
    if let EncoderChoice::Named(name) = encoder {
        tracing::warn!("--encoder {name} is for `serve`: a film is encoded as pipelines/render-mp4.launch says");
    }
    let voices = tts::Voices::new(None, &folders.models)?;
    let clips = clips(&arguments, &manifest.voice, &voices)?;
    media::init()?;
    let recording = Recording::install()?;
    let started = Instant::now();
    let workers = Workers::start(&folders, &manifest.model, &devices).await?;
    let model_loading = started.elapsed();
    let loaded = server::load_avatar(&workers.devices, &folders, &id).await?;
    let writer = Writer::create(&arguments, &manifest, &pipelines)?;

    let loading = started.elapsed();
    let speaking = Instant::now();
    let (commands, queue) = mpsc::channel(COMMANDS);
    // Nobody keeps the pose clock: sentences follow one another from pose 0 on, so speech begins with the film.
    let playout =
        SessionPlayout { commands, pose: Arc::default(), volume: Arc::default(), clock: PlayoutClock::start() };
    let own = OwnFrames::of(Arc::clone(&loaded.avatar));
    let schedule = Schedule::new(own.clone());
    let film = Film { schedule, queue, writer, started: speaking, told: speaking };
    let filming = tokio::task::spawn_blocking(move || film.run());
    let (lease, composer) = (workers.devices.lease(), workers.composer.clone());
    let audience = Audience::default();
    // The film is what watches.
    let _seat = audience.enter();
    let mut animator = Animator::new(lease, composer, own, loaded.handle, playout, audience);
    let spoken = speak(&mut animator, clips).await;
    drop(animator);
    let shown = filming.await?;
    workers.stop().await?;
    voices.stop().await;
    // A film that cannot be written is why nothing more could be said.
    let (shown, spoken) = (shown?, spoken?);

    let wall = speaking.elapsed();
    let duration = Duration::from_millis(shown.frames * 1000 / u64::from(manifest.fps));
    let report = json!({
        "frames": shown.frames,
        "fps": manifest.fps,
        "mouths": shown.mouths,
        "duration_ms": duration.as_millis(),
        "audio_ms": spoken * 1000 / u64::from(manifest.fps),
        "model_load_ms": model_loading.as_millis(),
        "load_ms": loading.as_millis(),
        "wall_ms": wall.as_millis(),
        "realtime_factor": wall.as_secs_f64() / duration.as_secs_f64(),
        "first_frame_ms": shown.first_mouth.map(|at| at.as_millis()),
        "device": devices.to_string(),
        "model": manifest.model,
        "peak_memory_mb": peak_memory_mb(),
        "stages": recording.take().stages(),
    });
    if arguments.json {
        print_json(&report)?;
    } else {
        print(&format!(
            "{}: {:.1} s, {} frames, made in {:.1} s\n",
            arguments.out.display(),
            duration.as_secs_f64(),
            shown.frames,
            wall.as_secs_f64()
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What will be said, one stream for each sentence, started when its turn comes.
enum Clips {
    Sentences {
        tts: Arc<dyn Tts>,
        voice: crate::speech::Voice,
        sentences: Vec<String>,
    },
    /// Read as it is spoken, so that a long one needs no more memory.
    Sound(sound::Reader, PathBuf),
}

fn clips(arguments: &Render, voice: &crate::speech::Voice, voices: &tts::Voices) -> anyhow::Result<Clips> {
    if let Some(path) = &arguments.audio {
        return Ok(Clips::Sound(sound::Reader::open(path)?, path.clone()));
    }
    let sentences = normalise::sentences(arguments.text.as_deref().unwrap_or_default(), &voice.language);
    if sentences.is_empty() {
        return Err(BadInput("--text holds nothing that can be spoken".into()).into());
    }
    Ok(Clips::Sentences { tts: voices.of(voice)?, voice: voice.clone(), sentences })
}

/// Frames spoken.
async fn speak(animator: &mut Animator, clips: Clips) -> anyhow::Result<u64> {
    let (utterance, never) = (UtteranceId::next(), CancellationToken::new());
    let times = TurnTimes::since(std::time::Instant::now());
    let mut frames = 0;
    match clips {
        Clips::Sentences { tts, voice, sentences } => {
            for (number, text) in sentences.iter().enumerate() {
                let (sentence, speech) = (utterance.sentence(number), tts.speak(text, &voice)?);
                frames += checked(animator.speak(sentence, speech, &never, &times, |_| ()).await?)?;
            }
        }
        Clips::Sound(reader, path) => {
            let (stream, feeding) = feed(reader, path);
            let spoken = animator.speak(utterance.sentence(0), stream, &never, &times, |_| ()).await;
            // It ends with its listener.
            let fed = feeding.await;
            frames += checked(spoken?)?;
            fed??;
        }
    }
    animator.end_utterance(utterance, &never).await?;
    Ok(frames)
}

/// A film without lip-sync is a failure, unlike a live reply.
fn checked(outcome: Outcome) -> Result<u64, AnimationError> {
    match outcome.lip_sync_error {
        Some(error) => Err(crate::lipsync::engine::EngineError::LipSync(error).into()),
        None => Ok(outcome.frames),
    }
}

/// Reads a file on a thread that may wait for the disk. What is wrong in the middle of it ends the film.
fn feed(mut reader: sound::Reader, path: PathBuf) -> (PcmStream, JoinHandle<Result<(), sound::SoundFileError>>) {
    let (sender, stream) = mpsc::channel::<Result<PcmChunk, SpeechError>>(8);
    let task = tokio::task::spawn_blocking(move || {
        let rate = reader.sample_rate();
        loop {
            match reader.next_samples() {
                Ok(Some(samples)) => {
                    if sender.blocking_send(Ok(PcmChunk::new(samples, rate))).is_err() {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(problem) => return Err(sound::SoundFileError { path, problem }),
            }
        }
    });
    (pcm::received(stream), task)
}

/// Takes the animator's commands and writes pairs as soon as they are whole. Blocks; runs on a blocking thread.
struct Film {
    schedule: Schedule,
    queue: mpsc::Receiver<Command>,
    writer: Writer,
    started: Instant,
    /// When somebody was last told how far it is.
    told: Instant,
}

/// What the film is written by.
enum Writer {
    Plain(FileWriter),
    Cutout(Box<CutoutWriter>),
}

impl Writer {
    fn create(arguments: &Render, manifest: &Manifest, pipelines: &PipelineDir) -> Result<Self, MediaError> {
        if arguments.alpha {
            let size = VideoFormat { width: manifest.width, height: manifest.height };
            return Ok(Self::Cutout(Box::new(CutoutWriter::create(&arguments.out, size, pipelines)?)));
        }
        let (width, height) = manifest.frame_size();
        Ok(Self::Plain(FileWriter::create(&arguments.out, VideoFormat { width, height }, pipelines)?))
    }

    fn write(&mut self, pair: &Pair) -> Result<(), MediaError> {
        match self {
            Self::Plain(writer) => writer.write(pair),
            Self::Cutout(writer) => writer.write(pair),
        }
    }

    fn finish(self) -> Result<(), MediaError> {
        match self {
            Self::Plain(writer) => writer.finish(),
            Self::Cutout(writer) => writer.finish(),
        }
    }
}

struct Shown {
    frames: u64,
    mouths: u64,
    first_mouth: Option<Duration>,
}

impl Film {
    fn run(mut self) -> anyhow::Result<Shown> {
        let mut shown = Shown { frames: 0, mouths: 0, first_mouth: None };
        while let Some(command) = self.queue.blocking_recv() {
            self.schedule.apply(command);
            while self.schedule.is_whole() {
                self.write(&mut shown)?;
            }
        }
        for _ in 0..TAIL_FRAMES {
            self.write(&mut shown)?;
        }
        self.writer.finish()?;
        Ok(shown)
    }

    fn write(&mut self, shown: &mut Shown) -> anyhow::Result<()> {
        let tick = self.schedule.tick();
        if tick.kind == Kind::Mouth {
            shown.mouths += 1;
            shown.first_mouth.get_or_insert_with(|| self.started.elapsed());
        }
        let index = FrameIndex(shown.frames);
        let pair = Pair { index, frame: tick.frame, audio: tick.audio, utterance: tick.utterance };
        let started = Instant::now();
        self.writer.write(&pair)?;
        crate::metrics::encoded(started.elapsed());
        shown.frames += 1;
        if self.told.elapsed() > TELL_EVERY {
            self.told = Instant::now();
            tracing::info!("{} frames", shown.frames);
        }
        Ok(())
    }
}
