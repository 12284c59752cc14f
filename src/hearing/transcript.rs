//! What of a recogniser's transcript was said: neither its notes on sounds, nor what it makes up where nobody speaks.
//!
//! Recognisers describe noises (`[BLANK_AUDIO]`, `(music)`, `♪`), tag what they hear (`<|en|>`, `<|nospeech|>`), and, trained
//! on subtitles, write how films end when they are given music or noise. The last can be told from speech only with the
//! listener's help: people do thank each other. So words that are known to be made up count if the listener has heard speech that is
//! as long as they are.
//! Pure.

mod made_up;

pub use made_up::Voice;

/// Brackets around notes.
const BRACKETS: [(char, char); 9] = [
    ('[', ']'),
    ('(', ')'),
    ('{', '}'),
    ('<', '>'),
    ('（', '）'),
    ('［', '］'),
    ('【', '】'),
    ('〔', '〕'),
    ('＜', '＞'),
];
/// What stands for music, around what is sung or alone.
const NOTES: [char; 8] = ['♩', '♪', '♫', '♬', '♭', '♯', '🎵', '🎶'];
/// Notes without their brackets, letters only.
const BARE: [&str; 6] = ["blankaudio", "nospeech", "nonspeech", "novoice", "emounk", "eventunk"];

/// What was said, where the listener heard this much of a voice; nothing if nothing was.
pub fn words_said(transcript: &str, voice: &Voice) -> String {
    let words = without_notes(transcript);
    let letters: String = words.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    if letters.is_empty() || BARE.contains(&letters.as_str()) || made_up::is_made_up(&words, voice) {
        return String::new();
    }
    words
}

fn without_notes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = &rest[first.len_utf8()..];
        rest = match note(first, rest) {
            Some(behind) => {
                kept.push(' ');
                behind
            }
            None => {
                if !is_of_no_word(first) {
                    kept.push(first);
                }
                after
            }
        };
    }
    let words = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    // A mark that divided a note from what follows, and the arrows of captions where speakers change.
    words.trim_start_matches([',', '.', ':', ';', '。', '，', '、', '>', ' ']).trim_start_matches("- ").to_owned()
}

/// What follows the note that the text begins with.
fn note(first: char, text: &str) -> Option<&str> {
    let after = &text[first.len_utf8()..];
    if NOTES.contains(&first) {
        // What is sung, or the mark alone.
        let end = after.find(NOTES);
        return Some(end.map_or(after, |end| after[end..].trim_start_matches(NOTES)));
    }
    if first == '*' {
        let (inner, behind) = after.split_once('*')?;
        let is_note = inner.starts_with(char::is_alphabetic)
            && inner.ends_with(|c: char| c.is_alphabetic() || c == '.')
            && !inner.contains(|c: char| c.is_ascii_digit());
        return is_note.then_some(behind);
    }
    let (_, closing) = BRACKETS.iter().find(|(opening, _)| *opening == first)?;
    let (inner, behind) = after.split_once(*closing)?;
    let has_letters = inner.contains(char::is_alphabetic);
    match first {
        // Whisper's times are tags too.
        '<' if inner.starts_with('|') && inner.ends_with('|') => Some(behind),
        // "a < b" is said.
        '<' => inner.starts_with(|c: char| c.is_alphabetic() || c == '/').then_some(behind),
        // A telephone number is no note.
        '(' | '（' => (has_letters || inner.trim().is_empty() || inner.contains(NOTES)).then_some(behind),
        _ => Some(behind),
    }
}

/// Controls, pictures, and what stands for a character that could not be read.
fn is_of_no_word(c: char) -> bool {
    (c.is_control() && !c.is_whitespace())
        || matches!(c, '\u{fffd}' | '⁇' | '\u{fe0f}' | '\u{200d}' | '\u{2600}'..='\u{27bf}' | '\u{1f000}'..='\u{1faff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        words_said(text, &Voice::default())
    }

    #[test]
    fn notes_alone_are_nothing() {
        for text in [
            "",
            " [BLANK_AUDIO]",
            "(wind blowing)",
            "*sighs*",
            "*coughs loudly*",
            "...",
            "[Music] (music)",
            "♪",
            "♪ ♪",
            "♪♪♪",
            "♪ la la la ♪",
            "🎵 Sunshine 🎵",
            "<|nospeech|>",
            "<|nospeech|><|EMO_UNKNOWN|><|Event_UNK|>",
            "<|en|><|NEUTRAL|><|BGM|><|woitn|>",
            "<|0.00|> <|2.00|>",
            "[_BEG_][_TT_150_]",
            "<unk>",
            "<noise> <sil>",
            "(音楽)",
            "（拍手）",
            "【音楽】",
            "［音楽］",
            "{laughs}",
            "BLANK_AUDIO",
            "[ Silence ]",
            "(♪♪)",
            ">> [music]",
            "- (laughter)",
            "⁇",
            "🎼😊",
            "[music playing].",
            "()",
            "<s></s>",
        ] {
            assert_eq!(said(text), "", "{text}");
        }
    }

    #[test]
    fn words_stay_without_the_notes_around_them() {
        for (text, words) in [
            (" [door] What is\u{0} the\ntime? ", "What is the time?"),
            ("<|en|><|HAPPY|><|Speech|><|withitn|>What is the time?", "What is the time?"),
            ("<|0.00|> What is the time?<|2.00|>", "What is the time?"),
            ("(coughs) What is [inaudible] the time?", "What is the time?"),
            ("[Music], what is the time?", "what is the time?"),
            ("♪ What is the time?", "What is the time?"),
            ("♪ la la ♪ What is the time?", "What is the time?"),
            ("🎼What is the time?😊", "What is the time?"),
            (">> What is the time?", "What is the time?"),
            ("- What is the time?", "What is the time?"),
            ("*laughs* What is the time?", "What is the time?"),
            ("你好。", "你好。"),
            ("Is 2 * 3 * 4 more than 20?", "Is 2 * 3 * 4 more than 20?"),
            ("Is a < b and b > c?", "Is a < b and b > c?"),
            ("Call (555) 123.", "Call (555) 123."),
            ("What (is the time?", "What (is the time?"),
            ("-5 degrees", "-5 degrees"),
            ("देखने के लिए", "देखने के लिए"),
        ] {
            assert_eq!(said(text), words, "{text}");
        }
    }
}
