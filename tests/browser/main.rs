//! The real program in one process, a real Chromium in another, and what a person would see and hear between them.
//!
//! A binary of its own, so that cargo runs it after the other tests and not beside them: playing in real time on two
//! cores needs both. It needs `chromium` on the PATH and links nothing of the library. Firefox is asked for by hand:
//! `cargo test --release --test browser -- --ignored firefox`.
//!
//! Figures: `cargo test --release --test browser -- --ignored --nocapture --test-threads=1`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss
)]

mod avatars;
mod blocked;
mod camera;
mod captions;
mod chromium;
mod codecs;
mod figures;
mod firefox;
mod hearing;
#[path = "../kit"]
#[allow(dead_code)]
mod kit {
    pub mod drawn_face;
    pub mod relay;
}
mod latency;
mod leaving;
mod matte;
mod namespaces;
mod narrow;
mod offers;
mod one_port;
mod page;
mod playing;
mod server;
mod swap;
#[path = "../support/tall_avatar.rs"]
mod tall_avatar;
mod token;
#[path = "../support/watchdog.rs"]
mod watchdog;
mod whep;
