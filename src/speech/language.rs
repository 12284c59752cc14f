//! Which language a text is in, run by run, as far as its letters tell.
//!
//! In here: pure functions on Unicode scripts. Letters that several languages share are those of the language that is spoken
//! most, unless a letter that only another one has is among them. Latin letters are never told apart: who speaks one language
//! that is written with them is given all. Not in here: which voices there are (`tts::multilingual`).

use unicode_script::{Script, UnicodeScript};

/// A part of a text in one language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run<'t> {
    /// With the spaces and marks that belong to it.
    pub text: &'t str,
    /// Who speaks it.
    pub language: RunLanguage,
}

/// Who has to speak a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunLanguage {
    /// The voice whose text it is.
    Own,
    /// One of this language (BCP 47).
    Other {
        /// Its tag.
        language: &'static str,
        /// What its letters are called in English.
        script: &'static str,
    },
}

/// A script, the languages that are told by letters of their own, and the language that is meant without such.
type KnownScript = (Script, &'static [(&'static str, &'static str)], &'static str);

/// From the language of the fewest texts on: whose letters others have too comes later.
const CYRILLIC: &[(&str, &str)] = &[
    ("ba", "ҙҫҡҘҪҠ"),
    ("cv", "ӑӗӳӐӖӲ"),
    ("kk", "ұғҚқҰҒ"),
    ("tt", "җҗҖ"),
    ("mn", "өүӨҮ"),
    ("sr", "јљњђћџЈЉЊЂЋЏ"),
    ("mk", "ѓќѕЃЌЅ"),
    ("be", "ўЎ"),
    ("uk", "іїєґІЇЄҐ"),
    ("ru", "ыэёЫЭЁ"),
];
const ARABIC: &[(&str, &str)] =
    &[("sd", "ٻڀٺڦڄڃڇڏڌڊ"), ("ug", "ېۈۆۋە"), ("ps", "ښځڅډړږټ"), ("ur", "ٹڈڑںےہھ"), ("fa", "پچژگکی")];
const DEVANAGARI: &[(&str, &str)] = &[("mr", "ळ")];
const BENGALI: &[(&str, &str)] = &[("as", "ৰৱ")];

const SCRIPTS: &[KnownScript] = &[
    (Script::Han, &[], "cmn"),
    (Script::Bopomofo, &[], "cmn"),
    (Script::Hiragana, &[], "ja"),
    (Script::Katakana, &[], "ja"),
    (Script::Hangul, &[], "ko"),
    (Script::Cyrillic, CYRILLIC, "ru"),
    (Script::Greek, &[], "el"),
    (Script::Arabic, ARABIC, "ar"),
    (Script::Hebrew, &[], "he"),
    (Script::Thai, &[], "th"),
    (Script::Devanagari, DEVANAGARI, "hi"),
    (Script::Bengali, BENGALI, "bn"),
    (Script::Gurmukhi, &[], "pa"),
    (Script::Gujarati, &[], "gu"),
    (Script::Oriya, &[], "or"),
    (Script::Tamil, &[], "ta"),
    (Script::Telugu, &[], "te"),
    (Script::Kannada, &[], "kn"),
    (Script::Malayalam, &[], "ml"),
    (Script::Sinhala, &[], "si"),
    (Script::Myanmar, &[], "my"),
    (Script::Georgian, &[], "ka"),
    (Script::Armenian, &[], "hy"),
    (Script::Ethiopic, &[], "am"),
    (Script::Cherokee, &[], "chr"),
    (Script::Khmer, &[], "km"),
    (Script::Lao, &[], "lo"),
    (Script::Tibetan, &[], "bo"),
];
/// Written with another script than Latin: the language, and the scripts that are its own.
const LANGUAGES: &[(&[&str], &[Script])] = &[
    (&["zh", "cmn", "yue", "hak", "nan", "wuu"], &[Script::Han, Script::Bopomofo]),
    (&["ja"], &[Script::Han, Script::Hiragana, Script::Katakana]),
    (&["ko"], &[Script::Hangul]),
    (&["ru", "uk", "be", "bg", "mk", "sr", "kk", "ky", "tt", "ba", "cv", "mn", "tg", "nog"], &[Script::Cyrillic]),
    (&["el", "grc"], &[Script::Greek]),
    (&["ar", "fa", "ur", "sd", "ug", "ps"], &[Script::Arabic]),
    (&["he", "yi"], &[Script::Hebrew]),
    (&["th"], &[Script::Thai]),
    (&["hi", "mr", "ne", "kok", "sa"], &[Script::Devanagari]),
    (&["bn", "as", "bpy"], &[Script::Bengali]),
    (&["pa"], &[Script::Gurmukhi]),
    (&["gu"], &[Script::Gujarati]),
    (&["or"], &[Script::Oriya]),
    (&["ta"], &[Script::Tamil]),
    (&["te"], &[Script::Telugu]),
    (&["kn"], &[Script::Kannada]),
    (&["ml"], &[Script::Malayalam]),
    (&["si"], &[Script::Sinhala]),
    (&["my", "shn"], &[Script::Myanmar]),
    (&["ka"], &[Script::Georgian]),
    (&["hy", "hyw"], &[Script::Armenian]),
    (&["am", "ti"], &[Script::Ethiopic]),
    (&["chr"], &[Script::Cherokee]),
    (&["km"], &[Script::Khmer]),
    (&["lo"], &[Script::Lao]),
    (&["bo", "dz"], &[Script::Tibetan]),
];
/// The language of Latin letters for a voice whose own are others.
const LATIN: &str = "en-us";

