//! Takes out of a streamed reply what nobody should hear: what a model thinks, what it asks of tools, the marks around all
//! of it, and what it writes after the end of its turn.
//!
//! In here: a pure, incremental filter. Marks may be split over deltas anywhere; no more than one is kept. Not in here:
//! what marks look like (`marks`), and thoughts that come in a field of their own (`llm::chunk`).
//! Sources: OpenAI's "harmony response format"; chat templates and parsers of vLLM, SGLang and llama.cpp.

use super::marks::{DETAILS, Edge, FIRST, Lexed, Mark, lex};

/// How OpenAI's open models look where a server drops their marks and keeps the words between: "analysisWe need to ...
/// assistantfinalHello."
const BARE_THOUGHT: &str = "analysis";
const BARE_ANSWER: &str = "assistantfinal";
/// What is read of the name of a channel or of who speaks.
const MAX_HEADER: usize = 64;
/// Pairs that a mark stands between when it is spoken of.
const QUOTES: [(char, char); 7] =
    [('`', '`'), ('"', '"'), ('\'', '\''), ('“', '”'), ('‘', '’'), ('«', '»'), ('„', '“')];

/// Keeps at most the beginning of a mark.
#[derive(Debug)]
pub(super) struct Thoughtless {
    held: String,
    place: Place,
    /// A word was let through.
    has_said: bool,
    /// Nothing has come yet.
    is_first: bool,
    /// The last character that was let through.
    last: Option<char>,
    /// `<s>` of HTML that are open.
    strikes: usize,
    /// A thought has ended that had not begun.
    is_lone: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    Said,
    /// Until this ends. No name: any end is one, its beginning having been part of the prompt.
    Thought(Option<String>),
    /// Until [`BARE_ANSWER`].
    BareThought,
    Call(String),
    CallToTheEnd,
    /// A message in a channel that is not for the user.
    Channel,
    /// Somebody else's turn, as the prompt that some servers repeat.
    Theirs,
    Header(Header, String),
    /// The turn has ended.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Speaker { is_line: bool },
    Channel { is_line: bool },
}

impl Header {
    fn is_line(self) -> bool {
        match self {
            Self::Speaker { is_line } | Self::Channel { is_line } => is_line,
        }
    }
}

impl Thoughtless {
    /// `begins_thinking`: the reply begins with a thought, of which only the end is marked.
    pub(super) fn new(begins_thinking: bool) -> Self {
        Self {
            held: String::new(),
            place: if begins_thinking { Place::Thought(None) } else { Place::Said },
            has_said: false,
            is_first: true,
            last: None,
            strikes: 0,
            is_lone: false,
        }
    }

    /// Whether a thought ends in this text that does not begin in it.
    pub(super) fn ends_a_thought(text: &str) -> bool {
        let mut trial = Self::new(false);
        trial.push(text);
        trial.is_lone
    }

    /// Takes the next delta and gives what of the text is certain to be meant for others.
    pub(super) fn push(&mut self, delta: &str) -> String {
        let text = std::mem::take(&mut self.held) + delta;
        self.run(&text, false)
    }

    /// What was held back and turned out to be no mark. A thought that never ended stays unsaid.
    pub(super) fn finish(&mut self) -> String {
        let text = std::mem::take(&mut self.held);
        self.run(&text, true)
    }

    /// The turn has ended; whatever comes is not said.
    pub(super) fn is_over(&self) -> bool {
        self.place == Place::Over
    }

    pub(super) fn is_thinking(&self) -> bool {
        matches!(self.place, Place::Thought(_) | Place::BareThought | Place::Channel)
    }

    /// Whether a thought has ended that had not begun, so that it may have been said.
    pub(super) fn has_said_a_thought(&self) -> bool {
        self.is_lone
    }

