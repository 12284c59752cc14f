//! espeak-ng, one process for each sentence. It is GPL, so it is run and never linked.
//!
//! In here: the process from start to reaping, its audio as it comes, and what the program says of its voices.
//! Not in here: the WAV format (`sound::wav`), trimming (`silence`), choosing a sentence, whose is next (`fair`), how Japanese is
//! read (`japanese`). Runs on: one tokio task per sentence, which owns the child. `Installed::probe` blocks.
//!
//! The text goes through standard input, so nothing in it can become an option; what goes on the command line
//! is checked against narrow alphabets first.

use std::ffi::{OsStr, OsString};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::fair::{Hands, LaneId, Permit, TooMany};
use super::japanese;
use super::silence::Trimmer;
use crate::speech::scripts::primary;
use crate::speech::sentence::speakable;
use crate::speech::sound::wav::WavReader;
use crate::speech::{PcmChunk, PcmStream, SpeechError, Tts, Voice};

/// What a manifest writes in `[voice] engine`, and the program's name.
pub const ENGINE: &str = "espeak-ng";

/// Pieces waiting for the reader: two minutes, so more than any sentence. A program that waited for one session's reader
/// would keep others waiting for their turn.
const PIECES: usize = 4_000;
const PIECE_MS: usize = 30;
/// Programs at once, for all sessions. Each works for some tens of milliseconds.
const AT_ONCE: usize = 8;
/// Time that the program itself may take over one sentence, waiting for the reader not counted. It makes speech a
/// hundred times faster than real time, so only a hanging one gets here.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// What is kept of the program's complaints.
const STDERR_LIMIT: usize = 2_048;

/// Speaks through the espeak-ng program; a clone shares its place in the turns.
#[derive(Clone, Debug)]
pub struct Espeak {
    program: OsString,
    time_limit: Duration,
    hands: Hands,
    lane: LaneId,
}

impl Espeak {
    /// The `espeak-ng` on the search path.
    pub fn new() -> Self {
        Self::with_program(ENGINE)
    }

    /// A certain program instead, by name or path.
    pub fn with_program(program: impl Into<OsString>) -> Self {
        Self { program: program.into(), time_limit: TIME_LIMIT, hands: Hands::new(AT_ONCE), lane: LaneId::next() }
    }

    /// The same with turns of its own; so many programs at once are for all of them.
    pub fn for_session(&self) -> Self {
        Self { lane: LaneId::next(), ..self.clone() }
    }

