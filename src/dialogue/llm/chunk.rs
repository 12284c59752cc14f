//! One chunk of the answer, in the dialects that servers speak.

use serde_json::Value;

/// What one chunk says. Everything that is not in here is passed over.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Chunk {
    pub text: String,
    /// No word, thought or call: a beginning, a count of tokens, a filter's verdict.
    pub is_empty: bool,
    /// The answer came as one message and not in deltas.
    pub is_whole: bool,
    /// Why the answer has ended, as the server believes.
    pub finish: Option<String>,
    pub error: Option<Value>,
}

/// Where thoughts and calls are told.
const NOT_SAID: [&str; 10] = [
    "reasoning_content",
    "reasoningContent",
    "reasoning",
    "reasoning_details",
    "thinking",
    "thinking_blocks",
    "tool_calls",
    "toolCalls",
    "function_call",
    "functionCall",
];

impl Chunk {
    pub(super) fn read(data: &str) -> Result<Self, String> {
        let value = match parse(data)? {
            // Google puts a list around its errors.
            Value::Array(mut all) if all.first().is_some_and(Value::is_object) => all.swap_remove(0),
            value => value,
        };
        let Value::Object(_) = value else {
            return Err("it holds JSON that is no chunk of an answer".to_owned());
        };
        if let Some(error) = error(&value) {
            return Ok(Self { error: Some(error), ..Self::default() });
        }
        let choice = &value["choices"][0];
        // A server that does not stream sends `message`, an old one `text`.
        let said = [&choice["delta"], &choice["message"]].into_iter().find(|said| said.is_object());
        let (mut text, mut thinks) = (String::new(), false);
        if let Some(said) = said {
            // Gemini marks thoughts beside their text.
            if is_thought(said) {
                thinks |= !is_nothing(&said["content"]);
            } else {
                thinks |= content(&said["content"], &mut text);
                content(&said["refusal"], &mut text);
            }
            thinks |= NOT_SAID.iter().any(|field| !is_nothing(&said[*field]));
        } else {
            content(&choice["text"], &mut text);
        }
        Ok(Self {
            is_empty: text.is_empty() && !thinks,
            is_whole: choice["message"].is_object(),
            text,
            finish: finish(choice),
            error: None,
        })
    }
}

/// JSON, with what servers in other languages let slip into it: halves of characters, and line ends within strings.
fn parse(data: &str) -> Result<Value, String> {
    serde_json::from_str(data).or_else(|error| {
        serde_json::from_str(&mended(data)).map_err(|_| {
            // The parser's complaint quotes nothing of the text, so it holds no secret.
            let cut = if error.is_eof() { ", which was cut short" } else { "" };
            format!("it holds something that is no JSON{cut} ({error})")
        })
    })
}

/// Escapes of half a character stand for one that could not be read, control characters for white space.
fn mended(data: &str) -> String {
    let half = |text: &str| -> Option<u16> {
        let digits = text.strip_prefix("\\u")?.get(..4)?;
        u16::from_str_radix(digits, 16).ok().filter(|unit| (0xD800..0xE000).contains(unit))
    };
    let mut mended = String::with_capacity(data.len());
    let mut rest = data;
    while let Some(first) = rest.chars().next() {
        let length = match (half(rest), rest.get(6..).and_then(half)) {
            (Some(0xD800..0xDC00), Some(0xDC00..0xE000)) => 12,
            (Some(_), _) => {
                mended.push_str("\\ufffd");
                rest = &rest[6..];
                continue;
            }
            // The character behind it is not the beginning of an escape.
            _ if first == '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            _ => first.len_utf8(),
        };
        let (kept, after) = rest.split_at(length);
        mended.push_str(if first.is_control() { " " } else { kept });
        rest = after;
    }
    mended
}

fn finish(choice: &Value) -> Option<String> {
    let reasons = ["finish_reason", "finishReason", "stop_reason", "stopReason"];
    let reason = reasons.iter().filter_map(|name| choice[*name].as_str()).find(|reason| {
        let is_none = ["", "null", "none", "undefined"].iter().any(|none| reason.trim().eq_ignore_ascii_case(none));
        !is_none
    });
    reason.map(str::to_owned)
}

/// `{"error": ...}` of most servers, `{"object": "error", ...}` of vLLM, `{"type": "error", ...}` of some proxies, and what
/// has a message and a code but no choices. OneAPI sends the field with every answer and fills it when there is an error.
fn error(value: &Value) -> Option<Value> {
    let is_error = |field: &str| value[field] == "error";
    let is_there = !is_nothing(&value["error"]) || is_error("object") || is_error("type");
    let has = |fields: &[&str]| fields.iter().any(|field| !is_nothing(&value[*field]));
    let is_plain = value["choices"].is_null()
        && ((has(&["message", "msg", "error_msg", "detail"])
            && has(&["code", "error_code", "status_code", "statusCode"]))
            || value["detail"].is_string());
    // MiniMax's, which is 0 with every answer.
    let is_status = !is_nothing(&value["base_resp"]["status_code"]);
    (is_there || is_plain || is_status).then(|| value.clone())
}