    fn run(&mut self, text: &str, is_end: bool) -> String {
        let mut said = String::new();
        let mut rest = text;
        if self.is_first && self.place == Place::Said {
            let begun = text.trim_start();
            if BARE_THOUGHT.starts_with(begun) && !is_end {
                text.clone_into(&mut self.held);
                return said;
            }
            if begun.strip_prefix(BARE_THOUGHT).is_some_and(|rest| rest.starts_with(char::is_uppercase)) {
                self.place = Place::BareThought;
            }
        }
        self.is_first = false;
        while !rest.is_empty() && self.place != Place::Over {
            if self.place == Place::BareThought {
                let Some((_, after)) = rest.split_once(BARE_ANSWER) else {
                    rest = &rest[rest.len() - begun(rest, BARE_ANSWER)..];
                    break;
                };
                (self.place, rest) = (Place::Said, after);
                continue;
            }
            let is_line = matches!(&self.place, Place::Header(header, _) if header.is_line());
            let at = rest.find(|c| FIRST.contains(&c) || (is_line && c == '\n')).unwrap_or(rest.len());
            let (plain, marked) = rest.split_at(at);
            self.plain(plain, &mut said);
            rest = marked;
            let Some(first) = rest.chars().next() else { break };
            if first == '\n' {
                self.header_ends();
                rest = &rest[1..];
                continue;
            }
            match lex(rest) {
                Lexed::Open if !is_end => break,
                // Cut off in the middle of it.
                Lexed::Open if rest.starts_with("<|") || rest.starts_with("</") || rest.starts_with("<｜") => {
                    return said;
                }
                Lexed::Open | Lexed::No => {
                    let (plain, after) = rest.split_at(first.len_utf8());
                    self.plain(plain, &mut said);
                    rest = after;
                }
                Lexed::Mark(length, mark) => {
                    let (written, after) = rest.split_at(length);
                    match self.is_quoted(after, is_end) {
                        None => break,
                        Some(true) => self.plain(written, &mut said),
                        Some(false) => self.mark(mark, written, &mut said),
                    }
                    rest = after;
                }
            }
        }
        rest.clone_into(&mut self.held);
        if is_end || self.is_over() {
            self.held.clear();
        }
        said
    }

    /// Whether a mark stands between quotation marks, if that is known already.
    fn is_quoted(&self, after: &str, is_end: bool) -> Option<bool> {
        let open = self.last.filter(|_| self.place == Place::Said);
        let mut closing = QUOTES.iter().filter(|(quote, _)| Some(*quote) == open).map(|(_, quote)| *quote).peekable();
        if closing.peek().is_none() {
            return Some(false);
        }
        match after.chars().next() {
            None if !is_end => None,
            next => Some(closing.any(|quote| Some(quote) == next)),
        }
    }

    fn plain(&mut self, text: &str, said: &mut String) {
        match &mut self.place {
            Place::Said => {
                // What could not be read stands for itself and cannot be said.
                said.extend(text.chars().filter(|c| *c != char::REPLACEMENT_CHARACTER));
                self.has_said |= text.contains(|c: char| !c.is_whitespace());
                self.last = text.chars().next_back().or(self.last);
            }
            Place::Header(_, name) => {
                name.extend(text.chars().take(MAX_HEADER.saturating_sub(name.len())));
            }
            _ => {}
        }
    }

