//! The settings file's text, and what is wrong with it, in words that never quote a value: any of them may be a secret.
//!
//! In here: reading TOML, the place and the reason of an error. Not in here: what the settings are (`config`).

use serde::de::DeserializeOwned;

/// Reads settings; the error names the line and the field.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let reader = toml::Deserializer::parse(text).map_err(|error| told(text, None, &error))?;
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        told(text, Some(&path).filter(|path| *path != ".").map(String::as_str), error.inner())
    })
}

fn told(text: &str, field: Option<&str>, error: &toml::de::Error) -> String {
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
    let line = line.map(|line| format!("line {line}: ")).unwrap_or_default();
    let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
    format!("{line}{field}{}", without_values(error.message()))
}

/// Serde's messages quote what they found where something else was expected.
fn without_values(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let expected = || message.rsplit_once(", expected ").map(|(_, expected)| expected);
    let kind = |found: &str| found.split(['"', '`']).next().unwrap_or_default().trim().to_owned();
    for (begins, says) in [("invalid type: ", "it is"), ("invalid value: ", "it is"), ("unknown variant ", "it is")] {
        if let (Some(found), Some(expected)) = (message.strip_prefix(begins), expected()) {
            let found = Some(kind(found)).filter(|kind| !kind.is_empty()).unwrap_or_else(|| "another value".to_owned());
            return format!("{says} {found}, expected {expected}");
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only read into")]
    struct Settings {
        port: u16,
        name: String,
        share: f64,
        mode: Mode,
        list: Vec<String>,
        llm: Table,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        #[default]
        Quick,
    }

    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only read into")]
    struct Table {
        key_file: String,
        seconds: f64,
    }

    #[test]
    fn no_value_of_a_file_is_ever_in_its_error_and_its_field_and_line_always_are() {
        for (wrong, says) in [
            ("port = \"sk-secret\"", "line 3: port: it is string, expected u16"),
            ("port = 5ecret", "line 3: "),
            ("name = sk-secret", "line 3: "),
            ("name = \"sk-secret", "line 3: "),
            ("sk-secret", "line 3: "),
            ("name = \"sk-secret\" x", "line 3: "),
            ("share = \"secret\"", "line 3: share: it is string, expected f64"),
            ("mode = \"secret\"", "line 3: mode: it is another value, expected `quick`"),
            ("port = 77777777", "line 3: port: it is integer, expected u16"),
            ("list = [1, \"secret\"]", "list"),
            ("[llm]\nkey = \"sk-secret\"", "line 4: llm.key: unknown field `key`"),
            ("[llm]\nkey_file = [\"sk-secret\"]", "line 4: llm.key_file"),
            ("[llm]\nseconds = \"sk-\\\"secret, expected \\\"\"", "line 4: llm.seconds: it is string, expected f64"),
            ("name = \"a\"\nname = \"secret\"", "line 4: duplicate key"),
            ("llm = \"sk-secret\"", "line 3: llm: "),
        ] {
            let text = format!("# Settings.\n\n{wrong}\n");
            let error = parse::<Settings>(&text).unwrap_err();
            assert!(error.contains(says), "{wrong}: {error}");
            let leaks = ["secret", "5ecret", "77777777"].iter().any(|value| error.contains(value));
            assert!(!leaks && error.lines().count() == 1, "{wrong}: {error}");
        }
        assert_eq!(parse::<Settings>("port = 8\n").unwrap().port, 8);
    }
}
