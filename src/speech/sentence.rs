//! Cuts streamed text into sentences, so that the first is spoken while the rest is still being written.
//!
//! In here: `SentenceSplitter`, pure and incremental. Not in here: cleaning (`speakable`) and speaking (`tts`).
//!
//! Every decision is taken from the text around one mark and waits until enough of it has come to be certain, so
//! how a text was cut into pieces never changes its sentences. How far a decision looks ahead is bounded, and so is
//! the length of a sentence: without any punctuation a piece still comes out.

pub use super::speakable::speakable;
use super::speakable::{is_invisible, is_pictograph};
use super::tags::Tags;

/// Longest sentence. About 13 s of speech; longer ones are cut at a comma or a space.
const MAX_WIDTH: usize = 200;
/// A cut for length leaves at least this much before it, unless there is no place to cut.
const MIN_CUT_WIDTH: usize = 60;
/// How far a decision looks past a mark: enough for closing quotes, spaces and one short word.
const LOOKAHEAD: usize = 24;

/// Narrowest clause that is spoken by itself: shorter ones are over before the next is made.
const MIN_CLAUSE_WIDTH: usize = 12;
/// From this width on a first sentence without a comma is also cut before a conjunction.
const MIN_PHRASE_WIDTH: usize = 50;
/// Where a voice may pause in a long sentence.
const CONJUNCTIONS: &[&str] = &[
    "and", "because", "but", "if", "or", "since", "so", "that", "though", "unless", "until", "when", "where", "which",
    "while", "who",
];

/// Never end a sentence: a name or an example follows.
const LEADING: &[&str] = &[
    "dr", "mr", "mrs", "ms", "mx", "prof", "st", "mt", "rev", "hon", "gen", "col", "capt", "lt", "sgt", "cmdr", "gov",
    "sen", "rep", "pres", "messrs", "mme", "mlle", "sr", "sra", "e.g", "i.e", "eg", "ie", "cf", "vs", "viz", "approx",
    "ca", "z.b", "d.h", "bzw", "hr", "fr",
];
/// End no sentence when a number follows.
const NUMBERED: &[&str] = &[
    "no", "nos", "nr", "fig", "figs", "vol", "p", "pp", "ch", "sec", "eq", "art", "op", "ver", "v", "tel", "ext", "rm",
    "rs", "apt", "bldg",
];
/// End a sentence only when one seems to begin after them.
const TRAILING: &[&str] = &[
    "etc", "a.m", "p.m", "inc", "ltd", "co", "corp", "jr", "ph.d", "u.s", "u.k", "u.n", "e.u", "u.s.a", "d.c", "al",
    "est", "dept", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec", "a.d", "b.c",
    "tsp", "tbsp", "mio", "mrd", "cit", "ft", "oz", "lb", "lbs", "ave", "blvd", "rd", "hwy", "sq", "mon", "tue",
    "tues", "wed", "thu", "thurs", "fri", "min", "max", "incl", "excl", "temp", "avg", "bros", "univ",
];
/// Words that begin a sentence far more often than they follow an abbreviation inside one.
const STARTERS: &[&str] = &[
    "a", "after", "all", "also", "an", "and", "any", "are", "as", "at", "because", "before", "but", "can", "could",
    "did", "do", "does", "for", "from", "good", "have", "he", "hello", "her", "here", "his", "how", "i", "i'll", "i'm",
    "i've", "if", "in", "is", "it", "it's", "its", "let", "let's", "may", "maybe", "most", "my", "no", "not", "now",
    "of", "on", "one", "or", "our", "please", "she", "so", "some", "thank", "thanks", "that", "that's", "the", "their",
    "then", "there", "these", "they", "this", "those", "to", "we", "we're", "well", "what", "when", "where", "which",
    "while", "who", "why", "will", "with", "would", "yes", "yet", "you", "you're", "your",
];

/// Collects text and gives out whole sentences.
#[derive(Debug, Default)]
pub struct SentenceSplitter {
    /// What is not decided yet, at most about two sentences long.
    pending: Vec<char>,
    /// Everything before this index of `pending` holds no end.
    scanned: usize,
    /// Width of `pending[..scanned]`.
    width: usize,
    /// The next sentence may be cut after a clause.
    clause_next: bool,
    tags: Tags,
}

