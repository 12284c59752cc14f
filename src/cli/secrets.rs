//! Secrets that were typed, which every user of the machine can list as long as they are arguments.
//!
//! In here: which options hold one, and moving them into the environment. Not in here: starting the program anew without them
//! (`main`), secrets of the settings file (`config`). Runs on: the main thread, before anything else.

use std::ffi::OsString;

/// Where a TURN server's URL is read from instead of the command line.
pub(super) const TURN_VARIABLE: &str = "MOUTHPIECE_TURN";
/// The same for the Hugging Face Hub's token.
pub(super) const TOKEN_VARIABLE: &str = "HF_TOKEN";

/// Options whose value is nobody else's business, and the variable that says the same.
const SECRETS: [(&str, &str); 2] = [("--turn", TURN_VARIABLE), ("--token", TOKEN_VARIABLE)];

/// Arguments, and variables in their place.
pub type Hidden = (Vec<OsString>, Vec<(&'static str, OsString)>);

/// Moves secrets out of arguments, which every user of a machine can list, into the environment, which they cannot.
pub fn hide_secrets(arguments: impl IntoIterator<Item = OsString>) -> Hidden {
    let (mut shown, mut variables) = (Vec::new(), Vec::new());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if text == "--" {
            shown.push(argument);
            shown.extend(arguments);
            break;
        }
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let Some((_, variable)) = SECRETS.iter().find(|(option, _)| *option == name) else {
            shown.push(argument);
            continue;
        };
        match value.map(OsString::from).or_else(|| arguments.next()) {
            Some(value) => variables.push((*variable, value)),
            // Without a value it is wrong use, which is told of as it was typed.
            None => shown.push(argument),
        }
    }
    (shown, variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_arguments_for_the_environment() {
        let hide = |arguments: &[&str]| {
            let (shown, variables) = hide_secrets(arguments.iter().map(OsString::from));
            let text = |text: OsString| text.into_string().unwrap();
            let variables: Vec<_> =
                variables.into_iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
            (shown.into_iter().map(text).collect::<Vec<_>>().join(" "), variables.join(" "))
        };
        let pair = |shown: &str, variables: &str| (shown.to_owned(), variables.to_owned());
        assert_eq!(
            hide(&["serve", "--turn", "turn:u:p@h:1", "--stun", "stun:h:1"]),
            pair("serve --stun stun:h:1", "MOUTHPIECE_TURN=turn:u:p@h:1")
        );
        assert_eq!(hide(&["serve", "--turn=turn:u:a=b@h:1"]), pair("serve", "MOUTHPIECE_TURN=turn:u:a=b@h:1"));
        assert_eq!(hide(&["models", "fetch", "--token", "t"]), pair("models fetch", "HF_TOKEN=t"));
        for kept in ["serve --turn-file f --listen 127.0.0.1:1", "serve --turn", "say -- --turn x"] {
            assert_eq!(hide(&kept.split(' ').collect::<Vec<_>>()), pair(kept, ""));
        }
    }
}
