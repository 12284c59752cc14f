//! Answers by rules, so that an avatar is alive before a language model is connected.
//!
//! In here: greetings, names, the time, what it can do, saying what it is told to, and something sensible about the
//! rest. English; an avatar with a voice of another language repeats what it hears. Needs nobody and never fails.

use futures_util::stream;
use jiff::ZonedDateTime;

use super::{Message, Reply, Responder, Role};

/// Of what the user said, what is quoted back at most.
const QUOTED: usize = 200;

/// Answers for the avatar of one name.
pub struct Rules {
    name: String,
    speaks_english: bool,
}

impl Rules {
    /// `language` is the voice's BCP 47 tag.
    pub fn new(name: &str, language: &str) -> Self {
        let speaks_english = language.split('-').next().is_some_and(|primary| primary.eq_ignore_ascii_case("en"));
        Self { name: name.to_owned(), speaks_english }
    }
}

impl Responder for Rules {
    fn reply(&self, conversation: Vec<Message>) -> Reply {
        let heard = match conversation.last() {
            Some(last) if self.speaks_english => answer(&self.name, last, &conversation, &ZonedDateTime::now()),
            Some(last) => last.content.clone(),
            None => String::new(),
        };
        Box::pin(stream::iter([Ok(heard)]))
    }
}

fn answer(name: &str, asked: &Message, conversation: &[Message], now: &ZonedDateTime) -> String {
    let text = asked.content.trim();
    let words: Vec<String> = text
        .split(|c: char| !c.is_alphanumeric() && !matches!(c, '\'' | '’'))
        .filter(|word| !word.is_empty())
        .map(|word| word.to_lowercase().replace('’', "'"))
        .collect();
    let padded = format!(" {} ", words.join(" "));
    let has = |phrases: &[&str]| phrases.iter().any(|phrase| padded.contains(&format!(" {phrase} ")));
    let begins = |phrases: &[&str]| phrases.iter().any(|phrase| padded.starts_with(&format!(" {phrase} ")));

    if let Some(said) = told_to_say(text) {
        return said.to_owned();
    }
    if let Some(theirs) = name_given(text) {
        return format!("Nice to meet you, {theirs}. I am {name}. What would you like to talk about?");
    }
    if has(&["your name", "who are you", "what are you", "who am i talking to"]) {
        return format!("I am {name}. I am a talking avatar: you write, and I say something back.");
    }
    if has(&["my name", "who am i"]) {
        let theirs =
            conversation.iter().rev().filter(|one| one.role == Role::User).find_map(|one| name_given(&one.content));
        return match theirs {
            Some(theirs) => format!("You are {theirs}. I was listening."),
            None => "You have not told me yet. What is your name?".to_owned(),
        };
    }
    if has(&["what time", "the time", "o'clock"]) {
        return now.strftime("It is %-I:%M %p where I am.").to_string();
    }
    if has(&["what day", "which day", "the date", "what date", "today's date", "day is it", "day is today"]) {
        return now.strftime("Today is %A, %B %-d, %Y.").to_string();
    }
    if has(&["help", "can you do", "can i do", "can i ask", "can i say", "how does this work"]) {
        return "I answer greetings, I know my name, the time and the date, and I say anything that you begin with the \
                word say. For real conversations, whoever runs this server can connect a language model to me."
            .to_owned();
    }
    if has(&["how are you", "how do you do", "how's it going", "how are things"]) {
        return "I am well, thank you. And how are you?".to_owned();
    }
    if has(&["thank you", "thanks", "thank"]) {
        return "You are welcome.".to_owned();
    }
    if has(&["bye", "goodbye", "good night", "see you"]) {
        return "Goodbye. It was nice talking to you.".to_owned();
    }
    if has(&["joke", "make me laugh", "funny"]) {
        return "I told my mirror a joke. It only repeated it.".to_owned();
    }
    if begins(&["hi", "hello", "hey", "good morning", "good afternoon", "good evening", "greetings", "hallo"]) {
        let met = conversation.iter().any(|one| one.role == Role::Avatar);
        return match met {
            true => "Hello again. What can I do for you?".to_owned(),
            false => format!("Hello! I am {name}. Ask me the time, or what I can do."),
        };
    }
    if has(&["yes", "yeah", "okay", "ok", "sure"]) && words.len() <= 3 {
        return "Good. Go on, I am listening.".to_owned();
    }
    if has(&["no", "nope"]) && words.len() <= 3 {
        return "All right. What would you like instead?".to_owned();
    }
    let quoted = quoted(text);
    let is_question = text.ends_with('?')
        || begins(&["what", "who", "why", "how", "when", "where", "which", "can", "could", "do", "does", "is", "are"]);
    match (is_question, conversation.len() % 4) {
        (true, 1) => format!("You ask: {quoted} That takes a language model, and none is connected to me yet."),
        (true, _) => "I would need a language model to answer that. Ask me for help to hear what I know.".to_owned(),
        (false, 1) => format!("You said: {quoted} Tell me more."),
        (false, _) => format!("I heard: {quoted} Go on, I am listening."),
    }
}