/// What is known about a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The sentence ends before this index.
    End(usize),
    NoEnd,
    /// The text has to go on first.
    Unknown,
}

impl SentenceSplitter {
    pub fn new() -> Self {
        Self::default()
    }

    /// One that gives out the first clause of the first sentence by itself, so that a voice can begin with it while
    /// the text is still being written.
    pub fn clause_first() -> Self {
        Self { clause_next: true, ..Self::default() }
    }

    /// Takes the next piece of text and returns the sentences that are certain by now, as they were written but for tags.
    pub fn push(&mut self, text: &str) -> Vec<String> {
        let mut plain = String::with_capacity(text.len());
        self.tags.push(text, &mut plain);
        self.push_plain(&plain)
    }

    fn push_plain(&mut self, text: &str) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut chars = text.chars();
        loop {
            let before = self.pending.len();
            // Bit by bit, so that memory stays bounded whatever the size of one push.
            self.pending.extend(chars.by_ref().take(MAX_WIDTH));
            if self.pending.len() == before {
                return sentences;
            }
            while let Some(end) = self.next_end() {
                let text: String = self.pending.drain(..end).collect();
                if let Some(sentence) = sentence(&text) {
                    sentences.push(sentence);
                    self.clause_next = false;
                }
                self.scanned = 0;
                self.width = 0;
            }
        }
    }

    /// Returns what is left when the text is over, nearly always one sentence; the splitter is then ready for another text.
    pub fn finish(&mut self) -> Vec<String> {
        let mut plain = String::new();
        self.tags.finish(&mut plain);
        let mut sentences = self.push_plain(&plain);
        let rest: String = std::mem::take(self).pending.into_iter().collect();
        sentences.extend(sentence(&rest));
        sentences
    }

    /// Index of the end of the next sentence, as soon as it is certain.
    fn next_end(&mut self) -> Option<usize> {
        while self.scanned < self.pending.len() {
            match verdict(&self.pending, self.scanned) {
                Verdict::End(end) => return Some(end),
                Verdict::Unknown => return None,
                Verdict::NoEnd if self.clause_next => match clause_verdict(&self.pending, self.scanned, self.width) {
                    Verdict::End(end) => return Some(end),
                    Verdict::Unknown => return None,
                    Verdict::NoEnd => {}
                },
                Verdict::NoEnd => {}
            }
            self.width += width(self.pending[self.scanned]);
            self.scanned += 1;
            if self.width >= MAX_WIDTH {
                return Some(cut_for_length(&self.pending[..self.scanned]));
            }
        }
        None
    }
}

fn sentence(text: &str) -> Option<String> {
    let text = text.trim();
    speakable(text).map(|_| text.to_owned())
}

/// Whether the sentence ends with the mark at `at`.
fn verdict(text: &[char], at: usize) -> Verdict {
    if is_line_end(text[at]) {
        return Verdict::End(at + 1);
    }
    // "?!" and "..." are decided at their first mark.
    if !is_mark(text[at]) || (at > 0 && is_mark(text[at - 1])) {
        return Verdict::NoEnd;
    }
    let limit = at + LOOKAHEAD;
    let run_while = |from: usize, belongs: fn(char) -> bool| {
        let tail = text.iter().take(limit).skip(from);
        from + tail.take_while(|c| belongs(**c)).count()
    };
    let marks_end = run_while(at, is_mark);
    let end = run_while(marks_end, is_closer);
    if end >= limit {
        return Verdict::NoEnd;
    }
    let Some(&next) = text.get(end) else { return Verdict::Unknown };
    let marks = &text[at..marks_end];
    if marks.iter().any(|mark| is_wide_mark(*mark)) || is_line_end(next) {
        return Verdict::End(end);
    }
    // A Latin mark inside of something that goes on is part of a number, an address or a name.
    if !next.is_whitespace() && !is_cjk(next) && !is_pictograph(next) {
        return Verdict::NoEnd;
    }
    let quoted = text[marks_end..end].iter().any(|closer| matches!(closer, '"' | '\'' | '”' | '’' | '»' | ')' | ']'));
    let next = Next::after(text, end, limit);
    let is_ellipsis = marks.iter().all(|mark| matches!(mark, '.' | '…')) && (marks.len() > 1 || marks[0] == '…');
    match marks {
        [';'] if token_before(text, at).starts_with('&') => Verdict::NoEnd,
        _ if is_ellipsis => next.ends_unless(end, |next| next.is_lowercase() || is_cjk(next)),
        ['.'] => verdict_on_full_stop(text, at, end, next, quoted),
        // "Really?" she said.
        _ if quoted => next.ends_unless(end, char::is_lowercase),
        _ => Verdict::End(end),
    }
}

