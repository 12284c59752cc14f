//! Takes the tags of SSML and HTML out of a text as it streams in; a `<break>` becomes a pause.
//!
//! In here: a pure, incremental filter, which keeps no more than one tag, and the mark that a pause is until it is heard.
//! What is no tag stays: `x < y`, `List<String>`, `<https://a.b>`, and tags within backticks, which somebody writes about.
//! Not in here: entities such as `&amp;` (`normalise`).

/// A pause of so many hundredths of a second is the character so far behind this one, which is for private use: whatever
/// does not know of it leaves it out.
const PAUSE: u32 = 0xf_0000;
/// Longest pause, in hundredths of a second.
const LONGEST: u32 = 1_000;
/// A pause without a length, such as `<break/>`, in milliseconds; of `<p>` and its like none is made beyond the sentence's.
const USUAL_MS: f64 = 400.0;
/// Strengths of a `<break>`, and their milliseconds.
const STRENGTHS: [(&str, f64); 6] =
    [("none", 0.0), ("x-weak", 100.0), ("weak", 200.0), ("medium", 400.0), ("strong", 700.0), ("x-strong", 1_000.0)];
/// Characters of one tag; what is longer is none.
const LONGEST_TAG: usize = 1_024;
/// Names that are read as tags without more; with attributes or a slash, and with a colon in it, any name is.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "a", "abbr", "address", "article", "aside", "audio", "b", "bdi", "bdo", "big", "blockquote", "body", "br",
    "break", "button", "caption", "center", "cite", "code", "col", "dd", "del", "details", "dfn", "div", "dl", "dt",
    "em", "emphasis", "figcaption", "figure", "font", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "head",
    "header", "hr", "html", "i", "img", "input", "ins", "kbd", "label", "lang", "li", "lexicon", "link", "main",
    "mark", "meta", "nav", "ol", "option", "p", "paragraph", "phoneme", "pre", "prosody", "q", "rp", "rt", "ruby",
    "s", "samp", "say-as", "script", "section", "select", "sentence", "small", "span", "speak", "strike", "strong", "style",
    "sub", "summary", "sup", "svg", "table", "tbody", "td", "textarea", "tfoot", "th", "thead", "think", "thinking",
    "time", "title", "tr", "tt", "u", "ul", "var", "video", "voice", "wbr", "word",
];
/// Where a line ends, for the eye and for the ear.
#[rustfmt::skip]
const BLOCKS: &[&str] = &[
    "address", "article", "blockquote", "br", "dd", "div", "dl", "dt", "figcaption", "h1", "h2", "h3", "h4", "h5",
    "h6", "hr", "li", "ol", "p", "paragraph", "section", "table", "td", "th", "tr", "ul", "sentence", "think",
    "thinking", "title", "caption", "summary",
];
/// What is in these is for machines, if it ends soon.
const HIDDEN: &[&str] = &["script", "style"];
const LONGEST_HIDDEN: usize = 4_096;
/// Attributes that stand without a value.
const FLAGS: &[&str] = &[
    "async",
    "autofocus",
    "autoplay",
    "checked",
    "controls",
    "defer",
    "disabled",
    "hidden",
    "loop",
    "muted",
    "open",
    "required",
];

/// How long the pause is that a character stands for.
pub fn pause_ms(character: char) -> Option<u32> {
    let hundredths = u32::from(character).checked_sub(PAUSE)?;
    (1..=LONGEST).contains(&hundredths).then_some(hundredths * 10)
}

/// Takes the tags out of one text.
#[derive(Debug, Default)]
pub(super) struct MarkupFilter {
    /// From `<` on, what may become a tag.
    held: String,
    /// The quote that an attribute's value began with.
    quote: Option<char>,
    /// Whether backticks are open.
    is_code: bool,
    /// Of an element whose text is for machines, its name and the text.
    hidden: Option<(&'static str, String)>,
}

impl MarkupFilter {
    /// Takes the next piece of text and gives what of it is no tag.
    pub fn push(&mut self, piece: &str, text: &mut String) {
        for c in piece.chars() {
            self.take(c, text);
        }
    }

    /// What was held back when the text is over.
    pub fn finish(&mut self, text: &mut String) {
        let Self { held, hidden, .. } = std::mem::take(self);
        // It was none, if its end does not come.
        text.push_str(&hidden.map_or(held, |(_, written)| written));
    }