/// The first part of a language tag, which is the language itself.
pub fn primary(language: &str) -> String {
    language.split('-').next().unwrap_or_default().to_ascii_lowercase()
}

/// The text cut where its language changes, for a voice of this language. All together they are the text.
pub fn runs<'t>(text: &'t str, language: &str) -> Vec<Run<'t>> {
    if text.is_ascii() && own_scripts(language) == [Script::Latin] {
        return if text.is_empty() { Vec::new() } else { vec![Run { text, language: RunLanguage::Own }] };
    }
    let letters: Vec<(usize, char)> = text.char_indices().collect();
    let kinds = kinds(&letters);
    let own = own_scripts(language);
    let is_japanese = is_japanese(&kinds, language);
    // Where a run begins, and whose it is.
    let mut starts: Vec<(usize, Script)> = Vec::new();
    for (at, kind) in kinds.iter().enumerate() {
        let Some(script) = kind.map(|script| joined(script, is_japanese)) else { continue };
        match starts.last() {
            Some((_, last)) if *last == script => {}
            Some(_) => starts.push((begins_with(&letters, &kinds, at), script)),
            None => starts.push((0, script)),
        }
    }
    let mut runs: Vec<Run<'t>> = Vec::new();
    for (number, (from, script)) in starts.iter().enumerate() {
        let end = starts.get(number + 1).map_or(text.len(), |(next, _)| letters[*next].0);
        let text_of = &text[letters[*from].0..end];
        let language = match () {
            () if own.contains(script) => RunLanguage::Own,
            () if *script == Script::Latin => RunLanguage::Other { language: LATIN, script: "Latin" },
            () => RunLanguage::Other { language: language_of(*script, text_of), script: script.full_name() },
        };
        match runs.last_mut() {
            // Of one voice, though of another script: it is one run.
            Some(last) if last.language == language => {
                let begin = end - text_of.len() - last.text.len();
                last.text = &text[begin..end];
            }
            _ => runs.push(Run { text: text_of, language }),
        }
    }
    if runs.is_empty() && !text.is_empty() {
        runs.push(Run { text, language: RunLanguage::Own });
    }
    runs
}

/// What a language is written with.
fn own_scripts(language: &str) -> Vec<Script> {
    let primary = primary(language);
    if language.to_ascii_lowercase().ends_with("-latn") {
        return vec![Script::Latin];
    }
    let known = LANGUAGES.iter().find(|(languages, _)| languages.contains(&primary.as_str()));
    known.map_or_else(|| vec![Script::Latin], |(_, scripts)| scripts.to_vec())
}

/// The script of each letter; none of what all scripts share, and of a Greek letter that stands alone: that is a sign.
fn kinds(letters: &[(usize, char)]) -> Vec<Option<Script>> {
    let script = |letter: char| match letter.script() {
        Script::Common if matches!(letter, 'ー' | 'ｰ') => Some(Script::Katakana),
        Script::Common | Script::Inherited | Script::Unknown => None,
        script => Some(script),
    };
    let mut kinds: Vec<Option<Script>> = letters.iter().map(|(_, letter)| script(*letter)).collect();
    let is_greek = |kinds: &[Option<Script>], at: usize| kinds.get(at) == Some(&Some(Script::Greek));
    let others = kinds.iter().flatten().any(|script| *script != Script::Greek);
    for at in 0..kinds.len() {
        let follows_one = at > 0 && letters[at - 1].1.script() == Script::Greek;
        let alone = !follows_one && !is_greek(&kinds, at + 1);
        if is_greek(&kinds, at)
            && alone
            && (others || kinds.len() < 2 || letters.iter().any(|(_, c)| c.is_ascii_digit()))
        {
            kinds[at] = None;
        }
    }
    kinds
}

/// Whether Chinese characters are Japanese here: among kana, not around a few of them.
fn is_japanese(kinds: &[Option<Script>], language: &str) -> bool {
    let count = |of: &[Script]| kinds.iter().flatten().filter(|script| of.contains(script)).count();
    let (kana, han) = (count(&[Script::Hiragana, Script::Katakana]), count(&[Script::Han]));
    primary(language) == "ja" || kana * 4 > han
}

/// Scripts that one language mixes are one.
fn joined(script: Script, is_japanese: bool) -> Script {
    match script {
        Script::Hiragana | Script::Katakana => Script::Katakana,
        Script::Han if is_japanese => Script::Katakana,
        Script::Bopomofo => Script::Han,
        script => script,
    }
}