/// Adds what a string says, or the parts of a list that are text; tells whether there were thoughts or calls among them.
fn content(value: &Value, text: &mut String) -> bool {
    match value {
        Value::String(said) => {
            text.push_str(said);
            false
        }
        Value::Array(parts) => {
            let mut thinks = false;
            for part in parts {
                thinks |= content(part, text);
            }
            thinks
        }
        Value::Object(_) => match value["type"].as_str().unwrap_or("text") {
            _ if is_thought(value) => true,
            "text" | "output_text" => content(&value["text"], text) | content(&value["value"], text),
            "refusal" => content(&value["refusal"], text),
            _ => true,
        },
        _ => false,
    }
}

fn is_thought(value: &Value) -> bool {
    [&value["thought"], &value["extra_content"]["google"]["thought"]].into_iter().any(|thought| *thought == true)
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(all) => all.iter().all(is_nothing),
        Value::Object(fields) => fields.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_dialect_gives_its_text() {
        for (data, text, finish) in [
            (r#"{"choices":[{"delta":{"content":"Hi"},"index":0,"finish_reason":null}]}"#, "Hi", None),
            (r#"{"choices":[{"delta":{"role":"assistant","content":null}}]}"#, "", None),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, "", Some("stop")),
            (r#"{"choices":[{"delta":{},"finish_reason":"null"}]}"#, "", None),
            (r#"{"choices":[{"delta":{},"finish_reason":null,"finishReason":"stop"}]}"#, "", Some("stop")),
            (r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a"},{"type":"image"}]}}]}"#, "a", None),
            (r#"{"choices":[{"delta":{"content":["a",{"text":"b"}]}}]}"#, "ab", None),
            (r#"{"choices":[{"delta":{"content":{"type":"text","text":{"value":"a"}}}}]}"#, "a", None),
            (r#"{"choices":[{"delta":{"content":null,"refusal":"I cannot."}}]}"#, "I cannot.", None),
            (r#"{"choices":[{"delta":{"content":[{"type":"refusal","refusal":"No."}]}}]}"#, "No.", None),
            (
                r#"{"choices":[{"message":{"role":"assistant","content":"All.","refusal":null},"finish_reason":"stop"}]}"#,
                "All.",
                Some("stop"),
            ),
            (r#"{"choices":[{"text":"old","finish_reason":""}]}"#, "old", None),
            (r#"{"choices":[],"usage":{"total_tokens":5}}"#, "", None),
            (r#"{"choices":null}"#, "", None),
            ("{}", "", None),
            (
                r#"{"choices":[{"delta":{"content":"a\ud83d b\\ud83d \ud83d\ude00"}}]}"#,
                "a\u{fffd} b\\ud83d \u{1f600}",
                None,
            ),
            ("{\"choices\":[{\"delta\":{\"content\":\"a\tb\nc\"}}]}", "a b c", None),
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
            (
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"a"}]}]}}]}"#,
                false,
            ),
            (r#"{"choices":[{"delta":{"content":[{"type":"thinking","text":"a"}]}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":[{"type":"text","text":"a","thought":true}]}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"a","extra_content":{"google":{"thought":true}}}}]}"#, false),
            (r#"{"choices":[{"delta":{"content":"","reasoning_content":null,"tool_calls":[]}}]}"#, true),
            (r#"{"choices":[{"delta":{"role":"assistant","refusal":null,"reasoning":""}}]}"#, true),
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
            r#"{"code":"InvalidApiKey","message":"m","request_id":"1"}"#,
            r#"{"error_code":17,"error_msg":"m"}"#,
            r#"{"detail":"m"}"#,
            r#"{"choices":null,"base_resp":{"status_code":1008,"status_msg":"m"}}"#,
            r#"[{"error":{"code":400,"message":"m"}}]"#,
        ] {
            assert!(Chunk::read(data).unwrap().error.is_some(), "{data}");
        }
        for data in [
            r#"{"error":null,"choices":[]}"#,
            r#"{"error":{"message":"","type":"","param":"","code":null},"choices":[]}"#,
            r#"{"error":{},"choices":[]}"#,
            r#"{"error":"","choices":[],"code":0,"message":"ok"}"#,
            r#"{"type":"ping"}"#,
            r#"{"choices":[],"base_resp":{"status_code":0,"status_msg":"ok"}}"#,
        ] {
            assert_eq!(Chunk::read(data).unwrap().error, None, "{data}");
        }
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
        fn any_line_is_taken(line in ".{0,80}", escapes in prop::collection::vec(prop::sample::select(
            vec!["\\", "u", "d83d", "de00", "\"", "é", "\\u00e9"]), 0..20)) {
            let _ = Chunk::read(&line);
            let _ = Chunk::read(&format!("{{\"a\":\"{}\"}}", escapes.concat()));
        }
    }
}