    fn take(&mut self, c: char, text: &mut String) {
        if let Some((name, written)) = &mut self.hidden {
            written.push(c);
            let ends = c == '>' && written.to_ascii_lowercase().ends_with(&format!("</{name}>"));
            if ends {
                self.hidden = None;
            } else if written.len() > LONGEST_HIDDEN
                && let Some((_, written)) = self.hidden.take()
            {
                text.push_str(&written);
            }
            return;
        }
        if self.held.is_empty() {
            match c {
                '<' if !self.is_code => self.held.push(c),
                // Nobody writes pauses but tags.
                _ if pause_ms(c).is_some() => {}
                _ => {
                    self.is_code = c != '\n' && self.is_code != (c == '`');
                    text.push(c);
                }
            }
            return;
        }
        if c == '>' && self.quote.is_none() {
            self.held.push(c);
            let held = std::mem::take(&mut self.held);
            match Tag::of(&held) {
                Some(tag) => {
                    text.push_str(&tag.said());
                    let opens = !held.starts_with("</") && !held.ends_with("/>");
                    let hidden = HIDDEN.iter().find(|hidden| opens && **hidden == tag.name);
                    self.hidden = hidden.map(|name| (*name, String::new()));
                }
                None => text.push_str(&held),
            }
            return;
        }
        let begins = self.held.len() > 1 || c.is_ascii_alphabetic() || matches!(c, '/' | '!' | '?');
        if !begins || c == '<' || c == '`' || self.held.len() >= LONGEST_TAG {
            text.push_str(&std::mem::take(&mut self.held));
            self.quote = None;
            return self.take(c, text);
        }
        self.quote = match self.quote {
            None if matches!(c, '"' | '\'') && self.held.ends_with('=') => Some(c),
            Some(quote) if quote == c => None,
            quote => quote,
        };
        self.held.push(c);
        if self.held == "<![CDATA[" {
            // What is in it is text; its end is no more than brackets.
            self.held.clear();
        }
    }
}

/// A whole text without its tags.
pub(super) fn without_tags(text: &str) -> String {
    let (mut tags, mut plain) = (MarkupFilter::default(), String::with_capacity(text.len()));
    tags.push(text, &mut plain);
    tags.finish(&mut plain);
    plain
}

struct Tag<'t> {
    name: String,
    attributes: Vec<(&'t str, &'t str)>,
}

impl<'t> Tag<'t> {
    /// `None` if it is something else between `<` and `>`.
    fn of(written: &'t str) -> Option<Self> {
        let inner = written.strip_prefix('<')?.strip_suffix('>')?;
        if inner.starts_with(['!', '?']) {
            let is_one =
                inner.starts_with("!--") || inner.starts_with('?') || inner[1..].starts_with(char::is_alphabetic);
            return is_one.then(|| Self { name: String::new(), attributes: Vec::new() });
        }
        let (closes, inner) = (inner.starts_with('/'), inner.trim_start_matches('/'));
        let (stands_alone, inner) = (inner.ends_with('/'), inner.trim_end_matches('/'));
        let end = inner.find(char::is_whitespace).unwrap_or(inner.len());
        let (name, rest) = inner.split_at(end);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.');
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) || name.contains("..") {
            return None;
        }
        let attributes = attributes(rest)?;
        let name = name.to_ascii_lowercase();
        // `<https://a.b/>` and `<a@b.c>` have been refused for their signs, `<b.c>` is a host.
        let is_tag = closes
            || stands_alone
            || !attributes.is_empty()
            || (name.contains(':') && !name.ends_with(':'))
            || NAMES.contains(&name.as_str());
        is_tag.then_some(Self { name, attributes })
    }

    fn attribute(&self, name: &str) -> Option<&'t str> {
        self.attributes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// What stands in its place.
    fn said(&self) -> String {
        match self.name.as_str() {
            "break" => pause(self.milliseconds()),
            "img" => self.attribute("alt").unwrap_or_default().to_owned(),
            name if BLOCKS.contains(&name) => "\n".to_owned(),
            _ => String::new(),
        }
    }

    /// Of a `<break>`.
    fn milliseconds(&self) -> f64 {
        let strength = self.attribute("strength");
        let strength = strength.and_then(|strength| STRENGTHS.iter().find(|(name, _)| *name == strength));
        let time = self.attribute("time").map(|time| time.trim().to_ascii_lowercase()).and_then(|time| {
            let number = |digits: &str| digits.trim().parse::<f64>().ok();
            match time.strip_suffix("ms") {
                Some(milliseconds) => number(milliseconds),
                None => number(time.strip_suffix('s')?).map(|seconds| seconds * 1_000.0),
            }
        });
        time.or_else(|| strength.map(|(_, milliseconds)| *milliseconds)).unwrap_or(USUAL_MS)
    }
}