/// Whether a clause, of the given width before `at`, ends here.
fn clause_verdict(text: &[char], at: usize, width: usize) -> Verdict {
    let is_open = |opener: char, closer: char| {
        let count = |mark: char| text[..at].iter().filter(|c| **c == mark).count();
        count(opener) > count(closer)
    };
    match text[at] {
        '，' | '：' | '、' if width >= MIN_CLAUSE_WIDTH => Verdict::End(at + 1),
        ',' | ':' | '–' | '—' if width >= MIN_CLAUSE_WIDTH => match text.get(at + 1) {
            None => Verdict::Unknown,
            Some(next) if next.is_whitespace() && !is_open('(', ')') && !is_open('[', ']') => Verdict::End(at + 1),
            Some(_) => Verdict::NoEnd,
        },
        c if c.is_whitespace() && width >= MIN_PHRASE_WIDTH => {
            let word: String = text[at + 1..].iter().take(LOOKAHEAD).take_while(|c| c.is_alphabetic()).collect();
            if text.len() <= at + 1 + word.chars().count() && word.len() <= LOOKAHEAD {
                return Verdict::Unknown;
            }
            if CONJUNCTIONS.contains(&word.as_str()) { Verdict::End(at) } else { Verdict::NoEnd }
        }
        _ => Verdict::NoEnd,
    }
}

fn verdict_on_full_stop(text: &[char], at: usize, end: usize, next: Next<'_>, quoted: bool) -> Verdict {
    let token = token_before(text, at);
    let lower = token.to_lowercase();
    let lower = lower.as_str();
    let starts_list = || !text[..at - token.chars().count()].iter().any(|c| c.is_alphanumeric());
    if token.len() <= 3 && !token.is_empty() && token.bytes().all(|b| b.is_ascii_digit()) && starts_list() {
        return Verdict::NoEnd;
    }
    if LEADING.contains(&lower) {
        return Verdict::NoEnd;
    }
    if NUMBERED.contains(&lower) {
        return next.ends_unless(end, char::is_numeric);
    }
    if TRAILING.contains(&lower) || is_initials(&token) {
        return next.ends_if_it_starts_a_sentence(end);
    }
    if quoted {
        return next.ends_unless(end, char::is_lowercase);
    }
    Verdict::End(end)
}

/// What follows a mark and its spaces.
#[derive(Clone, Copy)]
enum Next<'a> {
    /// Not written yet.
    Unknown,
    /// A new line or a wide gap: that ends any sentence.
    Gap,
    /// The text from the first character on, as far as a decision may look, and whether it goes on to there.
    Text { from: &'a [char], complete: bool },
}

impl<'a> Next<'a> {
    fn after(text: &'a [char], end: usize, limit: usize) -> Self {
        // The word after the spaces may be looked at for as long again.
        for (at, &c) in text.iter().enumerate().take(limit).skip(end) {
            if is_line_end(c) {
                return Self::Gap;
            }
            if !c.is_whitespace() {
                let last = text.len().min(at + LOOKAHEAD);
                return Self::Text { from: &text[at..last], complete: last == at + LOOKAHEAD };
            }
        }
        if text.len() < limit { Self::Unknown } else { Self::Gap }
    }

    fn ends_unless(self, end: usize, goes_on: fn(char) -> bool) -> Verdict {
        match self {
            Self::Unknown => Verdict::Unknown,
            Self::Text { from, .. } if from.first().copied().is_some_and(goes_on) => Verdict::NoEnd,
            _ => Verdict::End(end),
        }
    }

