//! Takes out of a text what a voice cannot say: tags, markdown marks, emoji, control characters; and writes with the usual
//! characters what is written with unusual ones, such as wide, circled and mathematical letters.
//!
//! In here: pure functions. Not in here: writing out addresses, amounts and units (`normalise`), blocks of code
//! (`code_blocks`).

use std::ops::Range;

use super::markup::{pause_ms, without_tags};

/// The text as it should be spoken, on one line; `None` if no letter or digit is left.
pub fn speakable(text: &str) -> Option<String> {
    let text = if text.contains('<') { without_tags(text) } else { text.to_owned() };
    let plain: String = clean(&text).into_iter().map(|(_, c)| c).collect();
    let words: Vec<&str> = plain.split(|c: char| c == ' ' || c == GROUPS || pause_ms(c).is_some()).collect();
    let spoken = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    spoken.chars().any(char::is_alphanumeric).then_some(spoken)
}

/// Between groups of three digits, where a space that breaks no line was written.
pub(super) const GROUPS: char = '\u{a0}';

/// What a voice can say, each character with where it is written: on one line, with one space between words, pauses among
/// them.
pub(super) fn clean(text: &str) -> Vec<(usize, char)> {
    let mut out = Vec::with_capacity(text.len());
    let mut start = 0;
    for line in text.split('\n') {
        push_line(line, start, &mut out);
        out.push((start + line.len(), ' '));
        start += line.len() + 1;
    }
    out.dedup_by(|(_, c), (_, before)| *c == ' ' && *before == ' ');
    while out.last().is_some_and(|(_, c)| *c == ' ') {
        out.pop();
    }
    if out.first().is_some_and(|(_, c)| *c == ' ') {
        out.remove(0);
    }
    out
}

fn push_line(line: &str, start: usize, out: &mut Vec<(usize, char)>) {
    let kept = strip_block_marks(line);
    let offset = line.len() - kept.len();
    let mut chars: Vec<(usize, char)> = Vec::with_capacity(kept.len());
    for range in without_links(kept) {
        chars.extend(kept[range.clone()].char_indices().map(|(at, c)| (start + offset + range.start + at, c)));
    }
    let is_edge = |(_, c): &(usize, char)| c.is_whitespace() || *c == '|';
    let from = chars.iter().position(|c| !is_edge(c)).unwrap_or(chars.len());
    let to = chars.iter().rposition(|c| !is_edge(c)).map_or(from, |last| last + 1);
    let chars = &chars[from..to];
    for (at, &(source, here)) in chars.iter().enumerate() {
        let mut push = |c: char| out.push((source, c));
        let before = at.checked_sub(1).map(|at| chars[at].1);
        let after = chars.get(at + 1).map(|(_, c)| *c);
        let inside_word = before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric);
        let is_digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
        match here {
            // 2*3 is a sum and snake_case is a word; **strong** and _soft_ are marks.
            '*' if inside_word && (is_digit(before) || is_digit(after)) => push(here),
            '_' if inside_word => push(here),
            '*' | '_' | '`' => {}
            '~' if before == Some('~') || after == Some('~') => {}
            // ~gone~, but not ~5.
            '~' if before.is_some_and(char::is_alphanumeric) || after.is_some_and(char::is_alphabetic) => {}
            // Cells of a table are heard apart.
            '|' => {
                while out.last().is_some_and(|(_, c)| *c == ' ') {
                    out.pop();
                }
                out.extend([(source, ','), (source, ' ')]);
            }
            '\u{a0}' | '\u{2007}' | '\u{2009}' | '\u{202f}' if is_digit(before) && begins_group(&chars[at + 1..]) => {
                push(GROUPS);
            }
            '→' | '⇒' | '⟶' | '➔' | '➜' if after != Some('\u{fe0f}') => push('→'),
            '™' | '®' => {}
            _ if pause_ms(here).is_some() => push(here),
            _ if here.is_whitespace() || (here.is_control() && !is_invisible(here)) => push(' '),
            _ if is_variant(here) => usual(here).into_iter().for_each(push),
            _ if is_invisible(here) || is_pictograph(here) => {}
            _ => push(here),
        }
    }
}

/// Whether three digits come and no fourth.
fn begins_group(chars: &[(usize, char)]) -> bool {
    chars.iter().take(4).take_while(|(_, c)| c.is_ascii_digit()).count() == 3
}

/// Letters, digits and units that have a character of their own for their looks.
const fn is_variant(c: char) -> bool {
    matches!(c,
        '\u{2044}' | '\u{2100}'..='\u{2121}' | '\u{2123}'..='\u{2125}' | '\u{212a}'..='\u{2138}' | '\u{2160}'..='\u{217f}'
        | '\u{2460}'..='\u{2473}' | '\u{24b6}'..='\u{24e9}' | '\u{2776}'..='\u{2793}' | '\u{3371}'..='\u{33df}'
        | '\u{fb00}'..='\u{fb06}' | '\u{ff03}'..='\u{ff06}' | '\u{ff0b}' | '\u{ff0f}'..='\u{ff19}' | '\u{ff1d}'
        | '\u{ff20}'..='\u{ff3a}' | '\u{ff41}'..='\u{ff5a}' | '\u{1d400}'..='\u{1d7ff}')
}

