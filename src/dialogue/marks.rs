//! The marks that models write around what is not for the user: thoughts, calls, whose turn it is, where it ends.
//!
//! In here: what a mark looks like and what it means, for one place of a text. Not in here: what is said between marks
//! (`thinking`).
//! Pure. Marks come in five shapes: `<think>`, `<|im_end|>` (with bars of full width at DeepSeek), `<|channel>` and
//! `<channel|>` (halves, at Gemma 4), `[THINK]`, and `◁think▷` (Kimi). Names are told apart without regard to case, and by
//! their parts rather than one by one: `tool_call_begin`, `start_thinking` and `/think` are built alike.

/// No name is longer.
const MAX_NAME: usize = 48;
/// A tag with attributes is no longer.
const MAX_TAG: usize = 256;

/// HTML unless its attributes say that it folds up a thought.
pub(super) const DETAILS: &str = "details";

/// What a mark means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// The name of what begins or ends, the same for both.
    Thought(Edge, String),
    /// Likewise; answers of tools are as little for the user.
    Call(Edge, String),
    /// A call that ends with the turn.
    CallToTheEnd,
    /// The answer itself, where it is marked.
    Answer(Edge),
    /// The turn is over.
    End,
    /// `</s>`, which is HTML too.
    EndOrStrike,
    /// `<s>`, likewise.
    BeginOrStrike,
    /// A message is over, and the turn unless it was a thought (`<|end|>`).
    MessageEnd,
    /// What follows is said by the assistant, or by somebody else.
    Turn {
        is_ours: bool,
    },
    /// The name of who speaks follows, up to [`Mark::HeaderEnd`], or to the end of the line.
    Header {
        is_line: bool,
    },
    HeaderEnd,
    /// The name of a channel follows, up to [`Mark::HeaderEnd`], or to the end of the line.
    Channel {
        is_line: bool,
    },
    /// Not for the user and of no meaning.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    Begins,
    Ends,
}

/// What a text begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lexed {
    /// So many bytes.
    Mark(usize, Mark),
    /// More of the text will tell.
    Open,
    No,
}

/// What marks begin with.
pub(super) const FIRST: [char; 3] = ['<', '[', '◁'];

/// What the text begins with; its first character is one of [`FIRST`].
pub(super) fn lex(text: &str) -> Lexed {
    match text.chars().next() {
        Some('<') => angle(text),
        Some('[') => square(text),
        Some('◁') => kimi(text),
        _ => Lexed::No,
    }
}

fn is_bar(c: char) -> bool {
    matches!(c, '|' | '｜')
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '▁' | '-' | ':' | '.')
}