/// The words after "say" or "repeat after me".
fn told_to_say(text: &str) -> Option<&str> {
    ["say:", "say ", "please say ", "repeat after me:", "repeat:", "repeat "].iter().find_map(|command| {
        let (begins, rest) = text.split_at_checked(command.len())?;
        let rest = rest.trim();
        (begins.eq_ignore_ascii_case(command) && rest.contains(char::is_alphanumeric)).then_some(rest)
    })
}

/// What somebody calls themselves, one or two words.
fn name_given(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let (at, said) =
        ["my name is ", "my name's ", "call me "].iter().find_map(|said| Some((lower.find(said)?, said.len())))?;
    let given: String =
        text[at + said..].chars().take_while(|c| !matches!(c, '.' | ',' | '!' | '?' | ';' | '\n')).collect();
    let words: Vec<&str> =
        given.split_whitespace().take_while(|word| !matches!(*word, "and" | "but" | "what")).collect();
    (1..=2).contains(&words.len()).then(|| words.join(" ")).filter(|name| name.chars().count() <= 40)
}

/// With a mark at its end, and not longer than somebody would repeat.
fn quoted(text: &str) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line = line.join(" ");
    let short = match line.char_indices().nth(QUOTED) {
        Some((end, _)) => {
            format!("{} and so on", line[..end].rsplit_once(' ').map_or(&line[..end], |(words, _)| words))
        }
        None => line,
    };
    match short.ends_with(['.', '!', '?', '…']) {
        true => short,
        false => format!("{short}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> ZonedDateTime {
        "2026-11-23T15:07:00+00:00[UTC]".parse().unwrap()
    }

    fn talk(lines: &[&str]) -> Vec<String> {
        let mut conversation = Vec::new();
        let mut answers = Vec::new();
        for line in lines {
            let asked = Message { role: Role::User, content: (*line).to_owned() };
            conversation.push(asked.clone());
            let said = answer("Mika", &asked, &conversation, &now());
            conversation.push(Message { role: Role::Avatar, content: said.clone() });
            answers.push(said);
        }
        answers
    }

    #[test]
    fn common_things_have_an_answer() {
        for (asked, part) in [
            ("Hello!", "I am Mika"),
            ("What's your name?", "I am Mika"),
            ("What time is it?", "3:07 PM"),
            ("which day is it", "Monday, November 23, 2026"),
            ("What can you do?", "language model"),
            ("How are you?", "well"),
            ("thanks a lot", "welcome"),
            ("My name is Bob.", "Nice to meet you, Bob."),
            ("Say: one, two, three.", "one, two, three."),
            ("say hello to the world", "hello to the world"),
            ("Why is the sky blue?", "Why is the sky blue? That takes a language model"),
            ("I like green tea", "You said: I like green tea. Tell me more."),
            ("你好", "You said: 你好."),
        ] {
            let said = talk(&[asked]).remove(0);
            assert!(said.contains(part), "{asked}: {said}");
        }
    }

    #[test]
    fn it_remembers_a_name_and_a_greeting() {
        let said = talk(&["hi", "call me Anna Lee, please", "Who am I?", "hello", "I like tea", "I like milk"]);
        assert!(said[2].contains("Anna Lee") && said[3].contains("again"), "{said:?}");
        assert_ne!(said[4].split(':').next(), said[5].split(':').next(), "not always the same words: {said:?}");
    }

    #[test]
    fn whatever_is_said_the_answer_is_short_and_not_empty() {
        for asked in ["a", "?", "say", "say 😀", "my name is", "İİİ my name is x", &"word ".repeat(2000), "\u{0}x"]
        {
            let said = talk(&[asked]).remove(0);
            assert!(said.contains(char::is_alphanumeric) && said.chars().count() < 2 * QUOTED, "{said}");
        }
    }

    #[tokio::test]
    async fn a_voice_of_another_language_repeats() {
        use futures_util::StreamExt;
        let asked = Message { role: Role::User, content: "你好。".to_owned() };
        let mut reply = Rules::new("Mei", "cmn").reply(vec![asked]);
        assert_eq!(reply.next().await.unwrap().unwrap(), "你好。");
        assert!(reply.next().await.is_none());
    }
}
