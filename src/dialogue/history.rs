//! What a conversation's two sides said, as far as it was heard and as much as fits the model's memory.
//!
//! Tokens are estimated: three ASCII characters, or one other character, for one token, and four for each message.
//! Tokenizers in use make fewer of any text but rare scripts, so the true number stays below the bound.

use std::collections::VecDeque;

use super::{Message, Role};
use crate::ids::UtteranceId;

const TOKENS_PER_MESSAGE: usize = 4;

/// The turns of a session, the oldest forgotten first.
#[derive(Debug)]
pub struct History {
    turns: VecDeque<Turn>,
    budget: usize,
}

#[derive(Debug)]
struct Turn {
    utterance: UtteranceId,
    user: String,
    avatar: String,
}

impl History {
    /// Keeps about so many tokens; the last turn always, however long.
    pub fn new(budget: usize) -> Self {
        Self { turns: VecDeque::new(), budget }
    }

    /// The user has spoken, or, with nothing said by them, the avatar is about to speak of its own accord.
    pub fn begin(&mut self, utterance: UtteranceId, user: &str) {
        let turn = Turn { utterance, user: user.trim().to_owned(), avatar: String::new() };
        self.enter(turn);
        // What was neither asked nor heard is only kept while it may still be said.
        self.turns.retain(|turn| turn.utterance >= utterance || !(turn.user.is_empty() && turn.avatar.is_empty()));
        self.prune();
    }

    /// The user has said this and nobody will answer it, since it was cancelled while it waited.
    pub fn remember(&mut self, utterance: UtteranceId, user: &str) {
        self.enter(Turn { utterance, user: user.trim().to_owned(), avatar: String::new() });
        self.prune();
    }

    /// In the order in which turns were taken: one that is cancelled while it waits may be entered before the one that is
    /// about to begin.
    fn enter(&mut self, turn: Turn) {
        let place = self.turns.partition_point(|other| other.utterance < turn.utterance);
        self.turns.insert(place, turn);
    }

    /// What the avatar said in a turn: all of it if it was heard to the end, else what of it was.
    pub fn said(&mut self, utterance: UtteranceId, text: &str) {
        if let Some(turn) = self.turns.iter_mut().rev().find(|turn| turn.utterance == utterance) {
            turn.avatar = text.trim().to_owned();
        }
        self.prune();
    }

    /// The turn failed before anything was said. The user will ask again, so it is as if they had not.
    pub fn forget(&mut self, utterance: UtteranceId) {
        self.turns.retain(|turn| turn.utterance != utterance);
    }

    /// All of it in order. Neighbours of one side are one message: many models' templates insist that they alternate.
    pub fn messages(&self) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        for turn in &self.turns {
            for (role, content) in [(Role::User, &turn.user), (Role::Avatar, &turn.avatar)] {
                match messages.last_mut() {
                    _ if content.is_empty() => {}
                    Some(last) if last.role == role => {
                        last.content.push('\n');
                        last.content.push_str(content);
                    }
                    _ => messages.push(Message { role, content: content.clone() }),
                }
            }
        }
        messages
    }

    fn prune(&mut self) {
        let mut tokens: usize = self.turns.iter().map(Turn::tokens).sum();
        while tokens > self.budget
            && self.turns.len() > 1
            && let Some(oldest) = self.turns.pop_front()
        {
            tokens -= oldest.tokens();
        }
    }
}

impl Turn {
    fn tokens(&self) -> usize {
        tokens(&self.user) + tokens(&self.avatar)
    }
}

/// About how many tokens a message takes.
fn tokens(text: &str) -> usize {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    TOKENS_PER_MESSAGE + ascii.div_ceil(3) + (text.chars().count() - ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(history: &History) -> Vec<String> {
        history.messages().into_iter().map(|message| message.content).collect()
    }

    #[test]
    fn an_interrupted_answer_is_what_was_heard_of_it() {
        let mut history = History::new(1000);
        let utterance = UtteranceId::next();
        history.begin(utterance, "Tell me a story.");
        history.said(utterance, "Once upon a time there was a king. He had a cat.");
        history.said(utterance, "Once upon a time");
        history.begin(UtteranceId::next(), "Stop. What is the time?");
        assert_eq!(contents(&history), ["Tell me a story.", "Once upon a time", "Stop. What is the time?"]);
    }

    #[test]
    fn what_is_being_said_is_kept_whatever_is_remembered_meanwhile() {
        let mut history = History::new(1000);
        let [saying, waiting, next] = [(); 3].map(|()| UtteranceId::next());
        history.begin(saying, "");
        history.remember(waiting, "One?");
        history.said(waiting, "");
        history.said(saying, "Once upon a time");
        history.begin(next, "Two?");
        assert_eq!(contents(&history), ["Once upon a time", "One?\nTwo?"]);
    }

    #[test]
    fn turns_are_in_the_order_of_their_utterances_whenever_they_begin() {
        let mut history = History::new(1000);
        let [first, second, third] = [(); 3].map(|()| UtteranceId::next());
        history.begin(second, "Two?");
        history.begin(first, "One?");
        history.begin(third, "Three?");
        assert_eq!(contents(&history), ["One?\nTwo?\nThree?"]);
    }

    #[test]
    fn both_sides_alternate_whatever_was_not_heard() {
        let mut history = History::new(1000);
        let greeting = UtteranceId::next();
        history.begin(greeting, "");
        history.said(greeting, "Welcome!");
        history.begin(UtteranceId::next(), "One?");
        history.begin(UtteranceId::next(), "Two?");
        let failed = UtteranceId::next();
        history.begin(failed, "Three?");
        history.forget(failed);
        let roles: Vec<Role> = history.messages().iter().map(|message| message.role).collect();
        assert_eq!(
            (roles, contents(&history)),
            (vec![Role::Avatar, Role::User], vec!["Welcome!".into(), "One?\nTwo?".into()])
        );
    }

    #[test]
    fn a_thousand_turns_stay_within_the_bound_and_the_last_is_kept() {
        let mut history = History::new(200);
        for number in 0..1000 {
            let utterance = UtteranceId::next();
            history.begin(utterance, &format!("Question number {number}?"));
            history.said(utterance, "你好，我是你的数字人。");
            assert!(history.turns.iter().map(Turn::tokens).sum::<usize>() <= 200);
        }
        assert!(contents(&history).iter().any(|text| text == "Question number 999?"));
        history.begin(UtteranceId::next(), &"long ".repeat(1000));
        assert_eq!(history.messages().len(), 1);
        for _ in 0..1000 {
            history.begin(UtteranceId::next(), "");
        }
        assert!(history.turns.len() <= 2, "turns that nobody heard are not kept");
    }
}