/// In lower case, with one kind of joint.
fn normal(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '▁' | '-' | ' ') { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// The bytes of the name at the beginning of a text.
fn name_length(text: &str) -> usize {
    text.char_indices().find(|(_, c)| !is_of_name(*c)).map_or(text.len(), |(at, _)| at)
}

fn found(text: &str, rest: &str, mark: Option<Mark>) -> Lexed {
    mark.map_or(Lexed::No, |mark| Lexed::Mark(text.len() - rest.len(), mark))
}

fn angle(text: &str) -> Lexed {
    let rest = &text[1..];
    // `</｜DSML｜invoke>` and `<｜DSML｜invoke>` are tags of DeepSeek.
    let (slash, rest) = rest.strip_prefix('/').map_or((false, rest), |rest| (true, rest));
    let Some(first) = rest.chars().next() else { return Lexed::Open };
    if !is_bar(first) {
        return tag(text, slash, rest);
    }
    let rest = &rest[first.len_utf8()..];
    let (inner, rest) = rest.strip_prefix('/').map_or((false, rest), |rest| (true, rest));
    let length = name_length(rest);
    let (name, rest) = rest.split_at(length);
    // Gemma writes `<|"|>` for a quotation mark within calls.
    let (name, rest) = match rest.strip_prefix('"') {
        Some(after) if name.is_empty() => ("\"", after),
        _ => (name, rest),
    };
    if name.len() > MAX_NAME {
        return Lexed::No;
    }
    let Some(next) = rest.chars().next() else { return Lexed::Open };
    if name.is_empty() {
        return Lexed::No;
    }
    let is_end = slash || inner;
    let rest = &rest[next.len_utf8()..];
    if next == '>' {
        return found(text, rest, half(&normal(name), Edge::Begins));
    }
    if !is_bar(next) {
        return Lexed::No;
    }
    match rest.chars().next() {
        None => Lexed::Open,
        Some('>') => found(text, &rest[1..], Some(token(&normal(name), is_end))),
        Some(_) if name == "DSML" => tag(text, is_end, rest),
        Some(_) => Lexed::No,
    }
}

/// Behind `<` or `</`.
fn tag(text: &str, slash: bool, rest: &str) -> Lexed {
    let (name, rest) = rest.split_at(name_length(rest));
    if name.len() > MAX_NAME {
        return Lexed::No;
    }
    let Some(next) = rest.chars().next() else { return Lexed::Open };
    let mark = named_tag(&normal(name), slash);
    let after = &rest[next.len_utf8()..];
    match next {
        '>' => found(text, after, mark),
        c if is_bar(c) && !slash => match after.chars().next() {
            None => Lexed::Open,
            Some('>') => found(text, &after[1..], half(&normal(name), Edge::Ends)),
            Some(_) => Lexed::No,
        },
        // Open WebUI folds thoughts up so.
        ' ' if !slash && name.eq_ignore_ascii_case("details") => match rest.find('>') {
            Some(end) if rest[..end].contains("reasoning") => {
                found(text, &rest[end + 1..], Some(Mark::Thought(Edge::Begins, DETAILS.to_owned())))
            }
            None if rest.len() <= MAX_TAG => Lexed::Open,
            _ => Lexed::No,
        },
        _ if mark.is_none() => Lexed::No,
        // Only what brackets something has attributes.
        '/' | '=' | ' ' | '\n' | '\t' if !matches!(mark, Some(Mark::End | Mark::EndOrStrike | Mark::BeginOrStrike)) => {
            match rest.find('>') {
                Some(end) if end <= MAX_TAG => {
                    let mark = if rest[..end].ends_with('/') { Some(Mark::Nothing) } else { mark };
                    found(text, &rest[end + 1..], mark)
                }
                None if rest.len() <= MAX_TAG => Lexed::Open,
                _ => Lexed::No,
            }
        }
        _ => Lexed::No,
    }
}

fn square(text: &str) -> Lexed {
    let rest = &text[1..];
    let (slash, rest) = rest.strip_prefix('/').map_or((false, rest), |rest| (true, rest));
    let (bar, rest) = rest.strip_prefix('|').map_or((false, rest), |rest| (true, rest));
    let is_of_name = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | ' ' | '|');
    let length = rest.find(|c| !is_of_name(c)).unwrap_or(rest.len());
    let (name, rest) = rest.split_at(length);
    if name.len() > MAX_NAME || name.starts_with(' ') {
        return Lexed::No;
    }
    match rest.chars().next() {
        None => Lexed::Open,
        Some(']') if bar => {
            let mark = name.strip_suffix('|').filter(|name| !name.contains([' ', '|']));
            found(text, &rest[1..], mark.map(|name| token(&normal(name), slash)))
        }
        Some(']') => found(text, &rest[1..], bracketed(name, slash)),
        Some(_) => Lexed::No,
    }
}

fn kimi(text: &str) -> Lexed {
    let rest = &text['◁'.len_utf8()..];
    let (slash, rest) = rest.strip_prefix('/').map_or((false, rest), |rest| (true, rest));
    let (name, rest) = rest.split_at(name_length(rest));
    match rest.chars().next() {
        None if name.len() <= MAX_NAME => Lexed::Open,
        Some('▷') => found(text, &rest['▷'.len_utf8()..], Some(token(&normal(name), slash))),
        _ => Lexed::No,
    }
}

