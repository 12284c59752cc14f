//! What recognisers make up where nobody speaks, and whether somebody spoke.
//!
//! In here: the phrases, as people have collected them from Whisper and its kin on music, noise and silence, and how much
//! of a voice makes them believable.
//!
//! The listener scores every frame of 16 ms (earshot, 0 to 1). Measured with it: phrases of people and of synthesisers hold a voice
//! for once to twice as long as their letters take, a quarter (softly spoken) to nine tenths of it scored above 0.8; music
//! goes on for longer than the words, and much of it scores lower (a game's jingles and tunes 0.1 to 0.5, applause none);
//! knocks and coughs are shorter than any words. A tune that is as long and as clear as the words is taken for them.

use std::sync::LazyLock;
use std::time::Duration;

use crate::hearing::{FRAME_SAMPLES, MICROPHONE_RATE};

/// A frame with a higher score is a voice without doubt.
const CLEAR: f32 = 0.8;
/// Letters of alphabets, and characters of which each is a syllable or a word, that are spoken in a second.
const LETTERS_PER_S: f64 = 15.0;
const SYLLABLES_PER_S: f64 = 6.5;

/// How much of a voice the listener has heard of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Voice {
    frames: u32,
    clear: u32,
    scores: f32,
}

impl Voice {
    /// A frame that holds a voice, with its score.
    pub fn hear(&mut self, score: f32) {
        self.frames += 1;
        self.clear += u32::from(score > CLEAR);
        self.scores += score;
    }

    fn seconds(frames: u32) -> f64 {
        f64::from(frames) * FRAME_SAMPLES as f64 / f64::from(MICROPHONE_RATE)
    }

    /// Whether it may have said words that take so long, which say little else than that a film is over.
    fn may_have_said(&self, words: Duration) -> bool {
        let (heard, clear, words) = (Self::seconds(self.frames), Self::seconds(self.clear), words.as_secs_f64());
        clear >= 0.3 * words && 5 * self.clear >= self.frames && heard <= 2.25 * words
    }

    /// The same of words that people say all the time.
    fn may_have_thanked(&self, words: Duration) -> bool {
        let (heard, words) = (Self::seconds(self.frames), words.as_secs_f64());
        heard >= 0.5 * words && heard <= 4.0 * words + 0.5 && f64::from(self.scores) >= 0.5 * f64::from(self.frames)
    }
}

/// Whether these words are known to be made up, and the voice does not speak for them.
pub(super) fn is_made_up(words: &str, voice: &Voice) -> bool {
    let all = letters(words);
    let duration = duration(&all);
    if CREDITS.iter().any(|credit| all.contains(credit.as_str())) {
        return !voice.may_have_said(duration);
    }
    let phrases =
        words.split(['.', '!', '?', ',', '…', '。', '！', '？', '、', '，', '\n', '।', '؟', '،']).map(letters);
    let mut phrases = phrases.filter(|phrase| !phrase.is_empty()).peekable();
    phrases.peek().is_some() && phrases.all(|phrase| THANKS.contains(&phrase)) && !voice.may_have_thanked(duration)
}

/// In lower case, without anything else.
fn letters(words: &str) -> String {
    words.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn duration(letters: &str) -> Duration {
    let is_syllable = |c: &char| matches!(c, '\u{1100}'..='\u{11ff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}');
    let syllables = letters.chars().filter(is_syllable).count();
    let others = letters.chars().count() - syllables;
    Duration::from_secs_f64(syllables as f64 / SYLLABLES_PER_S + others as f64 / LETTERS_PER_S)
}

/// Parts of what subtitles say for themselves and of how films end.
static CREDITS: LazyLock<Vec<String>> = LazyLock::new(|| phrases(include_str!("credits.txt")));
/// What people say all the time and recognisers make of noise.
static THANKS: LazyLock<Vec<String>> = LazyLock::new(|| phrases(include_str!("thanks.txt")));

/// One a line, after lines that begin with `#`.
fn phrases(lines: &str) -> Vec<String> {
    lines.lines().filter(|line| !line.starts_with('#')).map(letters).filter(|phrase| !phrase.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many frames, of which so many are clear.
    fn voice(frames: u32, clear: u32) -> Voice {
        let mut voice = Voice::default();
        (0..frames).for_each(|frame| voice.hear(if frame < clear { 0.95 } else { 0.6 }));
        voice
    }

    const CREDIT: [&str; 16] = [
        "Thank you for watching!",
        "Thanks for watching, and don't forget to like and subscribe.",
        "Subtitles by the Amara.org community",
        "Untertitel der Amara.org-Community",
        "Vielen Dank fürs Zuschauen!",
        "Sous-titres réalisés par la communauté d'Amara.org",
        "¡Gracias por ver el video!",
        "Субтитры сделал DimaTorzok",
        "Продолжение следует...",
        "ご視聴ありがとうございました",
        "字幕by索兰娅",
        "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目",
        "시청해주셔서 감사합니다.",
        "Altyazı M.K.",
        "ขอบคุณที่รับชมครับ",
        "شكرا على المشاهدة",
    ];

    #[test]
    fn the_end_of_a_film_is_made_up_unless_somebody_said_it() {
        for words in CREDIT {
            let frames = (duration(&letters(words)).as_secs_f64() * 62.5) as u32;
            assert!(is_made_up(words, &Voice::default()), "nothing was heard: {words}");
            assert!(is_made_up(words, &voice(12, 6)), "a cough: {words}");
            assert!(is_made_up(words, &voice(6 * frames, 3 * frames)), "music: {words}");
            assert!(is_made_up(words, &voice(frames, frames / 6)), "an unclear tune: {words}");
            assert!(!is_made_up(words, &voice(frames, frames * 3 / 4)), "spoken: {words}");
            assert!(!is_made_up(words, &voice(frames * 3 / 2, frames * 2 / 5)), "spoken softly: {words}");
            assert!(!is_made_up(words, &voice(frames * 7 / 10, frames / 2)), "spoken fast: {words}");
            assert!(!is_made_up(words, &voice(frames * 18 / 10, frames * 8 / 10)), "spoken in noise: {words}");
        }
    }

    #[test]
    fn thanks_are_made_up_where_no_voice_was_as_long() {
        for words in ["Thank you.", "Thank you. Thank you.", "Bye.", "Gracias.", "谢谢。", "ありがとうございました。"]
        {
            let frames = (duration(&letters(words)).as_secs_f64() * 62.5) as u32;
            assert!(is_made_up(words, &Voice::default()), "{words}");
            assert!(is_made_up(words, &voice(frames / 3, frames / 3)), "a click: {words}");
            assert!(is_made_up(words, &voice(600, 300)), "music: {words}");
            assert!(!is_made_up(words, &voice(frames, frames / 2)), "{words}");
            // Short words softly spoken have no clear frame.
            assert!(!is_made_up(words, &voice(2 * frames, 0)), "{words}");
        }
    }

    #[test]
    fn other_words_need_no_proof() {
        for words in ["What time is it?", "Thank you, and what time is it?", "你好。", "Turn the subtitles on."] {
            assert!(!is_made_up(words, &Voice::default()), "{words}");
        }
    }
}
