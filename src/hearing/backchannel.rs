//! What listeners say to show that they listen.
//!
//! Pure. Yngve 1970 ("On getting a word in edgewise") gave back-channels their name.

/// Words of which a back-channel consists, in lower case.
const WORDS: [&str; 27] = [
    "ah", "aha", "all", "exactly", "got", "hm", "hmm", "huh", "i", "it", "mhm", "mm", "mmhm", "mmhmm", "mmm", "oh",
    "ok", "okay", "really", "right", "see", "sure", "uh", "uhhuh", "wow", "yeah", "yep",
];
/// These alone are none: "I", "it", "all".
const NEED_COMPANY: [&str; 6] = ["all", "got", "i", "it", "see", "really"];
/// Longer ones are a turn.
const MOST: usize = 3;

/// Whether a listener who says this lets the avatar go on.
pub fn is_backchannel(said: &str) -> bool {
    let words: Vec<String> = said
        .split_whitespace()
        .map(|word| word.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect())
        .filter(|word: &String| !word.is_empty())
        .collect();
    (1..=MOST).contains(&words.len())
        && words.iter().all(|word| WORDS.contains(&word.as_str()))
        && !(words.len() == 1 && NEED_COMPANY.contains(&words[0].as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_mm_hm_does_not_take_the_turn() {
        for said in
            ["Mm-hm.", "mhm", "Uh-huh!", "Yeah.", "OK.", "I see.", "Got it.", "Oh, right.", "All right.", "Hmm..."]
        {
            assert!(is_backchannel(said), "{said}");
        }
        for said in
            ["", "Stop.", "I.", "All?", "No.", "Yes, but wait.", "Right, and what about Anna?", "See it all right now"]
        {
            assert!(!is_backchannel(said), "{said}");
        }
    }
}