/// `<name>`, `</name>`. Others, as of HTML, are the text's own.
fn named_tag(name: &str, slash: bool) -> Option<Mark> {
    match (name, slash) {
        ("s", true) => return Some(Mark::EndOrStrike),
        ("s", false) => return Some(Mark::BeginOrStrike),
        (
            "eos" | "eot" | "eod" | "eoa" | "eoh" | "eos_id" | "eot_id" | "im_end" | "end_of_turn" | "end_of_utterance"
            | "end_of_text" | "endoftext" | "end_of_sentence",
            false,
        ) => return Some(Mark::End),
        ("bos" | "pad" | "unk" | "sop" | "gmask", false) => return Some(Mark::Nothing),
        ("start_of_turn", false) => return Some(Mark::Header { is_line: true }),
        (DETAILS, true) => return Some(Mark::Thought(Edge::Ends, DETAILS.to_owned())),
        _ => {}
    }
    // Of a maker: `seed:think`, `minimax:tool_call`, `longcat_tool_call`.
    let name = name.rsplit(':').next().unwrap_or(name);
    let name = name.strip_prefix("longcat_").unwrap_or(name);
    let edge = if slash { Edge::Ends } else { Edge::Begins };
    if is_thought(name) {
        return Some(Mark::Thought(edge, family(name)));
    }
    if is_call(name) {
        return Some(Mark::Call(edge, name.to_owned()));
    }
    // Thoughts speak of these, so they are no end of one.
    matches!(name, "answer" | "response" | "final_answer" | "final_response").then_some(Mark::Nothing)
}

/// `<|name|>`, `◁name▷`, `[|name|]`: of a tokenizer, so it is never something to say, whatever it means.
fn token(name: &str, slash: bool) -> Mark {
    let name = name.strip_suffix("_token").unwrap_or(name);
    match name {
        "end" => return Mark::MessageEnd,
        "im_end" | "eot_id" | "eom_id" | "eos_id" | "eod_id" | "eot" | "eom" | "eod" | "endofsentence"
        | "endofmessage" | "end_of_text" | "endoftext" | "end_of_turn" | "endofturn" | "end_of_sentence"
        | "end_of_message" | "end_of_utterance" | "eos" | "return" | "call" | "stop" | "turn_end" | "message_end"
        | "assistant_end" | "end_of_assistant" => return Mark::End,
        "im_start" | "turn_start" => return Mark::Header { is_line: true },
        "start_header_id" | "header_start" | "start_of_role" | "role_start" | "start" | "begin" => {
            return Mark::Header { is_line: false };
        }
        "end_header_id" | "header_end" | "end_of_role" | "role_end" | "message" | "im_sep" => return Mark::HeaderEnd,
        "channel" => return Mark::Channel { is_line: false },
        "assistant" | "assistant_start" | "chatbot" | "model" | "bot" => return Mark::Turn { is_ours: true },
        "user" | "user_start" | "system" | "system_start" | "human" | "observation" | "developer"
        | "developer_start" | "prompter" | "tool" | "instruction" => return Mark::Turn { is_ours: false },
        "python_tag" | "plugin" | "interpreter" => return Mark::CallToTheEnd,
        _ => {}
    }
    let (edge, base) = edge(name, slash);
    if is_thought(base) || base == "inner" {
        return Mark::Thought(edge, family(base));
    }
    if is_call(base) || matches!(base, "tools" | "tool_calls_section" | "action" | "tool_code") {
        return Mark::Call(edge, base.to_owned());
    }
    match base {
        "response" | "solution" | "answer" | "content" | "final" => Mark::Answer(edge),
        _ => Mark::Nothing,
    }
}

