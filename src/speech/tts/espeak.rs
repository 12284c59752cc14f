//! espeak-ng, one process for each sentence. It is GPL, so it is run and never linked.
//!
//! In here: a sentence's turn and its command line; `process` has the program from its text to its end, `installed` what it
//! says of its voices, `languages` the voices of all languages. Not in here: whose sentence is next (`fair_queue`), how Japanese is
//! read (`japanese`). Runs on: one tokio task per sentence, which owns the child.
//!
//! The text goes through standard input, so nothing in it can become an option; what goes on the command line
//! is checked against narrow alphabets first.

mod installed;
mod languages;
mod process;

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::fair_queue::{FairSemaphore, LaneId, TooMany};
use super::japanese;
use crate::speech::clean::speakable;
use crate::speech::language::primary;
use crate::speech::{PcmStream, SpeechError, Tts, Voice, pcm};
pub use installed::Installed;
pub(super) use languages::EspeakVoices;
use process::serve;

/// What a manifest writes in `[voice] engine`, and the program's name.
pub const ENGINE: &str = "espeak-ng";

/// Chunks that are made ahead of the listener: two minutes, so more than any sentence. A program that waited for one session's reader
/// would keep others waiting for their turn.
const CHUNKS: usize = 4_000;
/// Programs at once, for all sessions. Each works for some tens of milliseconds.
const AT_ONCE: usize = 8;
/// Time that the program itself may take over one sentence, waiting for the reader not counted. It makes speech a
/// hundred times faster than real time, so only a hanging one gets here.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Speaks through the espeak-ng program; a clone shares its place in the turns.
#[derive(Clone, Debug)]
pub struct Espeak {
    program: OsString,
    time_limit: Duration,
    programs: FairSemaphore,
    lane: LaneId,
}

impl Espeak {
    /// The `espeak-ng` on the search path.
    pub fn new() -> Self {
        Self::with_program(ENGINE)
    }

    /// A certain program instead, by name or path.
    pub fn with_program(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            time_limit: TIME_LIMIT,
            programs: FairSemaphore::new(AT_ONCE),
            lane: LaneId::next(),
        }
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
        let Some(text) = speakable(text) else { return Ok(pcm::silent()) };
        let (sender, chunks) = mpsc::channel(CHUNKS);
        // Without a runtime tokio panics; `speak` is called from one, but a mistake must not take the server down.
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(not_started(std::io::Error::other("speak was called outside of the tokio runtime")));
        }
        // In `[[ ]]` espeak-ng reads phonemes instead of words.
        let text = text.replace("[[", "[ [");
        let mut turn = self.programs.acquire(self.lane).map_err(|TooMany| too_many())?;
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
        Ok(pcm::received(chunks))
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;
    use std::os::unix::fs::PermissionsExt;

    pub(super) fn voice() -> Voice {
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
        while let Some(chunk) = stream.next().await {
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
        let error = espeak.speak("Hello.", &voice()).err().unwrap();
        assert!(matches!(error, SpeechError::ProgramMissing { .. }), "{error}");
        assert!(error.to_string().contains("apt-get install espeak-ng"), "{error}");
    }

    #[test]
    fn speaking_outside_a_runtime_is_an_error() {
        assert!(matches!(Espeak::new().speak("Hello.", &voice()), Err(SpeechError::ProgramNotStarted { .. })));
    }
}
