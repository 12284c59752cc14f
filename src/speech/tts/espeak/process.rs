//! The espeak-ng program, from its text to its end.
//!
//! In here: its three pipes, its sound as it comes, the time that it may take, and reaping it whatever happens. Not in here:
//! the WAV format (`sound::wav`), trimming (`trimmer`). Runs on: the sentence's tokio task, which owns the child.

use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::ENGINE;
use crate::speech::sound::wav::WavReader;
use crate::speech::tts::fair_queue::Permit;
use crate::speech::tts::trimmer::Trimmer;
use crate::speech::{PcmChunk, SpeechError};

/// A chunk of sound.
const CHUNK_MS: usize = 30;
/// What is kept of the program's complaints.
pub(super) const STDERR_LIMIT: usize = 2_048;

type Sender = mpsc::Sender<Result<PcmChunk, SpeechError>>;

/// Owns one child from its text to its end. Every way out kills and reaps it, before its turn is over.
pub(super) async fn serve(mut child: Child, text: String, sender: Sender, limit: Duration, permit: Permit) {
    let outcome = tokio::select! {
        outcome = speak_through(&mut child, &text, &sender, limit) => outcome,
        () = sender.closed() => Err(Stop::NobodyListens),
    };
    // Without an id the child has ended by itself and is reaped already.
    if child.id().is_some()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(program = ENGINE, %error, "could not end the synthesiser");
    }
    drop(permit);
    match outcome {
        Ok(()) | Err(Stop::NobodyListens) => {}
        Err(Stop::Failed(error)) => {
            // Nobody left to tell is fine.
            let _ = sender.send(Err(error)).await;
        }
    }
}

enum Stop {
    NobodyListens,
    Failed(SpeechError),
}

/// Time that is left to the program.
struct Budget {
    left: Duration,
    whole: Duration,
}

impl Budget {
    async fn spend<T>(&mut self, work: impl Future<Output = std::io::Result<T>>) -> Result<T, SpeechError> {
        let started = Instant::now();
        let done = timeout(self.left, work).await;
        self.left = self.left.saturating_sub(started.elapsed());
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(bad_audio(format!("its pipe broke: {error}"))),
            Err(_) => Err(SpeechError::ProgramFailed {
                program: ENGINE,
                status: format!("no end within {:?}", self.whole),
                stderr: "stopped".to_owned(),
            }),
        }
    }
}

async fn speak_through(child: &mut Child, text: &str, sender: &Sender, limit: Duration) -> Result<(), Stop> {
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Stop::Failed(bad_audio("its pipes are missing".to_owned())));
    };
    let mut budget = Budget { left: limit, whole: limit };
    let mut others = std::pin::pin!(async { tokio::join!(read_some(stderr), write_all(stdin, text)).0 });
    let mut complaints = None;
    let audio = {
        let mut audio = std::pin::pin!(forward(stdout, sender, &mut budget));
        loop {
            tokio::select! {
                audio = &mut audio => break audio?,
                text = &mut others, if complaints.is_none() => complaints = Some(text),
            }
        }
    };
    let complaints = match complaints {
        Some(complaints) => complaints,
        None => budget.spend(async { Ok(others.await) }).await.map_err(Stop::Failed)?,
    };
    let status = budget.spend(child.wait()).await.map_err(Stop::Failed)?;
    // Audio that is refused closes the pipe, and the program dies of that: a signal explains less than `audio`.
    if status.code().is_some_and(|code| code != 0) {
        return Err(Stop::Failed(program_failed(status, complaints)));
    }
    audio.map_err(Stop::Failed)?;
    if status.success() { Ok(()) } else { Err(Stop::Failed(program_failed(status, complaints))) }
}

/// Writes the text and closes the pipe, which is when espeak-ng begins. A program that stopped reading says why by
/// its exit status, so a broken pipe here is no error of its own.
async fn write_all(mut stdin: ChildStdin, text: &str) {
    let _ = stdin.write_all(text.as_bytes()).await;
    let _ = stdin.shutdown().await;
}

/// Passes the audio on as it comes. The inner error is for the case that the program itself found nothing wrong.
async fn forward(
    mut stdout: ChildStdout,
    sender: &Sender,
    budget: &mut Budget,
) -> Result<Result<(), SpeechError>, Stop> {
    let mut wav = WavReader::default();
    let mut trimmer = None;
    let mut buffer = vec![0; 8_192];
    loop {
        let length = budget.spend(stdout.read(&mut buffer)).await.map_err(Stop::Failed)?;
        if length == 0 {
            break;
        }
        let samples = match wav.push(&buffer[..length]) {
            Ok(samples) => samples,
            Err(problem) => return Ok(Err(bad_audio(problem.to_string()))),
        };
        if let Some(sample_rate) = wav.sample_rate() {
            let trimmer = trimmer.get_or_insert_with(|| Trimmer::new(sample_rate));
            send(&trimmer.push(&samples), sample_rate, sender).await?;
        }
    }
    match (wav.sample_rate(), trimmer) {
        (Some(sample_rate), Some(trimmer)) => send(&trimmer.finish(), sample_rate, sender).await.map(Ok),
        _ => Ok(Err(bad_audio("it ended before any sample".to_owned()))),
    }
}

async fn send(samples: &[f32], sample_rate: u32, sender: &Sender) -> Result<(), Stop> {
    for part in samples.chunks(sample_rate as usize * CHUNK_MS / 1_000) {
        let chunk = PcmChunk::new(part.to_vec(), sample_rate);
        sender.send(Ok(chunk)).await.map_err(|_| Stop::NobodyListens)?;
    }
    Ok(())
}

/// Reads to the end, so that the program never waits for us, and keeps the beginning.
async fn read_some(mut stderr: impl AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = stderr.read(&mut buffer).await {
        let room = STDERR_LIMIT - kept.len();
        kept.extend_from_slice(&buffer[..length.min(room)]);
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

fn bad_audio(problem: String) -> SpeechError {
    SpeechError::BadAudio { program: ENGINE, problem }
}

pub(super) fn program_failed(status: ExitStatus, stderr: String) -> SpeechError {
    SpeechError::ProgramFailed { program: ENGINE, status: status.to_string(), stderr }
}
