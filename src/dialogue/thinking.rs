//! Takes out of a streamed reply what a model thinks and nobody should hear: `<think>...</think>` and its like.
//!
//! In here: a pure, incremental filter. Tags may be split over pieces anywhere. Thoughts that come in a field of their
//! own (`reasoning_content`) never get here.

const TAGS: [(&str, &str); 4] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
];

/// Keeps at most the beginning of a tag.
#[derive(Debug, Default)]
pub(super) struct Thoughtless {
    held: String,
    /// The tag that ends the thought we are in.
    until: Option<&'static str>,
}

impl Thoughtless {
    /// Takes the next piece and gives what of the text is certain to be meant for others.
    pub(super) fn push(&mut self, piece: &str) -> String {
        let text = std::mem::take(&mut self.held) + piece;
        let mut rest = text.as_str();
        let mut said = String::new();
        loop {
            if let Some(end) = self.until {
                let Some((_, after)) = rest.split_once(end) else {
                    rest = &rest[rest.len() - begun(rest, &[end])..];
                    break;
                };
                (rest, self.until) = (after, None);
                continue;
            }
            let all = TAGS.map(|(open, close)| [open, close]);
            let tags = all.as_flattened();
            let Some((at, tag)) = tags.iter().filter_map(|tag| Some((rest.find(tag)?, *tag))).min() else {
                let (certain, unknown) = rest.split_at(rest.len() - begun(rest, tags));
                said.push_str(certain);
                rest = unknown;
                break;
            };
            said.push_str(&rest[..at]);
            rest = &rest[at + tag.len()..];
            // A closing tag alone, its opening one having been part of the prompt, is dropped.
            self.until = TAGS.iter().find_map(|(open, close)| (*open == tag).then_some(*close));
        }
        self.held = rest.to_owned();
        said
    }

    /// What was held back and turned out to be no tag. A thought that never ended stays unsaid.
    pub(super) fn finish(self) -> String {
        if self.until.is_some() { String::new() } else { self.held }
    }
}

/// How many bytes at the end of the text may be the beginning of one of these tags.
fn begun(text: &str, tags: &[&str]) -> usize {
    let longest = |tag: &&str| (1..tag.len()).rev().find(|length| text.ends_with(&tag[..*length])).unwrap_or(0);
    tags.iter().map(longest).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(pieces: &[&str]) -> String {
        let mut filter = Thoughtless::default();
        let said: String = pieces.iter().map(|piece| filter.push(piece)).collect();
        said + &filter.finish()
    }

    #[test]
    fn thoughts_are_not_said_wherever_the_tags_are_split() {
        let text = "<think>a < b, so <b> \n</think>Hello <i>you</i>.<thinking>more</thinking> 1 < 2 <";
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert_eq!(said(&[&text[..cut], &text[cut..]]), "Hello <i>you</i>. 1 < 2 <", "{cut}");
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(said(&letters.iter().map(String::as_str).collect::<Vec<_>>()), "Hello <i>you</i>. 1 < 2 <");
    }

    #[test]
    fn a_thought_without_end_and_an_end_without_thought_are_not_said() {
        assert_eq!(said(&["Yes. <think>but perhaps"]), "Yes. ");
        assert_eq!(said(&["hm</thi", "nk>Yes."]), "hmYes.");
    }

    #[test]
    fn what_is_certain_is_said_at_once_and_a_thought_is_not_kept() {
        let mut filter = Thoughtless::default();
        assert_eq!(filter.push("Hello <"), "Hello ");
        assert_eq!(filter.push("b>"), "<b>");
        assert_eq!(filter.push("<think>"), "");
        for _ in 0..1000 {
            filter.push("thinking about it </thin");
            assert!(filter.held.len() < 16);
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(parts in prop::collection::vec(prop::sample::select(
            vec!["<think>", "</think>", "<", "think", ">", "</", "<thinking>", "é", "word ", "</thinking>"]), 0..20)) {
            let whole = parts.concat();
            prop_assert_eq!(said(&[&whole]), said(&parts));
        }
    }
}
