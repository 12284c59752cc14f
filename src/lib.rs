//! mouthpiece gives a program a face: text or audio in, a lip-synced avatar out over WebRTC, in real time.
//!
//! # How one sentence travels
//!
//! | # | where | runs on | what | what bounds it |
//! |---|---|---|---|---|
//! | 1 | [`signalling`] | tokio | a WebSocket frame or a request of somebody who may ([`access`]) becomes a [`session::Command`] | rates and sizes of each socket, slots and rates of each address ([`signalling::quota`]) |
//! | 2 | [`conversation`], [`dialogue`] | tokio | the model's reply as it is written, shown and cut into sentences, the first one after its first clause | 8 turns, more are refused as busy; 64 sentences ahead of the voice, then the model waits |
//! | 3 | [`speech`] | tokio; threads "hibari" and espeak-ng's processes | a sentence becomes its spoken form, its runs go to voices of their languages and become a stream of PCM that step 4 polls, the next one is made meanwhile | phrases of at most twelve seconds, of each session in turn; 8 processes at once; two minutes of sound a sentence |
//! | 4 | [`animation`] | tokio | 16 kHz for the network, 48 kHz for Opus; frames grouped into batches of 1, 1, 2, 4.. | 16 frames ahead of the screen, 40 MB at most |
//! | 5 | [`lipsync::engine`] | threads "engine", one for each GPU, or else each core | mel, audio encoder, UNet, decoder; earliest deadline first over all sessions, the same share of mouths to each if there is no time for all | 512 batches; senders wait |
//! | 6 | [`compose`] | threads "compose" | the mouth is pasted into the avatar's own frame, in I420; threads "frames" decode or draw those that are not in memory ([`avatar::OwnFrames`]) | 64 pastes a thread; senders wait |
//! | 7 | [`playout`] | thread "playout" | every 40 ms one pair of a frame and its sound leaves for each session | nothing waits any more |
//! | 8 | [`media`] | GStreamer | encoded once for each session and codec in use, sent to each viewer through its own pipeline | a slow viewer skips to the next key frame |
//!
//! And back: a viewer's microphone arrives in its own pipeline ([`media`]), and a listener ([`hearing`], one tokio task a
//! microphone) tells speech from the avatar's echo, asks the recogniser, and takes the turn or stops the avatar.
//!
//! Before playout everything waits and no text is lost; after playout nothing waits.
//!
//! # Which module may use which
//!
//! A module uses those of the floors below its own and nobody else's. `tests/it/layering.rs` reads this very table.
//!
//! | floor | modules | what is there |
//! |---|---|---|
//! | 0 | `ids`, `timeline`, `worker`, `boxes`, `picture`, `metrics`, `endpoint` | ids; time by index and rate; threads with an owner; MP4 boxes; pixels; counters by label; clients of other services |
//! | 1 | `access`, `latency`, `models`, `audience`, `face` | who may do what; times of a turn; files of weights; how many watch; faces in pictures |
//! | 2 | `session`, `still` | what a session is asked and tells: commands, notices, refusals, peers; a photo comes alive |
//! | 3 | `speech`, `dialogue` | text to sound; text to a reply |
//! | 4 | `avatar` | an avatar on disk and in memory, and its own frames |
//! | 5 | `lipsync` | what a network that draws mouths must do, and the thread that has it do so for all sessions |
//! | 6 | `musetalk`, `compose`, `playout` | the network; pasting; the clock |
//! | 7 | `animation`, `hearing`, `portrait` | speech to pairs of frame and sound; microphones; mouths of any picture |
//! | 8 | `conversation`, `media`, `training` | turns; GStreamer; what teaches the network a face |
//! | 9 | `signalling`, `preparation` | WebSocket and HTTP; avatars of photos and clips |
//! | 10 | `cli` | what may be typed |
//! | 11 | `config` | what is true |
//! | 12 | `server` | everything at once, in order |
//! | 13 | `doctor` | whether it can run here |
//! | 14 | `commands` | what each subcommand does |
//!
//! # Where something new goes
//!
//! | to add | do this | and make it known in |
//! |---|---|---|
//! | a network that draws mouths | implement [`lipsync::LipSync`] | `server::workers::load_network`, which builds that of a model's folder |
//! | a voice | implement [`speech::Tts`] | [`speech::tts::Voices`] |
//! | something that answers | implement [`dialogue::Responder`] | [`dialogue::Dialogues`] |
//! | a recogniser | implement [`hearing::asr::Transcribe`] | [`hearing::Listeners`] |
//! | another transport than our WebSocket | call [`session::Sessions`] and hand its clients' words on as [`session::Command`] | [`server`] |
//! | another way out for pictures and sound | implement [`playout::PairSink`], or write a description into `pipelines/` | [`server`], [`media`] |
//! | a way out of the same encode as viewers see | write `pipelines/output-<kind>.launch`, or implement `media::output::Carrier` where no description can be it | `session::OutputKind`, `server::sessions::outputs` |
//! | a setting | a line in `cli::serve` and one in [`config`], which has its default | `settings.toml`; `tests/it/documents.rs` fails without |
//! | a route | a line in `signalling::guard::needs` | `tests/it/signalling/access.rs`, which fails without; `openapi.json` |
//! | a figure to watch | a function in [`metrics`] | whoever calls it |
//!
//! # Rules that keep it easy to change
//!
//! - **A unit of media is one frame and the exact 40 ms of sound that drew it.** They are scheduled as a pair, silence
//!   and idle frames too, so lips and voice cannot drift apart. Only [`playout`] gives out indices, only [`timeline`]
//!   turns samples, frames and nanoseconds into each other, by index and rate.
//! - **The head never jumps.** Mouths are drawn for given places in the avatar's idle loop; idle runs up to that place
//!   and rests there if the mouth is late ([`playout::schedule`]).
//! - **Late is counted, not shown as drift.** A mouth that misses its tick is replaced by the last picture while the
//!   sound goes on.
//! - **Every sentence carries its utterance.** An interruption cancels a token; whatever holds it drops out at
//!   its next step, and playout is idle at the next tick. The connection to a language model is closed by dropping the
//!   reply, and the history is cut to what playout says was heard before the next turn begins.
//! - **Every turn that is taken ends in one message** that carries its id, told where it is taken off the session's list
//!   (`conversation::turns`), however it ends.
//! - **Every turn carries its times** ([`latency`]), from its text, or the end of the user's speech, to the picture that a
//!   viewer says it was shown.
//! - **Silence is the avatar's own frame**, the very buffer that idle shows.
//! - **Each foreign library has its home**: libtorch in [`musetalk`], [`portrait`] and [`training`], GStreamer in
//!   [`media`], the server's sockets in [`signalling`], what all clients of other services share in [`endpoint`].
//!   `tests/it/layering.rs` has the whole list, exceptions and all, and checks it.
//! - Only [`server`] knows everyone; only [`cli`] and [`config`] read the environment.
//! - **Nothing is begun that there is not enough of the process for** (`server::budget`): libraries end the process when a
//!   descriptor or a thread cannot be had. Whoever comes then is told that the server is full.
//! - **Nobody waits for another's avatar**: one is loaded once for all who ask, and made ready between two batches.
//! - **A route without a line is nobody's**: `signalling::guard::needs` says what each route needs of a token ([`access`]), a
//!   test compares it with the router, and sessions are asked through `PermittedSessions` only, by their tenant's names.
//! - **Nothing of a client's own words reaches GStreamer**: offers, candidates and RTCP are read, judged and written anew
//!   ([`media`]).
//! - **Pipelines change under those who watch** (`media::live`): a description that was edited is checked and tried, then takes
//!   over at a key frame, or is refused while the one before goes on. Ask it for a description each time one is used.
//! - **What nobody watches costs nothing**: a session without viewers speaks, but neither draws nor encodes ([`audience`]).
//! - Every thread is joined before `main` returns, on failures too: libtorch's destructors crash under a thread that still
//!   computes. [`worker`] owns those that do.

// Tests cast small constants; the lint guards what runs.
#![cfg_attr(test, allow(clippy::cast_possible_truncation, clippy::cast_lossless))]

// What tests share is compiled into the unit tests here and into `tests/it`, so it names this library as those do.
#[cfg(test)]
extern crate self as mouthpiece;
#[cfg(test)]
#[path = "../tests/kit/mod.rs"]
mod kit;

pub mod access;
pub mod animation;
pub mod audience;
pub mod avatar;
pub mod boxes;
pub mod cli;
pub mod commands;
pub mod compose;
pub mod config;
pub mod conversation;
pub mod dialogue;
pub mod doctor;
pub mod endpoint;
pub mod face;
pub mod hearing;
pub mod ids;
pub mod latency;
pub mod lipsync;
pub mod media;
pub mod metrics;
pub mod models;
pub mod musetalk;
pub mod picture;
pub mod playout;
pub mod portrait;
pub mod preparation;
pub mod server;
pub mod session;
pub mod signalling;
pub mod speech;
pub mod still;
pub mod timeline;
pub mod training;
pub mod worker;
