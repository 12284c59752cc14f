//! One line of the stream and one chunk of the answer, in the dialects that servers speak.

use serde_json::Value;

/// What a line of the stream is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Data(&'a str),
    /// llama.cpp's way to say that something went wrong.
    Error(&'a str),
    /// `[DONE]`
    Done,
    /// A comment that keeps the connection alive, the name of an event, an empty line.
    Other,
}

impl<'a> Line<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        let line = line.trim_start_matches('\u{feff}').trim();
        // A bare JSON document is what some proxies answer when they fail.
        if line.starts_with('{') {
            return Self::Data(line);
        }
        match line.split_once(':').map(|(field, value)| (field.trim_end(), value.trim())) {
            Some(("data", "[DONE]")) => Self::Done,
            Some(("data", "")) => Self::Other,
            Some(("data", data)) => Self::Data(data),
            Some(("error", words)) => Self::Error(words),
            _ => Self::Other,
        }
    }
}

/// What one chunk says. Everything that is not in here, tool calls for one, is passed over.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chunk {
    pub text: String,
    /// No word, thought or call: a beginning, a count of tokens, a filter's verdict.
    pub is_empty: bool,
    pub finish: Option<String>,
    pub error: Option<Value>,
}

impl Chunk {
    pub(super) fn read(data: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(data).map_err(|error| {
            let cut = if error.is_eof() { ", which was cut short" } else { "" };
            format!("it holds something that is no JSON{cut} ({error})")
        })?;
        let Value::Object(_) = value else {
            return Err("it holds JSON that is no chunk of an answer".to_owned());
        };
        if let Some(error) = error(&value) {
            return Ok(Self { error: Some(error), ..Self::default() });
        }
        let choice = &value["choices"][0];
        // A server that does not stream sends `message`, an old one `text`.
        let said = [&choice["delta"], &choice["message"]].into_iter().find(|said| said.is_object());
        let mut text = said.map(|said| content(&said["content"])).unwrap_or_default();
        if let Some(old) = choice["text"].as_str().filter(|_| said.is_none()) {
            text.push_str(old);
        }
        let holds = |field: &str| said.is_some_and(|said| !is_nothing(&said[field]));
        let thinks =
            ["reasoning_content", "reasoning", "thinking", "tool_calls", "function_call"].into_iter().any(holds);
        Ok(Self {
            is_empty: text.is_empty() && !thinks,
            text,
            finish: choice["finish_reason"].as_str().filter(|reason| !reason.is_empty()).map(str::to_owned),
            error: None,
        })
    }
}

/// `{"error": ...}` of most servers, `{"object": "error", ...}` of vLLM, `{"type": "error", ...}` of some proxies.
fn error(value: &Value) -> Option<Value> {
    let is_error = |field: &str| value[field] == "error";
    match &value["error"] {
        Value::Null | Value::Bool(false) if is_error("object") || is_error("type") => Some(value.clone()),
        Value::Null | Value::Bool(false) => None,
        _ => Some(value.clone()),
    }
}

/// A string, or a list of parts of which those of text count.
fn content(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_told_apart() {
        for (line, expected) in [
            ("data: {\"a\":1}", Line::Data("{\"a\":1}")),
            ("data:{\"a\":1}\r", Line::Data("{\"a\":1}")),
            ("\u{feff}data: x", Line::Data("x")),
            ("{\"error\":1}", Line::Data("{\"error\":1}")),
            ("data: [DONE]", Line::Done),
            ("data:", Line::Other),
            ("error: {\"code\":500}", Line::Error("{\"code\":500}")),
            (": OPENROUTER PROCESSING", Line::Other),
            ("event: message", Line::Other),
            ("id: 1", Line::Other),
            ("", Line::Other),
        ] {
            assert_eq!(Line::of(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_dialect_gives_its_text() {
        for (data, text, finish) in [
            (r#"{"choices":[{"delta":{"content":"Hi"},"index":0,"finish_reason":null}]}"#, "Hi", None),
            (r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, "", None),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, "", Some("stop")),
            (r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"type":"image"}]}}]}"#, "a", None),
            (
                r#"{"choices":[{"message":{"role":"assistant","content":"All."},"finish_reason":"stop"}]}"#,
                "All.",
                Some("stop"),
            ),
            (r#"{"choices":[{"text":"old","finish_reason":""}]}"#, "old", None),
            (r#"{"choices":[],"usage":{"total_tokens":5}}"#, "", None),
            (r#"{"choices":null}"#, "", None),
            ("{}", "", None),
        ] {
            let chunk = Chunk::read(data).unwrap();
            assert_eq!((chunk.text.as_str(), chunk.finish.as_deref(), chunk.error), (text, finish, None), "{data}");
        }
    }

    #[test]
    fn thoughts_and_calls_are_signs_of_life_and_not_text() {
        for (data, is_empty) in [
            (r#"{"choices":[{"delta":{"reasoning_content":"hm","content":null}}]}"#, false),
            (r#"{"choices":[{"delta":{"reasoning":"hm"}}]}"#, false),
            (r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"","reasoning_content":null,"tool_calls":[]}}]}"#, true),
        ] {
            let chunk = Chunk::read(data).unwrap();
            assert_eq!((chunk.text.as_str(), chunk.is_empty), ("", is_empty), "{data}");
        }
    }

    #[test]
    fn errors_in_the_stream_are_found() {
        for data in [
            r#"{"error":{"message":"out of memory","code":500}}"#,
            r#"{"error":"model not found"}"#,
            r#"{"object":"error","message":"m","code":400}"#,
            r#"{"type":"error","message":"m"}"#,
            r#"{"choices":[{"delta":{"content":"x"}}],"error":{"message":"m"}}"#,
        ] {
            assert!(Chunk::read(data).unwrap().error.is_some(), "{data}");
        }
        assert_eq!(Chunk::read(r#"{"error":null,"choices":[]}"#).unwrap().error, None);
    }

    #[test]
    fn what_is_no_chunk_is_said_without_quoting_it() {
        for (data, said) in
            [("{\"choices\":[{\"de", "cut short"), ("secret", "no JSON"), ("[1]", "no chunk"), ("3", "no chunk")]
        {
            let problem = Chunk::read(data).unwrap_err();
            assert!(problem.contains(said) && !problem.contains("secret"), "{problem}");
        }
        assert!(Chunk::read(&format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000))).is_err());
    }

    proptest! {
        #[test]
        fn any_line_is_taken(line in ".{0,80}") {
            if let Line::Data(data) = Line::of(&line) {
                let _ = Chunk::read(data);
            }
        }
    }
}