/// As it is usually written.
fn usual(c: char) -> Vec<char> {
    let number = |from: u32| (u32::from(c) - from + 1).to_string().chars().collect();
    match c {
        '\u{2044}' => vec!['/'],
        '№' => vec!['N', 'o', '.', ' '],
        '\u{2776}'..='\u{277f}' => number(0x2776),
        '\u{2780}'..='\u{2789}' => number(0x2780),
        '\u{278a}'..='\u{2793}' => number(0x278a),
        _ => {
            let composed = icu_normalizer::ComposingNormalizerBorrowed::new_nfkc();
            composed.normalize(c.encode_utf8(&mut [0; 4])).chars().collect()
        }
    }
}

/// Without what markdown puts before a heading, a quotation, an item of a list or a block of code.
fn strip_block_marks(line: &str) -> &str {
    let mut rest = line.trim_start();
    loop {
        let marks = rest.chars().take_while(|c| matches!(c, '#' | '>' | '-' | '+' | '*')).count();
        let (mark, after) = rest.split_at(marks);
        // "-5 degrees" and "#1" keep theirs: a mark stands before a space.
        match marks > 0 && (after.starts_with(' ') || after.is_empty() || mark.starts_with('>')) {
            true => rest = after.trim_start(),
            false => return rest,
        }
    }
}

/// What is left of a line when `[words](address)` and `![words](address)` become their words.
///
/// Looks for the middle of a link first: that keeps hostile text, thousands of brackets, linear.
fn without_links(line: &str) -> Vec<Range<usize>> {
    let mut kept = Vec::new();
    let mut from = 0;
    while let Some(middle) = line[from..].find("](").map(|middle| from + middle) {
        let open = line[from..middle].rfind('[').map(|open| from + open);
        let Some(open) = open.filter(|open| line[*open..middle].contains(char::is_alphanumeric)) else {
            kept.push(from..middle + 2);
            from = middle + 2;
            continue;
        };
        let Some(end) = line[middle..].find(')').map(|end| middle + end) else { break };
        let before = line[from..open].strip_suffix('!').map_or(open, |before| from + before.len());
        kept.extend([from..before, open + 1..middle]);
        from = end + 1;
    }
    kept.push(from..line.len());
    kept
}

/// Takes no room on paper: joiners, direction marks, variation selectors, tags, soft hyphens.
pub(super) const fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// Emoji and the signs around them. Mathematical signs and currencies are not among them: they have names to say.
pub(super) const fn is_pictograph(c: char) -> bool {
    matches!(c,
        '\u{20e3}' | '\u{2190}'..='\u{21ff}' | '\u{2300}'..='\u{23ff}' | '\u{2460}'..='\u{27bf}'
        | '\u{27f0}'..='\u{28ff}' | '\u{2900}'..='\u{297f}' | '\u{2b00}'..='\u{2bff}' | '\u{3030}' | '\u{303d}'
        | '\u{3297}' | '\u{3299}' | '\u{1f000}'..='\u{1faff}' | '\u{e000}'..='\u{f8ff}' | '\u{fffd}'
        | '\u{f0000}'..='\u{10fffd}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_cannot_be_said_is_gone() {
        for (text, spoken) in [
            ("Hello.", "Hello."),
            ("  a\tb\r\nc\u{0}d\u{7} ", "a b c d"),
            ("**Great** _work_ 👍🏽!", "Great work !"),
            ("👩‍👩‍👧 family 🇩🇪", "family"),
            ("~gone~ and ＡＢＣ　１２, ① 𝐇𝐢 ﬁt", "gone and ABC 12, 1 Hi fit"),
            ("1\u{202f}299 x", "1 299 x"),
            ("<p>a <b>b</b></p>", "a b"),
            ("zero\u{200b}width so\u{ad}ft", "zerowidth soft"),
            ("## Title", "Title"),
            ("- one\n* two\n+ three\n> four", "one two three four"),
            ("-5 degrees, #1, 2*3 and snake_case", "-5 degrees, #1, 2*3 and snake_case"),
            ("`code` and ~~gone~~, ~5", "code and gone, ~5"),
            ("See [the guide](https://a.b/c_d) and ![a cat](x.png).", "See the guide and a cat."),
            ("[a [b](c) [](d) [e](f", "[a b [](d) [e](f"),
            ("[not a link] (really)", "[not a link] (really)"),
            ("| a | b |", "a, b"),
            ("你好，**世界**。🎉", "你好，世界。"),
            ("1️⃣ first", "1 first"),
            ("5 € ≠ 6 $", "5 € ≠ 6 $"),
        ] {
            assert_eq!(speakable(text).as_deref(), Some(spoken), "{text:?}");
        }
    }

    #[test]
    fn nothing_to_say_is_none() {
        for text in ["", " \n\t", "...", "?!", "😀😀", "\u{0}\u{7}", "---", "```", "**", "\u{200b}", "。！？"] {
            assert_eq!(speakable(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn cleaning_keeps_letters_and_makes_one_line(text in "[a-z你1*_`#>~|!\\[\\]() \n.😀-]{0,60}") {
            match speakable(&text) {
                Some(spoken) => {
                    prop_assert!(!spoken.contains('\n') && !spoken.contains("  ") && spoken.trim() == spoken);
                    prop_assert!(!spoken.contains(['`', '😀']));
                }
                None => prop_assert!(!text.chars().any(char::is_alphanumeric)),
            }
        }
    }
}