/// Where the run of the letter at `at` begins: what stands before it without a space, such as a quote or a number, is its own
/// if there is a space before that.
fn begins_with(letters: &[(usize, char)], kinds: &[Option<Script>], at: usize) -> usize {
    let shared = kinds[..at].iter().rev().take_while(|kind| kind.is_none()).count();
    let space = letters[at - shared..at].iter().rposition(|(_, letter)| letter.is_whitespace());
    space.map_or(at, |space| at - shared + space + 1)
}

fn language_of(script: Script, text: &str) -> &'static str {
    let Some((_, others, usual)) = SCRIPTS.iter().find(|(known, ..)| *known == script) else {
        // Nobody speaks it; its name says which it is.
        return "und";
    };
    let told = others.iter().find(|(_, letters)| text.chars().any(|letter| letters.contains(letter)));
    told.map_or(usual, |(language, _)| language)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, language: &str) -> Vec<(String, &'static str)> {
        let runs = runs(text, language);
        assert_eq!(runs.iter().map(|run| run.text).collect::<String>(), text);
        let language = |run: &Run<'_>| match run.language {
            RunLanguage::Own => "own",
            RunLanguage::Other { language, .. } => language,
        };
        runs.iter().map(|run| (run.text.to_owned(), language(run))).collect()
    }

    #[test]
    fn a_text_is_cut_where_its_language_changes() {
        for (text, language, expected) in [
            ("Hello.", "en-us", vec![("Hello.", "own")]),
            ("", "en-us", vec![]),
            ("123, 456!", "cmn", vec![("123, 456!", "own")]),
            ("你好，世界。", "en-us", vec![("你好，世界。", "cmn")]),
            ("你好，世界。", "zh-CN", vec![("你好，世界。", "own")]),
            ("她说 hello 然后走了。", "en-us", vec![("她说 ", "cmn"), ("hello ", "own"), ("然后走了。", "cmn")]),
            ("她说 hello 然后走了。", "cmn", vec![("她说 ", "own"), ("hello ", "en-us"), ("然后走了。", "own")]),
            (
                "Say \"Привет, как дела?\" now.",
                "en-us",
                vec![("Say ", "own"), ("\"Привет, как дела?\" ", "ru"), ("now.", "own")],
            ),
            ("2026年1月5日 at 10:00", "en-us", vec![("2026年1月5日 ", "cmn"), ("at 10:00", "own")]),
            ("I have 3 苹果", "en-us", vec![("I have 3 ", "own"), ("苹果", "cmn")]),
            ("今日は日本語を話します。", "en-us", vec![("今日は日本語を話します。", "ja")]),
            ("カタカナのラーメン", "ja", vec![("カタカナのラーメン", "own")]),
            ("这个词是日语「の」的意思吗", "en", vec![("这个词是日语「", "cmn"), ("の」", "ja"), ("的意思吗", "cmn")]),
            ("안녕하세요 친구", "en", vec![("안녕하세요 친구", "ko")]),
            ("Καλημέρα σας, π≈3", "el", vec![("Καλημέρα σας, π≈3", "own")]),
            ("Καλημέρα", "en", vec![("Καλημέρα", "el")]),
            ("π≈3.14, Δx and α", "en", vec![("π≈3.14, Δx and α", "own")]),
            ("Merci beaucoup. Škoda.", "en-us", vec![("Merci beaucoup. Škoda.", "own")]),
            ("שלום עולם", "en", vec![("שלום עולם", "he")]),
            ("ខ្មែរ", "en", vec![("ខ្មែរ", "km")]),
            ("ᚠᚢᚦ", "en", vec![("ᚠᚢᚦ", "und")]),
            ("Москва — столица", "sr-latn", vec![("Москва — столица", "ru")]),
        ] {
            let expected: Vec<(String, &str)> = expected.into_iter().map(|(text, of)| (text.to_owned(), of)).collect();
            assert_eq!(cut(text, language), expected, "{text}");
        }
    }

    #[test]
    fn letters_that_only_one_language_has_tell_it() {
        for (text, language) in [
            ("Привет, как дела?", "ru"),
            ("Привіт, як справи?", "uk"),
            ("Љубав је вечна", "sr"),
            ("Прывітанне, сябры ў школе", "be"),
            ("Қалыңыз қалай", "kk"),
            ("مرحبا بالعالم", "ar"),
            ("سلام چطوری", "fa"),
            ("آپ کیسے ہیں", "ur"),
            ("नमस्ते दुनिया", "hi"),
            ("तुम्ही कसे आहात बाळ", "mr"),
            ("สวัสดีชาวโลก", "th"),
            ("გამარჯობა", "ka"),
            ("Բարեւ", "hy"),
            ("ሰላም", "am"),
            ("வணக்கம்", "ta"),
        ] {
            assert_eq!(cut(text, "en-us"), [(text.to_owned(), language)], "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_cut_into_itself(text in "\\PC{0,40}", language in "en|zh|ja|ru|ar") {
            cut(&text, &language);
        }
    }
}