    fn start(&self, voice: &Voice) -> Result<Child, SpeechError> {
        Command::new(&self.program)
            .args(["--stdin", "--stdout", "-b", "1", "-v"])
            .arg(voice_argument(voice))
            .args(["-s", &voice.rate.to_string(), "-p", &voice.pitch.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            // Out of the terminal's group: Ctrl-C ends the server in its own order, with the sentence said.
            .process_group(0)
            .spawn()
            .map_err(not_started)
    }
}

impl Default for Espeak {
    fn default() -> Self {
        Self::new()
    }
}

impl Tts for Espeak {
    /// Must be called within a tokio runtime. Text without anything to say gives a stream that ends at once.
    fn speak(&self, text: &str, voice: &Voice) -> Result<PcmStream, SpeechError> {
        check(voice)?;
        let (sender, stream) = mpsc::channel(PIECES);
        let Some(text) = speakable(text) else {
            return Ok(stream);
        };
        // Without a runtime tokio panics; `speak` is called from one, but a mistake must not take the server down.
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(not_started(std::io::Error::other("speak was called outside of the tokio runtime")));
        }
        // In `[[ ]]` espeak-ng reads phonemes instead of words.
        let text = text.replace("[[", "[ [");
        let mut turn = self.hands.ask(self.lane).map_err(|TooMany| too_many())?;
        let is_japanese = primary(&voice.language) == "ja";
        match if is_japanese { None } else { turn.try_recv().ok() } {
            // Its turn already: who asks is told at once if there is no such program.
            Some(permit) => {
                let child = self.start(voice)?;
                tokio::spawn(serve(child, text, sender, self.time_limit, permit));
            }
            None => {
                let (espeak, voice) = (self.clone(), voice.clone());
                tokio::spawn(async move {
                    let text = if is_japanese { japanese::in_kana(&text).await } else { text };
                    if !text.chars().any(char::is_alphanumeric) {
                        return;
                    }
                    let permit = tokio::select! {
                        permit = turn => permit,
                        () = sender.closed() => return,
                    };
                    let Ok(permit) = permit else { return };
                    match espeak.start(&voice) {
                        Ok(child) => serve(child, text, sender, espeak.time_limit, permit).await,
                        // Nobody left to tell is fine.
                        Err(error) => drop(sender.send(Err(error)).await),
                    }
                });
            }
        }
        Ok(stream)
    }
}

fn too_many() -> SpeechError {
    not_started(std::io::Error::other("too many sentences wait for it already"))
}

fn not_started(source: std::io::Error) -> SpeechError {
    match source.kind() {
        std::io::ErrorKind::NotFound => SpeechError::ProgramMissing { program: ENGINE, source },
        _ => SpeechError::ProgramNotStarted { program: ENGINE, source },
    }
}

/// Says which field of `voice` cannot go on espeak-ng's command line.
pub fn check(voice: &Voice) -> Result<(), SpeechError> {
    let bad = |field, value: &str, expected| {
        Err(SpeechError::BadVoice { field, value: value.chars().take(80).collect(), expected })
    };
    let plain = |text: &str, also: &[u8]| {
        text.len() <= 32
            && text.starts_with(|first: char| first.is_ascii_alphanumeric())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || also.contains(&byte))
    };
    if !plain(&voice.language, b"-") {
        return bad("language", &voice.language, "a language tag such as en-us or cmn");
    }
    if !voice.name.is_empty() && !plain(&voice.name, b"-_") {
        return bad("name", &voice.name, "the name of an espeak-ng variant such as f3, or nothing");
    }
    if !(80..=450).contains(&voice.rate) {
        return bad("rate", &voice.rate.to_string(), "80 to 450 words a minute");
    }
    if voice.pitch > 99 {
        return bad("pitch", &voice.pitch.to_string(), "0 to 99");
    }
    Ok(())
}

fn voice_argument(voice: &Voice) -> String {
    let language = espeak_language(&voice.language);
    if voice.name.is_empty() { language } else { format!("{language}+{}", voice.name) }
}

/// espeak-ng's name for a language tag.
///
/// Its voice `cmn` reads the pinyin of Chinese characters with English sounds ("Mandarin, latin as English"); the
/// one that speaks Mandarin is `cmn-latn-pinyin`, characters included.
fn espeak_language(tag: &str) -> String {
    let tag = tag.to_ascii_lowercase();
    match tag.split('-').next() {
        Some("zh" | "cmn") if tag != "zh-yue" => "cmn-latn-pinyin".to_owned(),
        _ => tag,
    }
}

