//! What the espeak-ng that is installed says of its voices.
//!
//! In here: asking it, its tables, and what of a voice is missing. Runs on: whoever may wait; `Installed::probe` blocks.

use std::ffi::OsStr;
use std::process::Stdio;

use super::process::{STDERR_LIMIT, program_failed};
use super::{espeak_language, not_started};
use crate::speech::{SpeechError, Voice};

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

#[cfg(test)]
mod tests {
    use super::super::tests::voice;
    use super::*;

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
