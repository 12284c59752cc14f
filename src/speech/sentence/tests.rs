//! Texts cut into sentences, whole and letter by letter.

use super::boundary::LOOKAHEAD;
use super::*;
use proptest::prelude::*;

fn split_in(text: &str, cuts: &[usize]) -> Vec<String> {
    split_by(SentenceSplitter::new(), text, cuts)
}

fn split_by(mut splitter: SentenceSplitter, text: &str, cuts: &[usize]) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut sentences = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut rest = chars.as_slice();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((*cuts.next().unwrap()).clamp(1, rest.len()));
        sentences.extend(splitter.push(&piece.iter().collect::<String>()));
        rest = after;
    }
    sentences.extend(splitter.finish());
    sentences
}

/// The sentences of a text, which are the same whether it comes whole or letter by letter.
fn split(text: &str) -> Vec<String> {
    let whole = split_in(text, &[usize::MAX]);
    assert_eq!(whole, split_in(text, &[1]), "letter by letter");
    whole
}

#[test]
fn sentences_end_at_their_marks() {
    assert_eq!(split("Hello there. How are you? Fine! Good"), ["Hello there.", "How are you?", "Fine!", "Good"]);
    assert_eq!(split("First; second\nthird\r\nfourth"), ["First;", "second", "third", "fourth"]);
    assert_eq!(split("What?! Yes."), ["What?!", "Yes."]);
    assert_eq!(split("Hello 世界.你好"), ["Hello 世界.", "你好"]);
    assert_eq!(split("ሰላም። እንዴት ነህ፧ Բարև։ Ինչպես ես"), ["ሰላም።", "እንዴት ነህ፧", "Բարև։", "Ինչպես ես"]);
}

#[test]
fn chinese_and_japanese_need_no_space() {
    assert_eq!(
        split("你好。我是你的数字人！你呢？很好；再见"),
        ["你好。", "我是你的数字人！", "你呢？", "很好；", "再见"]
    );
    assert_eq!(split("他说：“你好。”然后走了。"), ["他说：“你好。”", "然后走了。"]);
    assert_eq!(split("「行こう！」と彼は言った。"), ["「行こう！」", "と彼は言った。"]);
    assert_eq!(split("等等……好吧。圆周率是3.14。"), ["等等……好吧。", "圆周率是3.14。"]);
}

#[test]
fn closing_quotes_and_brackets_stay_with_their_sentence() {
    assert_eq!(split("She said \"Stop.\" Then (really!) left."), ["She said \"Stop.\"", "Then (really!) left."]);
    assert_eq!(
        split("\"Really?\" she asked. (Yes.) **Done.** Next"),
        ["\"Really?\" she asked.", "(Yes.)", "**Done.**", "Next"]
    );
}

#[test]
fn full_stops_inside_a_sentence_do_not_end_it() {
    for text in [
        "Dr. Smith met Mr. Jones and Prof. Lee.",
        "Fruit, e.g. Apples, i.e. Food, vs. Meat.",
        "Pi is 3.14 and v1.2.3 costs 1,000.50 dollars.",
        "The U.S. Army and J. R. R. Tolkien, Ph.D. and all.",
        "See No. 5, Fig. 2, p. 12 and vol. 3.",
        "It is approx. 5 kg, etc. and more.",
        "Go to https://a.example.com/x.html?q=1.5&b=2!c or mail a.b@example.org today.",
        "At 10:30 a.m. on Jan. 5 it rains.",
        "Well... maybe so.",
        "Wait… what was that.",
        "1. First thing.",
        "Tom &amp; Jerry.",
        "Dr.王来了",
    ] {
        assert_eq!(split(text), [text]);
    }
}

#[test]
fn an_abbreviation_can_end_a_sentence() {
    assert_eq!(split("I live in the U.S. The weather is good."), ["I live in the U.S.", "The weather is good."]);
    assert_eq!(split("Apples, pears, etc. They are good."), ["Apples, pears, etc.", "They are good."]);
    assert_eq!(split("It starts at 5 p.m. Please come."), ["It starts at 5 p.m.", "Please come."]);
    assert_eq!(split("No. I won't."), ["No.", "I won't."]);
    assert_eq!(split("So did I. Then in 2024. It was 5. Yes"), ["So did I.", "Then in 2024.", "It was 5.", "Yes"]);
    assert_eq!(split("Well... Maybe so."), ["Well...", "Maybe so."]);
}

#[test]
fn the_first_sentence_comes_out_as_soon_as_it_is_certain() {
    let mut splitter = SentenceSplitter::new();
    assert!(splitter.push("Hello there.").is_empty(), "a quote could follow, or the 5 of a version");
    assert_eq!(splitter.push(" "), ["Hello there."]);
    assert!(splitter.push("你好。").is_empty());
    assert_eq!(splitter.push("我"), ["你好。"]);
    assert_eq!(splitter.push("\n"), ["我"]);
    assert_eq!(splitter.finish(), [""; 0]);
}