    fn ends_if_it_starts_a_sentence(self, end: usize) -> Verdict {
        let (from, complete) = match self {
            Self::Unknown => return Verdict::Unknown,
            Self::Gap => return Verdict::End(end),
            Self::Text { from, complete } => (from, complete),
        };
        if !from[0].is_uppercase() {
            // A bracket, a dash, a small letter or a number goes on; Chinese after Latin does not.
            return if is_cjk(from[0]) { Verdict::End(end) } else { Verdict::NoEnd };
        }
        let letters = from.iter().take_while(|c| c.is_alphabetic() || matches!(c, '\'' | '’')).count();
        if letters == from.len() && !complete {
            return Verdict::Unknown;
        }
        let word: String = from[..letters].iter().flat_map(|c| c.to_lowercase()).collect();
        let word = word.replace('’', "'");
        if STARTERS.contains(&word.as_str()) { Verdict::End(end) } else { Verdict::NoEnd }
    }
}

/// The word before a mark, without the brackets and quotes that open it.
fn token_before(text: &[char], at: usize) -> String {
    let begins = |c: char| {
        c.is_whitespace()
            || is_cjk(c)
            || matches!(c, '(' | '[' | '{' | '"' | '“' | '„' | '«' | '‘' | '*' | '_' | '/' | '-')
    };
    let length = text[..at].iter().rev().take(LOOKAHEAD).take_while(|c| !begins(**c)).count();
    text[at - length..at].iter().collect()
}

/// `J`, `J.R.R`, `w.r.t`: single letters with full stops between them, one alone only when it is a capital.
fn is_initials(token: &str) -> bool {
    let single = |part: &str| {
        let mut letters = part.chars();
        letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none()
    };
    token.split('.').all(single) && (token.contains('.') || token.chars().all(char::is_uppercase))
}

/// Where a text without an end is cut: after its last comma, else at its last space, else before its last character.
fn cut_for_length(text: &[char]) -> usize {
    let (mut comma, mut space, mut before) = (None, None, 0);
    for (at, &c) in text.iter().enumerate() {
        before += width(c);
        let next_is_space = || text.get(at + 1).is_some_and(|next| next.is_whitespace());
        if before >= MIN_CUT_WIDTH
            && (matches!(c, '，' | '、' | '：' | '—') || (matches!(c, ',' | ':' | '–' | '،') && next_is_space()))
        {
            comma = Some(at + 1);
        }
        if c.is_whitespace() && at > 0 {
            space = Some(at);
        }
    }
    comma.or(space).unwrap_or_else(|| {
        // Not between a letter and its accent, nor within an emoji.
        let joined = |at: usize| is_combining(text[at]) || is_invisible(text[at]) || text[at - 1] == '\u{200d}';
        let last = text.len() - 1;
        (last.saturating_sub(8).max(1)..=last).rev().find(|at| !joined(*at)).unwrap_or(last.max(1))
    })
}

/// Chinese characters take about three times as long to say as letters.
const fn width(c: char) -> usize {
    if is_cjk(c) { 3 } else { 1 }
}

const fn is_line_end(c: char) -> bool {
    matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

const fn is_mark(c: char) -> bool {
    matches!(
        c,
        '.' | '!'
            | '?'
            | '…'
            | ';'
            | '؟'
            | '۔'
            | '।'
            | '॥'
            | '։'
            | '።'
            | '፧'
            | '။'
            | '។'
            | '‼'
            | '⁇'
            | '⁈'
            | '⁉'
    ) || is_wide_mark(c)
}

/// Marks that end a sentence without a space after them.
const fn is_wide_mark(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '｡')
}

const fn is_closer(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | ')'
            | ']'
            | '}'
            | '”'
            | '’'
            | '»'
            | '›'
            | '」'
            | '』'
            | '）'
            | '】'
            | '》'
            | '〉'
            | '〕'
            | '］'
            | '*'
            | '_'
            | '`'
            | '~'
            | '\u{fe0e}'
            | '\u{fe0f}'
    )
}

const fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3100}'..='\u{312f}' | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

const fn is_combining(c: char) -> bool {
    matches!(c,
        '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{3099}'..='\u{309a}' | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
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
        for text in
            ["", "...", "?! ! . ", "😀 😀\n👍", "\u{0}\u{7}\u{1b}", "---\n***\n", "。。。！", &" ".repeat(5_000)]
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
}
