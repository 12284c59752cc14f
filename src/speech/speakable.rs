//! Takes out of a text what a voice cannot say: markdown marks, emoji, control characters.
//!
//! In here: a pure function. Not in here: writing out addresses, amounts and units (`spoken`), blocks of code
//! (`code_blocks`).

/// The text as it should be spoken, on one line; `None` if no letter or digit is left.
pub fn speakable(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        push_line(line, &mut out);
        out.push(' ');
    }
    let words: Vec<&str> = out.split_whitespace().collect();
    let spoken = words.join(" ");
    spoken.chars().any(char::is_alphanumeric).then_some(spoken)
}

fn push_line(line: &str, out: &mut String) {
    let line = without_links(strip_block_marks(line));
    let line = line.trim().trim_matches('|');
    let chars: Vec<char> = line.chars().collect();
    for (at, &here) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let after = chars.get(at + 1).copied();
        let inside_word = before.is_some_and(char::is_alphanumeric) && after.is_some_and(char::is_alphanumeric);
        let digits = before.is_some_and(|c| c.is_ascii_digit()) && after.is_some_and(|c| c.is_ascii_digit());
        match here {
            // 2*3 is a sum and snake_case is a word; **strong** and _soft_ are marks.
            '*' if digits => out.push(here),
            '_' if inside_word => out.push(here),
            '*' | '_' | '`' => {}
            '~' if before == Some('~') || after == Some('~') => {}
            // Cells of a table are heard apart.
            '|' => {
                out.truncate(out.trim_end().len());
                out.push_str(", ");
            }
            _ if here.is_whitespace() || (here.is_control() && !is_invisible(here)) => out.push(' '),
            _ if is_invisible(here) || is_pictograph(here) => {}
            _ => out.push(here),
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

/// `[words](address)` and `![words](address)` become their words.
///
/// Looks for the middle of a link first: that keeps hostile text, thousands of brackets, linear.
fn without_links(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(middle) = rest.find("](") {
        let (before, after) = (&rest[..middle], &rest[middle + 2..]);
        let Some((before, words)) = before.rsplit_once('[').filter(|(_, words)| words.contains(char::is_alphanumeric))
        else {
            out.push_str(&rest[..middle + 2]);
            rest = after;
            continue;
        };
        let Some((_, after)) = after.split_once(')') else { break };
        out.push_str(before.strip_suffix('!').unwrap_or(before));
        out.push_str(words);
        rest = after;
    }
    out.push_str(rest);
    out
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