/// `<|name>` and `<name|>`.
fn half(name: &str, edge: Edge) -> Option<Mark> {
    match (name, edge) {
        ("channel", Edge::Begins) => Some(Mark::Channel { is_line: true }),
        ("channel", Edge::Ends) => Some(Mark::Thought(Edge::Ends, "channel".to_owned())),
        ("turn", Edge::Begins) => Some(Mark::Header { is_line: true }),
        ("turn", Edge::Ends) => Some(Mark::End),
        ("think", Edge::Begins) => Some(Mark::Nothing),
        _ if is_call(name) || name == "tool" => Some(Mark::Call(edge, name.to_owned())),
        _ => None,
    }
}

/// `[NAME]`, `[/NAME]`. In capitals, so that `[action]` or `[inst]` of a text stay what they are.
fn bracketed(name: &str, slash: bool) -> Option<Mark> {
    let edge = if slash { Edge::Ends } else { Edge::Begins };
    if name.eq_ignore_ascii_case("think") {
        return Some(Mark::Thought(edge, family("think")));
    }
    match name {
        "TOOL_CALLS" | "TOOL_CALL" if !slash => Some(Mark::CallToTheEnd),
        "TOOL_CALLS" | "TOOL_CALL" | "BEGIN FINAL RESPONSE" | "END FINAL RESPONSE" => Some(Mark::Nothing),
        "TOOL_REQUEST" | "AVAILABLE_TOOLS" | "TOOL_RESULTS" | "TOOL_RESULT" | "TOOL_CONTENT" => {
            Some(Mark::Call(edge, normal(name)))
        }
        "END_TOOL_REQUEST" => Some(Mark::Call(Edge::Ends, "tool_request".to_owned())),
        "INST" => Some(Mark::Turn { is_ours: slash }),
        "SYSTEM_PROMPT" => Some(Mark::Turn { is_ours: false }),
        "EOS" => Some(Mark::End),
        _ => None,
    }
}

/// Which end of what: `tool_call_begin`, `start_thinking`, `begin_of_thought`.
fn edge(name: &str, slash: bool) -> (Edge, &str) {
    let without = |affixes: &[&str]| {
        affixes.iter().find_map(|affix| match affix.strip_prefix('_') {
            Some(_) => name.strip_suffix(affix),
            None => name.strip_prefix(affix),
        })
    };
    if let Some(base) = without(&["end_of_", "end_", "_end", "_suffix", "_close"]) {
        return (Edge::Ends, base);
    }
    let base = without(&["start_of_", "start_", "begin_of_", "begin_", "_begin", "_start", "_prefix", "_open"]);
    (if slash { Edge::Ends } else { Edge::Begins }, base.unwrap_or(name))
}

/// By its parts: `thought_process`, `inner_thoughts`, `reasoning_content`.
fn is_thought(name: &str) -> bool {
    let is_part = |part: &str| {
        matches!(
            part,
            "think" | "thinking" | "thought" | "thoughts" | "reasoning" | "monologue" | "scratchpad" | "antthinking"
        )
    };
    name.split('_').any(is_part)
        || matches!(name, "reflection" | "reflexion" | "scratch_pad" | "analysis" | "cot" | "internal")
}

/// Models begin with `<think>` and end with `</thinking>`.
fn family(name: &str) -> String {
    if name.contains("think") || name.contains("thought") { "think" } else { name }.to_owned()
}

