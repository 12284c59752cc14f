//! A provider's words about what went wrong, made fit to be told: found in the body, on one line, short, no key in them.

use serde_json::Value;

use super::Key;

/// Longest that is told.
const MAX_CHARACTERS: usize = 300;
/// What keys of known providers begin with, and how long such a word has to be to be taken for one.
const KEY_PREFIXES: [&str; 8] = ["sk-", "pk-", "gsk_", "hf_", "xai-", "AIza", "nvapi-", "eyJ"];
const KEY_CHARACTERS: usize = 10;

/// Where words are, the best first.
const FIELDS: [&str; 13] = [
    "error",
    "message",
    "error_msg",
    "errorMessage",
    "error_message",
    "status_msg",
    "base_resp",
    "detail",
    "msg",
    "reason",
    "title",
    "type",
    "code",
];

/// The message in the body of a refusal; nothing if it holds none that a person would read.
pub(crate) fn of_refusal(body: &[u8], key: Option<&Key>) -> String {
    let text = String::from_utf8_lossy(body);
    let found = match serde_json::from_str::<Value>(&text) {
        Ok(value) => message(&value, 0),
        // A page of a proxy says less than the status.
        Err(_) if text.trim_start().starts_with('<') => None,
        Err(_) => Some(text.into_owned()),
    };
    found.map(|found| clean(&found, key)).unwrap_or_default()
}

/// `{"error": {"message": ...}}` and what else there is: a plain string, FastAPI's `detail`, Google's list around it.
fn message(value: &Value, depth: usize) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Value::Array(all) if depth < 4 => all.iter().find_map(|one| message(one, depth + 1)),
        Value::Number(code) if depth > 0 => Some(code.to_string()),
        Value::Object(fields) if depth < 4 => FIELDS.into_iter().find_map(|name| message(fields.get(name)?, depth + 1)),
        _ => None,
    }
}

/// On one line, bounded, without control characters and without anything that looks like a key.
pub(crate) fn clean(text: &str, key: Option<&Key>) -> String {
    let text = match key {
        Some(Key(key)) if key.len() >= 4 => text.replace(key.as_str(), "***"),
        _ => text.to_owned(),
    };
    let shown: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let looks_so =
                |part: &str| part.len() >= KEY_CHARACTERS && KEY_PREFIXES.iter().any(|known| part.starts_with(known));
            let parts = |c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.' | '*');
            if word.split(parts).any(looks_so) { "***" } else { word }
        })
        .collect();
    let text = shown.join(" ");
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_found_in_every_dialect() {
        for (body, words) in [
            (r#"{"error":{"message":"Rate limit reached","type":"requests"}}"#, "Rate limit reached"),
            (
                r#"{"error":"model \"x\" not found, try pulling it first"}"#,
                "model \"x\" not found, try pulling it first",
            ),
            (r#"{"object":"error","message":"The model does not exist.","code":404}"#, "The model does not exist."),
            (r#"{"detail":[{"loc":["body"],"msg":"field required"}]}"#, "field required"),
            (r#"[{"error":{"code":400,"message":"API key not valid."}}]"#, "API key not valid."),
            (r#"{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"}}"#, "insufficient balance"),
            (r#"{"error":{"message":"","code":529}}"#, "529"),
            ("Internal\nServer Error", "Internal Server Error"),
            ("<html>502</html>", ""),
            ("{}", ""),
            ("", ""),
        ] {
            assert_eq!(of_refusal(body.as_bytes(), None), words, "{body}");
        }
    }

    #[test]
    fn no_key_is_told_neither_ours_nor_another() {
        let key = Key::new("my-own-key");
        let body = br#"{"error":{"message":"Incorrect API key (my-own-key): sk-proj-abcdef123456, key=\"hf_abcdefghijk\" Risk-free."}}"#;
        assert_eq!(of_refusal(body, Some(&key)), "Incorrect API key (***): *** *** Risk-free.");
    }

    #[test]
    fn words_are_short_and_on_one_line() {
        let words = of_refusal("a\u{1b}[31m\n\0b ".repeat(1000).as_bytes(), None);
        assert!(words.chars().count() <= MAX_CHARACTERS + 3 && !words.contains(char::is_control), "{words}");
    }
}
