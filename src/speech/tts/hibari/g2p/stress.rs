//! Stress marks within the phonemes of a word.
//!
//! In here: stronger, weaker, none. Runs on: a thread of the voice.
//!
//! A port of `apply_stress` of hibari 0.2.1, after misaki (Apache-2.0, see `g2p`).

pub(super) const PRIMARY: char = 'ˈ';
pub(super) const SECONDARY: char = 'ˌ';
const VOWELS: &str = "AIOQWYaiuæɑɒɔəɛɜɪʊʌᵻ";
const DIPHTHONGS: &str = "AIOQWYʤʧ";

pub(super) fn is_vowel(sound: char) -> bool {
    VOWELS.contains(sound)
}

/// How long a word sounds.
pub(super) fn weight(phonemes: &str) -> usize {
    phonemes.chars().map(|sound| 1 + usize::from(DIPHTHONGS.contains(sound))).sum()
}

/// With another stress: below -1 none, up to 0 weaker, above 0 at least a secondary and above 1 a primary one.
pub(super) fn restressed(phonemes: &str, stress: Option<f32>) -> String {
    let Some(stress) = stress else { return phonemes.to_owned() };
    let (primary, secondary) = (phonemes.contains(PRIMARY), phonemes.contains(SECONDARY));
    let unstressed = !primary && !secondary;
    if stress < -1.0 {
        phonemes.replace([PRIMARY, SECONDARY], "")
    } else if stress <= -1.0 || (stress <= 0.0 && primary) {
        phonemes.replace(SECONDARY, "").replace(PRIMARY, "ˌ")
    } else if (0.0..=1.0).contains(&stress) && unstressed {
        before_vowel(phonemes, SECONDARY)
    } else if stress >= 1.0 && !primary && secondary {
        phonemes.replace(SECONDARY, "ˈ")
    } else if stress > 1.0 && unstressed {
        before_vowel(phonemes, PRIMARY)
    } else {
        phonemes.to_owned()
    }
}

/// With the mark before the first vowel, if there is one.
fn before_vowel(phonemes: &str, mark: char) -> String {
    let mut marked = phonemes.to_owned();
    if let Some(at) = phonemes.find(is_vowel) {
        marked.insert(at, mark);
    }
    marked
}