fn is_call(name: &str) -> bool {
    let name = name.strip_suffix('s').unwrap_or(name);
    matches!(
        name,
        "tool_call"
            | "toolcall"
            | "tool_use"
            | "tool_code"
            | "tool_request"
            | "tool_response"
            | "tool_result"
            | "tool_output"
            | "tool_declare"
            | "function_call"
            | "functioncall"
            | "function_result"
            | "function_response"
            | "function"
            | "invoke"
            | "use_mcp_tool"
            | "available_tool"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_every_shape_are_known() {
        let (begins, ends) = (Edge::Begins, Edge::Ends);
        let thought = |edge| Mark::Thought(edge, "think".into());
        let call = |edge, name: &str| Mark::Call(edge, name.into());
        for (text, mark) in [
            ("<think>", thought(begins)),
            ("</THINK>", thought(ends)),
            ("<seed:think>", thought(begins)),
            ("<thinking type=\"deep\">", thought(begins)),
            ("<think/>", Mark::Nothing),
            ("</think >", thought(ends)),
            ("<thought_process>", thought(begins)),
            ("<details type=\"reasoning\" done=\"true\">", Mark::Thought(begins, "details".into())),
            ("[/THINK]", thought(ends)),
            ("◁/think▷", thought(ends)),
            ("<|START_THINKING|>", thought(begins)),
            ("<|end_of_thought|>", thought(ends)),
            ("<|/think|>", thought(ends)),
            ("<|inner_suffix|>", Mark::Thought(ends, "inner".into())),
            ("<|channel>", Mark::Channel { is_line: true }),
            ("<channel|>", Mark::Thought(ends, "channel".into())),
            ("<tool_call>", call(begins, "tool_call")),
            ("<function=get_hours>", call(begins, "function")),
            ("</minimax:tool_call>", call(ends, "tool_call")),
            ("<｜tool▁calls▁begin｜>", call(begins, "tool_calls")),
            ("<｜DSML｜function_calls>", call(begins, "function_calls")),
            ("</｜DSML｜function_calls>", call(ends, "function_calls")),
            ("<|tool_calls_section_end|>", call(ends, "tool_calls_section")),
            ("<|tool_call>", call(begins, "tool_call")),
            ("<tool_call|>", call(ends, "tool_call")),
            ("[TOOL_CALLS]", Mark::CallToTheEnd),
            ("<|python_tag|>", Mark::CallToTheEnd),
            ("<|im_end|>", Mark::End),
            ("<｜end▁of▁sentence｜>", Mark::End),
            ("<|END_OF_TURN_TOKEN|>", Mark::End),
            ("<end_of_turn>", Mark::End),
            ("[|endofturn|]", Mark::End),
            ("</s>", Mark::EndOrStrike),
            ("<|end|>", Mark::MessageEnd),
            ("<｜User｜>", Mark::Turn { is_ours: false }),
            ("<|CHATBOT_TOKEN|>", Mark::Turn { is_ours: true }),
            ("[/INST]", Mark::Turn { is_ours: true }),
            ("<|START_RESPONSE|>", Mark::Answer(begins)),
            ("<|something_new|>", Mark::Nothing),
            ("<|\"|>", Mark::Nothing),
        ] {
            assert_eq!(lex(&format!("{text} x")), Lexed::Mark(text.len(), mark.clone()), "{text}");
            for (cut, _) in text.char_indices().skip(1) {
                assert_eq!(lex(&text[..cut]), Lexed::Open, "{}", &text[..cut]);
            }
        }
    }

    #[test]
    fn what_a_text_says_is_no_mark() {
        for text in [
            "< b",
            "<b>",
            "<3",
            "<-",
            "<|>",
            "<| x",
            "<a href=\"x\">",
            "<break time=\"1s\"/>",
            "<thinker>",
            "<strong>",
            "[1]",
            "[Name]",
            "[x](y)",
            "[INST",
            "[a b",
            "[]",
            "[ TOOL_CALLS]",
            "[inst]",
            "◁ ",
            "<sub>",
            "<s ",
            "<https://x>",
            "<me@example.org>",
            "<|foo>",
            "<foo|>",
        ] {
            let lexed = lex(&format!("{text}. x"));
            assert_eq!(lexed, Lexed::No, "{text}");
        }
        assert_eq!(lex(&format!("<{}", "a".repeat(MAX_NAME + 1))), Lexed::No);
        assert_eq!(lex(&format!("<function={}", "a".repeat(MAX_TAG + 1))), Lexed::No);
    }
}