/// Between words, so it parts them.
fn pause(milliseconds: f64) -> String {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped first")]
    let hundredths = (milliseconds / 10.0).round().clamp(0.0, f64::from(LONGEST)) as u32;
    let mark = char::from_u32(PAUSE + hundredths).filter(|_| hundredths > 0);
    mark.map_or_else(|| " ".to_owned(), |mark| format!(" {mark} "))
}

/// `name="value"` and its like; `None` if something else is among them.
fn attributes(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | '@');
        if name.is_empty() || !name.chars().all(plain) {
            return None;
        }
        let after = after.trim_start();
        let Some(value) = after.strip_prefix('=').map(str::trim_start) else {
            if !FLAGS.contains(&name.to_ascii_lowercase().as_str()) {
                return None;
            }
            rest = after;
            continue;
        };
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
        let (value, after) = match quote {
            Some(quote) => value[1..].split_once(quote)?,
            None => value.split_at(value.find(char::is_whitespace).unwrap_or(value.len())),
        };
        found.push((name, value));
        rest = after.trim_start();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pauses are shown as their milliseconds in brackets.
    fn shown(text: &str) -> String {
        let show = |c: char| pause_ms(c).map_or_else(|| c.to_string(), |ms| format!("[{ms}]"));
        text.chars()
            .map(show)
            .collect::<String>()
            .split(' ')
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn tags_are_taken_out_and_their_text_stays() {
        for (text, plain) in [
            (
                "<speak>Hello <break time=\"500ms\"/> <prosody rate=\"slow\">world</prosody></speak>",
                "Hello [500] world",
            ),
            (
                "<p>Hello <b>world</b>, see <a href=\"https://x.org/a?b>c\">this link</a>.</p>",
                "\nHello world, see this link.\n",
            ),
            ("One<br>two<br/>three<BR />four", "One\ntwo\nthree\nfour"),
            ("a <break time='1.5s'> b <break/> c <break strength=\"x-strong\"/> d", "a [1500] b [400] c [1000] d"),
            ("a <break time=\"2h\"/> b <break time='999s'/> c <break time=\"0\"/> d", "a [400] b [10000] c [400] d"),
            ("<amazon:effect name=\"whispered\">hush</amazon:effect>", "hush"),
            ("<mstts:express-as style='sad'>oh</mstts:express-as>", "oh"),
            ("<sub alias=\"World Wide Web\">W3C</sub> <say-as interpret-as=\"date\">1/2</say-as>", "W3C 1/2"),
            ("<!-- not said --><?xml version=\"1.0\"?><!DOCTYPE html>Hi", "Hi"),
            ("a <script>if (x < 1) {}</script>b <style>p { color: red }</STYLE>c <style>d", "a b c d"),
            ("<think>Hmm</think>Hi", "\nHmm\nHi"),
            ("<img src=\"x.png\" alt=\"a cat\"> <input disabled>", "a cat "),
            ("<custom-thing>word</custom-thing>", "<custom-thing>word"),
        ] {
            assert_eq!(shown(&without_tags(text)), plain.trim_end_matches(' '), "{text}");
        }
    }

    #[test]
    fn what_is_no_tag_stays() {
        for text in [
            "x < y and 5 > 3",
            "x<y and y>z",
            "if a<b and c>d",
            "a <- b -> c, <3 and <=>",
            "List<String> and Vec<u8>",
            "<https://a.b/c> and <a@b.de>",
            "Dear <name>, welcome",
            "Write `<b>` and `</b>` for bold.",
            "1 < 2",
            "<",
            "<b",
            "<a href=\"",
            "<|im_end|>",
        ] {
            assert_eq!(without_tags(text), text);
        }
        let long = format!("<a href=\"{}\">", "x".repeat(5_000));
        assert_eq!(without_tags(&long), long);
        assert_eq!(without_tags("a\u{f0032}b"), "ab", "nobody but a tag makes a pause");
    }

    proptest::proptest! {
        #[test]
        fn pieces_do_not_matter(text in "[ab<>/=\"'`! x-]{0,60}", cut in 0usize..60) {
            let cut = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            let (mut tags, mut plain) = (MarkupFilter::default(), String::new());
            tags.push(&text[..cut], &mut plain);
            tags.push(&text[cut..], &mut plain);
            tags.finish(&mut plain);
            proptest::prop_assert_eq!(plain, without_tags(&text));
        }
    }
}