    fn mark(&mut self, mark: Mark, written: &str, said: &mut String) {
        match (&self.place, &mark) {
            (Place::Header(..), Mark::Nothing) => return,
            (Place::Header(..), Mark::HeaderEnd) => return self.header_ends(),
            // What stands in the place of the end.
            (Place::Header(..), Mark::Channel { .. }) => {}
            (Place::Header(..), _) => self.header_ends(),
            _ => {}
        }
        match (&self.place, &mark) {
            (Place::Thought(begun), Mark::Thought(Edge::Ends, name)) => {
                if begun.as_ref().is_none_or(|begun| begun == name) {
                    self.place = Place::Said;
                }
            }
            (Place::Thought(None), Mark::Thought(Edge::Begins, name)) => {
                self.place = Place::Thought(Some(name.clone()))
            }
            // Upstage's thoughts are a message of their own, Cohere's may lack their end.
            (Place::Thought(Some(_)), Mark::Answer(Edge::Begins)) => self.place = Place::Said,
            (Place::Call(begun), Mark::Call(Edge::Ends, name)) => {
                if begun == name {
                    self.place = Place::Said;
                }
            }
            // What is thought may quote anything.
            (Place::Thought(_), _) => {}
            (
                Place::Call(_) | Place::CallToTheEnd | Place::Channel | Place::Theirs,
                Mark::Thought(..)
                | Mark::Call(..)
                | Mark::CallToTheEnd
                | Mark::Answer(_)
                | Mark::HeaderEnd
                | Mark::BeginOrStrike
                | Mark::Nothing,
            ) => {}
            (Place::Theirs, Mark::End | Mark::MessageEnd | Mark::EndOrStrike) => {}
            (_, Mark::EndOrStrike) if self.strikes > 0 => {
                self.strikes -= 1;
                self.plain(written, said);
            }
            (_, Mark::BeginOrStrike) if self.has_said => {
                self.strikes += 1;
                self.plain(written, said);
            }
            // Before the first word there is nothing to end, and a thought may have been a message.
            (_, Mark::End | Mark::EndOrStrike | Mark::MessageEnd) => {
                self.place = if self.has_said { Place::Over } else { Place::Said };
            }
            (_, Mark::Turn { .. } | Mark::Header { .. }) if self.has_said => self.place = Place::Over,
            (_, Mark::Turn { is_ours }) => self.place = if *is_ours { Place::Said } else { Place::Theirs },
            (_, Mark::Header { is_line }) => {
                self.place = Place::Header(Header::Speaker { is_line: *is_line }, String::new());
            }
            (_, Mark::Channel { is_line }) => {
                self.place = Place::Header(Header::Channel { is_line: *is_line }, String::new());
            }
            (_, Mark::Thought(Edge::Begins, name)) => self.place = Place::Thought(Some(name.clone())),
            (_, Mark::Thought(Edge::Ends, name)) if name == DETAILS => self.plain(written, said),
            (_, Mark::Thought(Edge::Ends, _)) => self.is_lone = true,
            (_, Mark::Call(Edge::Begins, name)) => self.place = Place::Call(name.clone()),
            (_, Mark::CallToTheEnd) => self.place = Place::CallToTheEnd,
            (
                _,
                Mark::Call(Edge::Ends, _) | Mark::Answer(_) | Mark::HeaderEnd | Mark::BeginOrStrike | Mark::Nothing,
            ) => {}
        }
    }

    fn header_ends(&mut self) {
        let Place::Header(header, name) = &self.place else { return };
        let name = name.split(|c: char| !c.is_ascii_alphanumeric()).find(|word| !word.is_empty());
        let name = name.unwrap_or_default().to_ascii_lowercase();
        self.place = match header {
            Header::Speaker { .. } => match name.as_str() {
                "" | "assistant" | "model" | "bot" | "chatbot" | "ai" | "gpt" => Place::Said,
                _ => Place::Theirs,
            },
            Header::Channel { .. } if matches!(name.as_str(), "final" | "answer" | "response") => Place::Said,
            Header::Channel { is_line: true } => Place::Thought(Some("channel".to_owned())),
            Header::Channel { is_line: false } => Place::Channel,
        };
    }
}

