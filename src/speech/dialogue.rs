//! What the avatar answers to a user's turn.
//!
//! In here: the trait and the one dialogue that needs nobody else: it says what it was told.

use tokio::sync::mpsc;

/// Answers turns. The reply comes in pieces as they are made; dropping the receiver stops it.
pub trait Dialogue: Send + Sync {
    fn reply(&self, turn: &str) -> mpsc::Receiver<String>;
}

/// Speaks the user's own words.
pub struct Echo;

impl Dialogue for Echo {
    fn reply(&self, turn: &str) -> mpsc::Receiver<String> {
        let (sender, pieces) = mpsc::channel(1);
        // Room for one, and one is sent.
        let _ = sender.try_send(turn.to_owned());
        pieces
    }
}