/// Owns one child from its text to its end. Every way out kills and reaps it, before its turn is over.
async fn serve(
    mut child: Child,
    text: String,
    sender: mpsc::Sender<Result<PcmChunk, SpeechError>>,
    limit: Duration,
    permit: Permit,
) {
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

async fn speak_through(
    child: &mut Child,
    text: &str,
    sender: &mpsc::Sender<Result<PcmChunk, SpeechError>>,
    limit: Duration,
) -> Result<(), Stop> {
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
    sender: &mpsc::Sender<Result<PcmChunk, SpeechError>>,
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

async fn send(
    samples: &[f32],
    sample_rate: u32,
    sender: &mpsc::Sender<Result<PcmChunk, SpeechError>>,
) -> Result<(), Stop> {
    for piece in samples.chunks(sample_rate as usize * PIECE_MS / 1_000) {
        let chunk = PcmChunk::new(piece.to_vec(), sample_rate);
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

/// What an installed espeak-ng offers.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Installed {
    /// As it names itself, such as `1.51`.
    pub version: String,
    /// Language tags it can speak.
    #[serde(skip)]
    pub languages: Vec<String>,
    /// Voice variants, such as `f3`.
    #[serde(skip)]
    pub variants: Vec<String>,
}

impl Installed {
    /// Asks the program. Blocks for some tens of milliseconds.
    pub fn probe(program: impl AsRef<OsStr>) -> Result<Self, SpeechError> {
        let ask = |argument: &str| {
            let output = std::process::Command::new(program.as_ref())
                .arg(argument)
                .stdin(Stdio::null())
                .output()
                .map_err(not_started)?;
            if output.status.success() {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned())
            } else {
                let stderr = String::from_utf8_lossy(&output.stderr).chars().take(STDERR_LIMIT).collect();
                Err(program_failed(output.status, stderr))
            }
        };
        let version = ask("--version")?;
        let version = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        Ok(Self {
            version: version.unwrap_or("unknown").to_owned(),
            languages: parse_languages(&ask("--voices")?),
            variants: parse_variants(&ask("--voices=variant")?),
        })
    }

    /// Says what of `voice` is missing. espeak-ng itself ignores an unknown variant without a word.
    pub fn supports(&self, voice: &Voice) -> Result<(), String> {
        let language = espeak_language(&voice.language);
        let primary = language.split('-').next().unwrap_or_default();
        if !self.languages.iter().any(|known| *known == language || known == primary) {
            return Err(format!("espeak-ng {} has no language {:?}", self.version, voice.language));
        }
        if !voice.name.is_empty() && !self.variants.contains(&voice.name) {
            let some: Vec<&str> = self.variants.iter().map(String::as_str).take(12).collect();
            return Err(format!(
                "espeak-ng {} has no variant {:?}; it has {} ...",
                self.version,
                voice.name,
                some.join(", ")
            ));
        }
        Ok(())
    }
}

/// Second column, and the tags in brackets of the last: `5 cmn --/M Name sit/cmn (zh-cmn 5)(zh 5)`.
fn parse_languages(table: &str) -> Vec<String> {
    let mut languages = Vec::new();
    for line in table.lines().skip(1) {
        languages.extend(line.split_whitespace().nth(1).map(str::to_lowercase));
        let others = line.split('(').skip(1).filter_map(|other| other.split_whitespace().next());
        // A voice's name may hold brackets too: `Chinese_(Mandarin,...`.
        languages.extend(others.filter(|tag| !tag.contains([',', '_', ')'])).map(str::to_lowercase));
    }
    languages.sort();
    languages.dedup();
    languages
}

/// The file's name under `!v/`, which is what `-v` takes.
fn parse_variants(table: &str) -> Vec<String> {
    let file = |line: &str| line.split_once("!v/").map(|(_, file)| file.trim_end().to_owned());
    table.lines().filter_map(file).collect()
}

fn bad_audio(problem: String) -> SpeechError {
    SpeechError::BadAudio { program: ENGINE, problem }
}

fn program_failed(status: ExitStatus, stderr: String) -> SpeechError {
    SpeechError::ProgramFailed { program: ENGINE, status: status.to_string(), stderr }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn voice() -> Voice {
        Voice { engine: ENGINE.to_owned(), language: "en-us".to_owned(), name: "f3".to_owned(), rate: 170, pitch: 50 }
    }

    /// A program of our own in the place of espeak-ng.
    fn program(script: &str) -> (tempfile::TempDir, Espeak) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, Espeak::with_program(path))
    }

    async fn listen(mut stream: PcmStream) -> Result<usize, SpeechError> {
        let mut samples = 0;
        while let Some(chunk) = stream.recv().await {
            samples += chunk?.samples.len();
        }
        Ok(samples)
    }

    #[test]
    fn nothing_but_plain_names_and_numbers_reaches_the_command_line() {
        let bad = [
            Voice { language: "-w/tmp/x".to_owned(), ..voice() },
            Voice { language: "../../etc".to_owned(), ..voice() },
            Voice { language: String::new(), ..voice() },
            Voice { name: "f3+x".to_owned(), ..voice() },
            Voice { name: "a".repeat(33), ..voice() },
            Voice { rate: 79, ..voice() },
            Voice { rate: 451, ..voice() },
            Voice { pitch: 100, ..voice() },
        ];
        for voice in bad {
            assert!(matches!(check(&voice), Err(SpeechError::BadVoice { .. })), "{voice:?} was accepted");
        }
        assert_eq!(voice_argument(&voice()), "en-us+f3");
        assert_eq!(
            voice_argument(&Voice { name: String::new(), language: "zh-CN".to_owned(), ..voice() }),
            "cmn-latn-pinyin"
        );
    }

    #[tokio::test]
    async fn a_failing_program_is_quoted() {
        let (_folder, espeak) = program("cat >/dev/null; echo 'no such voice' >&2; exit 3");
        let error = listen(espeak.speak("Hello.", &voice()).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such voice"), "{error}");
    }

    #[tokio::test]
    async fn a_program_that_reads_nothing_and_complains_for_ever_is_stopped() {
        let (_folder, mut espeak) = program("yes complaint >&2");
        espeak.time_limit = Duration::from_millis(200);
        let text = "word ".repeat(100_000);
        let error = listen(espeak.speak(&text, &voice()).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("no end within 200ms"), "{error}");
    }

    #[tokio::test]
    async fn output_that_is_no_wav_is_refused() {
        let (_folder, espeak) = program("cat >/dev/null; exec yes");
        let error = listen(espeak.speak("Hello.", &voice()).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("does not start like a WAV file"), "{error}");
        let (_folder, espeak) = program("cat >/dev/null");
        let error = listen(espeak.speak("Hello.", &voice()).unwrap()).await.unwrap_err().to_string();
        assert!(error.contains("ended before any sample"), "{error}");
    }

    #[tokio::test]
    async fn text_is_only_ever_standard_input() {
        let (folder, espeak) = program("cat >\"$0.text\"; echo \"$@\" >\"$0.arguments\"; exit 1");
        let text = "--version [[h@l'oU]] $(reboot) `x`";
        listen(espeak.speak(text, &voice()).unwrap()).await.unwrap_err();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(read("program.arguments").trim(), "--stdin --stdout -b 1 -v en-us+f3 -s 170 -p 50");
        assert!(read("program.text").starts_with("--version [ [h@l'oU]]"), "{}", read("program.text"));
    }

    #[tokio::test]
    async fn nothing_to_say_starts_no_program() {
        let espeak = Espeak::with_program("/nonexistent/espeak-ng");
        assert_eq!(listen(espeak.speak("\u{1f600} ... \u{7}", &voice()).unwrap()).await.unwrap(), 0);
        let error = espeak.speak("Hello.", &voice()).unwrap_err();
        assert!(matches!(error, SpeechError::ProgramMissing { .. }), "{error}");
        assert!(error.to_string().contains("apt-get install espeak-ng"), "{error}");
    }

    #[test]
    fn speaking_outside_a_runtime_is_an_error() {
        assert!(matches!(Espeak::new().speak("Hello.", &voice()), Err(SpeechError::ProgramNotStarted { .. })));
    }

    #[test]
    fn tables_of_voices_are_read() {
        let table = "Pty Language       Age/Gender VoiceName          File                 Other Languages\n \
                     5  cmn             --/M      Chinese_(Mandarin,_latin_as_English) sit/cmn    (zh-cmn 5)(zh 5)\n \
                     2  en-us           --/M      English_(America)  gmw/en-US            (en 3)\n";
        assert_eq!(parse_languages(table), ["cmn", "en", "en-us", "zh", "zh-cmn"]);
        assert_eq!(
            parse_variants(" 5  variant --/F  Annie   !v/Annie \n 5 variant --/M Mr !v/Mr serious\n"),
            ["Annie", "Mr serious"]
        );
        let installed =
            Installed { version: "1.51".into(), languages: parse_languages(table), variants: vec!["f3".into()] };
        assert_eq!(installed.supports(&voice()), Ok(()));
        assert!(
            installed.supports(&Voice { name: "f9".to_owned(), ..voice() }).unwrap_err().contains("no variant \"f9\"")
        );
        assert!(
            installed.supports(&Voice { language: "xx".to_owned(), ..voice() }).unwrap_err().contains("no language")
        );
    }
}