#[test]
fn nothing_to_say_is_no_sentence() {
    for text in ["", "...", "?! ! . ", "😀 😀\n👍", "\u{0}\u{7}\u{1b}", "---\n***\n", "。。。！", &" ".repeat(5_000)]
    {
        assert_eq!(split(text), Vec::<String>::new(), "{text:?}");
    }
    assert_eq!(split("Great!😀 Next."), ["Great!", "😀 Next."]);
}

#[test]
fn text_without_any_mark_is_cut_at_a_comma_or_a_space() {
    let commas = "some words and more of them, ".repeat(20);
    for sentence in split(&commas) {
        assert!(sentence.ends_with(',') && sentence.len() <= 200, "{sentence:?}");
    }
    for sentence in split(&"word ".repeat(200)) {
        assert!(sentence.ends_with("word") && sentence.len() <= 200, "{sentence:?}");
    }
    let chinese = split(&"今天天气很好，我们去公园".repeat(30));
    assert!(chinese.iter().all(|sentence| sentence.chars().count() <= 70), "{chinese:?}");
    assert_eq!(split(&"x".repeat(1_000)).concat(), "x".repeat(1_000));
}

#[test]
fn tags_are_in_no_sentence_and_end_one_where_a_line_ends() {
    assert_eq!(split("<p>Hello <b>you. There</b>.</p><p>Next"), ["Hello you.", "There.", "Next"]);
    assert_eq!(split("<speak><s title=\"a. b. c\">One</s> two.</speak>"), ["One two."]);
    assert_eq!(split("<br/><hr><p></p>"), [""; 0]);
    assert_eq!(split("a < b. And <c"), ["a < b.", "And <c"]);
}

#[test]
fn memory_stays_bounded() {
    let mut splitter = SentenceSplitter::new();
    for text in ["x", ".", "\"", " ", "a.\"", "U.S. ", "e\u{301}", "中", "\u{200d}", "<", "<b "] {
        splitter.push(&text.repeat(50_000));
        assert!(splitter.pending.len() <= 2 * MAX_WIDTH, "{} after {text:?}", splitter.pending.len());
    }
}

#[test]
fn the_first_clause_comes_out_by_itself() {
    let first = |text: &str| {
        let mut splitter = SentenceSplitter::clause_first();
        let mut sentences = Vec::new();
        for letter in text.chars() {
            sentences.extend(splitter.push(&letter.to_string()));
        }
        sentences.extend(splitter.finish());
        sentences
    };
    for (text, sentences) in [
        ("Good morning to you, Bob. Well, hello, you.", &["Good morning to you,", "Bob.", "Well, hello, you."][..]),
        ("Yes, I can. Of course, I can.", &["Yes, I can.", "Of course, I can."]),
        (
            "It costs 1,000,000 dollars (or so, they say), he said.",
            &["It costs 1,000,000 dollars (or so, they say),", "he said."],
        ),
        (
            "The quick brown fox jumped over the lazy dog of the house because it could, and left.",
            &["The quick brown fox jumped over the lazy dog of the house", "because it could, and left."],
        ),
        ("今天天气很好，我们去公园吧，好吗。", &["今天天气很好，", "我们去公园吧，好吗。"]),
        ("Just a moment: the answer", &["Just a moment:", "the answer"]),
    ] {
        assert_eq!(first(text), sentences, "{text}");
    }
    let mut splitter = SentenceSplitter::clause_first();
    assert_eq!(splitter.push("Once upon a time, t"), ["Once upon a time,"], "before the sentence is written");
}

fn words(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

proptest! {
    #[test]
    fn pieces_do_not_matter_and_no_word_is_lost(
        parts in prop::collection::vec(prop::sample::select(vec![
            "word", "Word", "The", "Dr", "e.g", "U.S", "p.m", "No", "J", "3", "1,5", "a@b.de", "你好", "世界", "😀", "é",
            ".", ".", ". ", "...", "…", "!", "?", ";", "。", "！", ",", "，", " ", " ", "   ", "\n", "\"", "”", ")", "(", "**", "-",
        ]), 0..120),
        cuts in prop::collection::vec(1usize..12, 1..12),
    ) {
        let text = parts.concat();
        let whole = split_in(&text, &[usize::MAX]);
        prop_assert_eq!(&whole, &split_in(&text, &cuts));
        prop_assert_eq!(words(&whole.concat()), words(&text));
        let clauses = split_by(SentenceSplitter::clause_first(), &text, &[usize::MAX]);
        prop_assert_eq!(&clauses, &split_by(SentenceSplitter::clause_first(), &text, &cuts));
        prop_assert_eq!(words(&clauses.concat()), words(&text));
        for sentence in &whole {
            prop_assert!(sentence.chars().count() <= MAX_WIDTH + 2 * LOOKAHEAD);
            prop_assert!(speakable(sentence).is_some());
        }
    }

    #[test]
    fn any_text_is_taken(text in any::<String>(), cuts in prop::collection::vec(1usize..9, 1..4)) {
        prop_assert_eq!(split_in(&text, &[usize::MAX]), split_in(&text, &cuts));
    }
}
