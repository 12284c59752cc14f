//! How Japanese is read: espeak-ng knows kana and names every Chinese character "Chinese letter", MeCab knows their readings.
//!
//! In here: MeCab, one short process for a sentence, run and never linked, and what is left of a text where it is not
//! installed. Not in here: speaking (`espeak`). Runs on: the sentence's tokio task.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;
use unicode_script::{Script, UnicodeScript};

/// Debian's `mecab`, with its dictionary `mecab-ipadic-utf8`.
const PROGRAM: &str = "mecab";
/// The ninth feature of a word is how it is pronounced, particles too; a word that is not known is written as it is.
const FORMAT: [&str; 3] = ["--node-format=%f[8]", "--unk-format=%m", "--eos-format=\\n"];
/// It takes some milliseconds.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// Whether a text has characters whose reading has to be looked up.
pub(super) fn has_kanji(text: &str) -> bool {
    text.chars().any(is_kanji)
}

fn is_kanji(character: char) -> bool {
    character.script() == Script::Han
}

/// The text in kana. Kanji that nobody can read are left out: espeak-ng would name each of them.
pub(super) async fn in_kana(text: &str) -> String {
    let text = icu_normalizer::ComposingNormalizerBorrowed::new_nfkc().normalize(text).into_owned();
    if !has_kanji(&text) {
        return text;
    }
    let text = with_months(&text);
    match timeout(TIME_LIMIT, ask(&text)).await {
        Ok(Some(kana)) => kana,
        _ => text.chars().filter(|character| !is_kanji(*character)).collect(),
    }
}

/// A month behind its number is read otherwise than the moon, which the dictionary knows of wide digits only; those it would
/// read one by one.
fn with_months(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '月' if out.ends_with(|before: char| before.is_ascii_digit()) => out.push_str("がつ"),
            _ => out.push(character),
        }
    }
    out
}

/// Whether kanji can be read here.
pub(super) async fn reads_kanji() -> bool {
    matches!(timeout(TIME_LIMIT, ask("漢字")).await, Ok(Some(kana)) if !has_kanji(&kana))
}

async fn ask(text: &str) -> Option<String> {
    let mut child = Command::new(PROGRAM)
        .args(FORMAT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .process_group(0)
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    // Fits into a pipe, so it is written before anything is read.
    stdin.write_all(text.as_bytes()).await.ok()?;
    stdin.write_all(b"\n").await.ok()?;
    drop(stdin);
    let output = child.wait_with_output().await.ok()?;
    let kana = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let kana: String = kana.chars().filter(|character| !is_kanji(*character)).collect();
    (output.status.success() && !kana.is_empty()).then_some(kana)
}