/// How many bytes at the end of the text may be the beginning of this.
fn begun(text: &str, wanted: &str) -> usize {
    (1..wanted.len()).rev().find(|length| text.ends_with(&wanted[..*length])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said_of(begins_thinking: bool, deltas: &[&str]) -> String {
        let mut filter = Thoughtless::new(begins_thinking);
        let said: String = deltas.iter().map(|delta| filter.push(delta)).collect();
        said + &filter.finish()
    }

    fn said(deltas: &[&str]) -> String {
        said_of(false, deltas)
    }

    /// Whole, cut in two anywhere, and letter by letter.
    fn is_said_as(text: &str, expected: &str) {
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            assert_eq!(said(&[&text[..cut], &text[cut..]]).trim(), expected, "{text} cut at {cut}");
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        assert_eq!(said(&letters.iter().map(String::as_str).collect::<Vec<_>>()).trim(), expected, "{text}");
    }

    #[test]
    fn thoughts_of_every_dialect_are_not_said_wherever_the_marks_are_split() {
        for text in [
            "<think>a < b, so <b> [1] \n</think>Nine.",
            "<Thinking>\nhm</THINKING>\nNine.",
            "<thought>hm</thoughts>Nine.",
            "<reasoning>a </think> b</reasoning>Nine.",
            "<seed:think>hm</seed:think>Nine.",
            "[THINK]The user wants [1] hours.[/THINK]Nine.",
            "◁think▷hm ◁ x◁/think▷Nine.",
            "<|begin_of_thought|>hm<|end_of_thought|><|begin_of_solution|>Nine.<|end_of_solution|>",
            "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>Nine.<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
            "<|inner_prefix|>hm<|inner_suffix|>Nine.<|assistant_end|>",
            "<|channel>thought\nhm\n<channel|>Nine.<turn|>",
            "<|begin|>assistant<|think|>hm<|end|><|begin|>assistant<|content|>Nine.<|end|>",
            "<think>hm</think><answer>Nine.</answer>",
            "<think></think>\n\nNine.",
            "<think/>Nine.",
            "<details type=\"reasoning\" done=\"true\">\n<summary>Thought for 3 s</summary>\n> hm\n</details>\nNine.",
            "<|channel|>analysis<|message|>a <|x|> b<|end|><|start|>assistant<|channel|>final<|message|>Nine.<|return|>",
            "<|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>\
             <|start|>assistant<|channel|>final<|message|>Nine.<|end|>",
            "<|channel|>analysis<|message|>hm<|channel|>final <|constrain|>json<|message|>Nine.",
            "analysisWe need hours. assistant? assistantfinalNine.",
        ] {
            is_said_as(text, "Nine.");
        }
    }

    #[test]
    fn calls_of_every_dialect_are_not_said() {
        for text in [
            "Wait.<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": \"<b>\"}}\n</tool_call>",
            "Wait.<TOOLCALL>[f()]</TOOLCALL>",
            "Wait.<tool_call><function=f><parameter=a>1</parameter></function></tool_call>",
            "Wait.<function=f>{\"a\": 1}</function>",
            "Wait.<function_calls><invoke name=\"f\"></invoke></function_calls>",
            "Wait.<minimax:tool_call>\n<invoke name=\"f\"></invoke>\n</minimax:tool_call>",
            "Wait.<|tool_calls_section_begin|><|tool_call_begin|>f:0<|tool_call_argument_begin|>{}<|tool_call_end|>\
             <|tool_calls_section_end|>",
            "Wait.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜>\
             <｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
            "Wait.<｜DSML｜function_calls><｜DSML｜invoke name=\"f\"></｜DSML｜invoke></｜DSML｜function_calls>",
            "Wait.[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}}]</s>",
            "Wait.[TOOL_CALLS]f[ARGS]{\"a\": [1]}",
            "Wait.[TOOL_REQUEST]{}[END_TOOL_REQUEST]",
            "Wait.<|python_tag|>f.call(a=1)<|eom_id|>",
            "Wait.<|tool_call_start|>[f(a=1)]<|tool_call_end|>",
            "Wait.<|tool_call|>[{}]<|/tool_call|>",
            "Wait.<|tools_prefix|>[{}]<|tools_suffix|>",
            "Wait.<|action_start|><|plugin|>{}<|action_end|>",
            "Wait.<|tool_call>call:f{a:<|\"|>b<|\"|>}<tool_call|>",
            "Wait.<tool_call>never ended",
            "Wait.</tool_call>",
        ] {
            is_said_as(text, "Wait.");
        }
        is_said_as("One moment. <tool_call>{}</tool_call> Nine.", "One moment.  Nine.");
    }

    #[test]
    fn the_turn_ends_where_the_model_ends_it() {
        for text in [
            "Nine.<|im_end|>\n<|im_start|>user\nThanks!<|im_end|>\n",
            "Nine.<|im_end|><|endoftext|>",
            "Nine.</s><s>[INST] Thanks [/INST] Bye.",
            "<s> Nine.</s>",
            "Nine.<end_of_turn>\n<start_of_turn>user\nThanks",
            "Nine.<eos>Thanks",
            "Nine.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nNine.",
            "<|start_header_id|>assistant<|end_header_id|>\n\nNine.<|eom_id|>more",
            "Nine.<|end|>\n<|user|>\nThanks",
            "Nine.<|user|>\nThanks",
            "Nine.<|im_start|>user\nThanks",
            "<|im_start|>assistant\nNine.<|im_end|>",
            "<|im_start|>assistant<|im_sep|>Nine.<|im_end|>",
            "<|im_start|>user\nWhen?<|im_end|>\n<|im_start|>assistant\nNine.<|im_end|>",
            "<|system|>\nBe brief.<|user|>\nWhen?<|assistant|>\nNine.<|endoftext|>",
            "<|endoftext|>Nine.",
            "Nine.[|endofturn|]more",
            "Nine.<｜end▁of▁sentence｜><｜User｜>Thanks",
            "<start_of_turn>model\nNine.<end_of_turn>",
            "Nine.<|im_e",
            "Nine.</thin",
        ] {
            is_said_as(text, "Nine.");
        }
        let mut filter = Thoughtless::new(false);
        filter.push("Nine.<|im_end|>");
        assert!(filter.is_over());
    }

    #[test]
    fn what_only_looks_like_a_mark_is_said_as_it_is() {
        for text in [
            "If a < b, <b>then</b> see [1] and [Name](x).",
            "I think, therefore I am [thinking aloud].",
            "analysis of it, and Analysis too",
            "analysis",
            "1 < 2 <",
            "x <- y <| z |> w [",
            "Write `<think>` and \"</think>\" around it, “<tool_call>” and '<|im_end|>' too.",
            "It was <s>ten</s> nine. ◁ is a triangle.",
            "<details>more</details> <details open>x</details>",
            "<p>Nine</p><br/><a href=\"x\">here</a>",
        ] {
            is_said_as(text, text);
        }
    }

    #[test]
    fn a_quoted_word_before_a_mark_does_not_hide_it() {
        is_said_as("He said \"nine\"<|im_end|>\nmore", "He said \"nine\"");
        is_said_as("Say `nine`<think>hm</think>.", "Say `nine`.");
        is_said_as("\"<think>hm</think>Nine.\"", "\"Nine.\"");
    }

    #[test]
    fn a_thought_without_end_and_an_end_without_thought_are_not_said() {
        assert_eq!(said(&["Yes. <think>but perhaps"]), "Yes. ");
        assert_eq!(said(&["hm</thi", "nk>Yes."]), "hmYes.");
        assert!(Thoughtless::ends_a_thought("hm</think>Yes."));
        assert!(!Thoughtless::ends_a_thought("<think>hm</think>Yes."));
    }

    #[test]
    fn a_reply_that_begins_thinking_is_said_from_the_end_of_its_thought() {
        for text in ["hm a < b\n</think>\n\nNine.", "<think>hm</think>Nine.", "hm [1][/THINK]Nine.", "hm◁/think▷Nine."]
        {
            let letters: Vec<String> = text.chars().map(String::from).collect();
            let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
            assert_eq!(said_of(true, &letters).trim(), "Nine.", "{text}");
        }
        let mut filter = Thoughtless::new(true);
        assert_eq!(filter.push("No end comes.") + &filter.finish(), "");
        assert!(filter.is_thinking());
    }

    #[test]
    fn what_could_not_be_read_is_left_out() {
        assert_eq!(said(&["at five \u{fffd}", " on\u{fffd} weekdays"]), "at five  on weekdays");
    }

    #[test]
    fn what_is_certain_is_said_at_once_and_a_thought_is_not_kept() {
        let mut filter = Thoughtless::new(false);
        assert_eq!(filter.push("Hello <"), "Hello ");
        assert_eq!(filter.push("b> ["), "<b> ");
        assert_eq!(filter.push("1]"), "[1]");
        assert_eq!(filter.push("<think>"), "");
        for _ in 0..1000 {
            filter.push("thinking about it </thin");
            assert!(filter.held.len() < 16);
        }
        let mut filter = Thoughtless::new(false);
        filter.push("<|channel|>");
        for _ in 0..1000 {
            filter.push("analysis ");
        }
        assert!(matches!(&filter.place, Place::Header(_, name) if name.len() <= MAX_HEADER));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(parts in prop::collection::vec(prop::sample::select(
            vec!["<think>", "</think>", "<", "think", ">", "</", "<thinking>", "é", "word ", "</thinking>", "[THINK]",
                "<|channel|>", "final", "<|message|>", "<|end|>", "<|im_start|>", "\n", "`", "\"", "◁", "<s>", "</s>",
                "analysis", "We", "assistantfinal", "<tool_call>", "</tool_call>", "|>", "[", "]"]), 0..20)) {
            let whole = parts.concat();
            prop_assert_eq!(said(&[&whole]), said(&parts));
        }
    }
}
