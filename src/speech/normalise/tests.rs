//! What is said of what people write. `tests/fixtures/texts_said.txt` holds texts, each with what an English voice is given
//! of it below: sentences parted by ` | `, pauses as `[milliseconds]`.

use super::*;
use proptest::prelude::*;

fn spoken_text(sentence: &str, language: &str) -> Option<String> {
    spoken_form(sentence, language).map(|spoken| spoken.text)
}

/// Pauses as their milliseconds.
fn shown(said: &str) -> String {
    said.chars().map(|c| pause_ms(c).map_or_else(|| c.to_string(), |ms| format!("[{ms}]"))).collect()
}

#[test]
fn what_voices_read_badly_is_written_out() {
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/texts_said.txt");
    let lines = std::fs::read_to_string(fixture).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let mut other = Vec::new();
    for pair in lines.chunks(2) {
        let said = shown(&sentences(pair[0], "en-us").join(" | "));
        if said != pair[1].trim_start() {
            other.push(format!("{}\n  is  {said}\n  not {}", pair[0], pair[1].trim_start()));
        }
    }
    assert!(lines.len() > 100 && other.is_empty(), "{} differ:\n{}", other.len(), other.join("\n"));
}

#[test]
fn what_was_right_stays_right() {
    for (text, said) in [
        ("See https://www.example.com/a_b?q=1#x.", "See example dot com."),
        ("(see <https://docs.rs/tokio>), or www.a.org!", "(see docs dot rs), or a dot org!"),
        ("Mail jo.doe@example.org, please.", "Mail jo dot doe at example dot org, please."),
        ("It costs $5.20, or €1, or £1,000.00.", "It costs 5 dollars 20, or 1 euro, or 1,000 pounds."),
        ("About $3 million.", "About 3 million dollars."),
        ("On 2024-05-01, 3-5 people", "On May first, 2024, 3 to 5 people"),
        ("a 1 GB file, ~5 MB.", "a 1 gigabyte file, about 5 megabytes."),
        ("Tom &amp; Jerry: 1 + 1 = 2, e.g. this", "Tom and Jerry: 1 plus 1 equals 2, for example this"),
        ("3.14, 1,000 and 10:30 stay.", "3.14, 1,000 and ten thirty stay."),
        ("**Bold** [guide](https://a.b/c) `code`", "Bold guide code"),
        ("well-known self-made re-use", "well-known self-made re-use"),
        ("She said: \"I'm fine, it's OK.\"", "She said: \"I'm fine, it's OK.\""),
        (
            "Please come in. May I? I am 5 and in May 5 of us go.",
            "Please come in. May I? I am 5 and in May fifth of us go.",
        ),
    ] {
        assert_eq!(spoken_text(text, "en-us").as_deref(), Some(said), "{text}");
    }
}

#[test]
fn in_other_languages_their_voices_know_numbers() {
    for (text, language, said) in [
        ("Siehe https://example.com/lang/weg: 5 km & $5", "de", "Siehe example.com: 5 km & $5"),
        ("Das kostet 49,50 € oder 1\u{202f}299,50 €.", "de-DE", "Das kostet 49,50 € oder 1299,50 €."),
        ("你好，世界。", "cmn", "你好，世界。"),
        ("价格是 $5 左右，涨了5%。", "zh-CN", "价格是 5美元 左右，涨了百分之5。"),
        ("5%です。€2,000の本", "ja", "5パーセントです。2000ユーロの本"),
        ("他花了$5去 see 5 km & more.", "cmn", "他花了5美元去 see 5 kilometers and more."),
    ] {
        assert_eq!(spoken_text(text, language).as_deref(), Some(said), "{text}");
    }
}

#[test]
fn each_written_word_knows_what_is_said_of_it() {
    let sentence = "The **total** is 1.299,50 EUR &amp; 她说 $5.";
    let spoken = spoken_form(sentence, "en-us").unwrap();
    assert_eq!(spoken.text, "The total is 1,299 euros 50 and 她说 5美元.");
    let of = |word: &str| {
        let at = sentence.find(word).unwrap();
        let (count, said) = spoken.of(at..at + word.len());
        (count, said.trim().to_owned())
    };
    assert_eq!(of("The"), (1, "The".to_owned()));
    assert_eq!(of("**total**"), (1, "total".to_owned()));
    assert_eq!(of("1.299,50"), (3, "1,299 euros 50".to_owned()));
    assert_eq!(of("EUR"), (0, String::new()));
    assert_eq!(of("&amp;"), (1, "and".to_owned()));
    // A character of its own begins no word that a space parts.
    assert_eq!((of("她"), of("说")), ((1, "她".to_owned()), (0, "说".to_owned())));
    let words = spoken.words.iter().filter(|word| word.spaced).count();
    assert!(words <= spoken.text.split(' ').count());
}

#[test]
fn nothing_to_say_is_none() {
    for text in ["", "😀", "***", "&nbsp;", "?!", "\u{f0032}"] {
        assert_eq!(spoken_text(text, "en-us"), None, "{text:?}");
    }
}

#[test]
fn hostile_texts_are_read_to_their_end() {
    for text in [
        "[", "](", "<", "<a ", "$", "\\frac{", "((", "1 000 ", "&amp", "{", "a.", "1,", "^", "√", "x²", "+1 ", "I",
        "$1",
    ] {
        // As long as a text may be: whatever grows with its square would be seen here.
        let _ = sentences(&text.repeat(10_000 / text.len()), "en-us");
        let _ = spoken_form(&text.repeat(10_000 / text.len()), "en-us");
    }
}

proptest! {
    #[test]
    fn any_sentence_is_taken(text in "[a-zA-Z0-9$€%~°@:/.,<>&=+\\\\(){}^²½'\"# –-]{0,60}") {
        if let Some(said) = spoken_text(&text, "en-us") {
            prop_assert!(said.contains(char::is_alphanumeric) && !said.contains("  "), "{said:?}");
        }
    }

    #[test]
    fn any_text_is_taken(text in any::<String>(), language in "en|de|zh|ja") {
        if let Some(spoken) = spoken_form(&text, &language) {
            prop_assert!(spoken.words.iter().all(|word| text.is_char_boundary(word.at) || word.at <= text.len()));
        }
    }

    #[test]
    fn plain_words_stay_as_they_are(text in "([a-z]{4,9} ){1,8}[a-z]{4,9}") {
        prop_assert_eq!(spoken_text(&text, "en-us"), Some(text));
    }
}
