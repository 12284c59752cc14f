//! A session published to a media server by WHIP (RFC 9725), again and again until it is stopped.
//!
//! In here: one attempt from the offer to the end of the connection, codecs in turn, when it is tried again. Not in here: the
//! peer (`viewer::push`), HTTP (`endpoint::whip`), which pushes a session has (`server`).
//! Runs on: the caller's task.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::viewer::push::Push;
use super::{Broadcast, IceConfig};
use crate::endpoint::whip::{IceLink, Published, WhipEndpoint};
use crate::session::{ErrorCode, PeerEvent, Refusal};

/// From the answer to a connection.
const CONNECT_TIME: Duration = Duration::from_secs(20);
/// Whoever receives reports at least every 7.5 s (RFC 3550, 6.2), and media servers every second. webrtcbin 1.22 does not
/// notice that one is gone which could not say so; so it is when it is silent for four times as long as ever before.
const SILENCE: [Duration; 2] = [Duration::from_secs(4), Duration::from_secs(15)];
/// Reports after which it is known how often they come.
const KNOWN: u32 = 4;
/// How often its silence is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Before the next attempt after a connection that was lost: a media server that comes back is met within two seconds.
const REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_millis(1500);
/// The same where the media server is there and refuses.
const LONGEST_REFUSED_REST: Duration = Duration::from_secs(30);
/// However long a media server asks for.
const LONGEST_ASKED_REST: Duration = Duration::from_secs(300);
/// Events of a peer: the candidates of a host with many networks, all at once.
const PEER_EVENTS: usize = 64;

/// How a push goes, as whoever started it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PushEvent {
    /// Media flow.
    Live,
    /// It is tried again in a while.
    Retrying {
        /// In a line, without anything secret.
        reason: String,
    },
    /// It would not go better another time.
    Failed {
        /// In a line, without anything secret.
        reason: String,
    },
}

/// Why an attempt ended.
enum Ended {
    Stopped,
    /// The media server was not there, or not any more.
    Lost(String),
    /// It answers, and refuses for now.
    Refused(String, Option<Duration>),
    /// It does not take this codec.
    OtherCodec(String),
    Failed(String),
}

/// Publishes until it is told to stop, which ends the session at the media server too, or cannot go on.
pub(crate) async fn publish(
    broadcast: &Broadcast,
    endpoint: &WhipEndpoint,
    ice: &IceConfig,
    stop: &CancellationToken,
    mut told: impl FnMut(PushEvent),
) {
    let codecs = broadcast.codecs().len().max(1);
    let (mut codec, mut refused_codecs) = (0, 0);
    let (mut rest, mut refused_rest) = (REST, REST);
    let mut attempt = Attempt { broadcast, endpoint, ice: ice.clone(), stop };
    loop {
        let mut was_live = false;
        let mut live = || {
            was_live = true;
            told(PushEvent::Live);
        };
        let ended = attempt.run(codec, &mut live).await;
        if was_live {
            (rest, refused_rest, refused_codecs) = (REST, REST, 0);
        }
        let (reason, wait) = match ended {
            Ended::Stopped => return,
            Ended::Failed(reason) => return told(PushEvent::Failed { reason }),
            Ended::OtherCodec(reason) => {
                (codec, refused_codecs) = ((codec + 1) % codecs, refused_codecs + 1);
                if refused_codecs >= codecs {
                    return told(PushEvent::Failed { reason });
                }
                (reason, Duration::ZERO)
            }
            Ended::Lost(reason) => (reason, next_rest(&mut rest, LONGEST_REST)),
            Ended::Refused(reason, asked) => {
                let wait = next_rest(&mut refused_rest, LONGEST_REFUSED_REST);
                (reason, asked.map_or(wait, |asked| asked.min(LONGEST_ASKED_REST).max(wait)))
            }
        };
        tracing::info!(reason, again_in = ?wait, "a push has ended");
        told(PushEvent::Retrying { reason });
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// The rest that is due; the one after it is twice as long, up to the longest.
fn next_rest(rest: &mut Duration, longest: Duration) -> Duration {
    let due = *rest;
    *rest = (due * 2).min(longest);
    due
}

struct Attempt<'a> {
    broadcast: &'a Broadcast,
    endpoint: &'a WhipEndpoint,
    /// With the servers that the media server has named.
    ice: IceConfig,
    stop: &'a CancellationToken,
}

impl Attempt<'_> {
    async fn run(&mut self, codec: usize, live: &mut impl FnMut()) -> Ended {
        let Some(opened) = self.stop.run_until_cancelled(self.open(codec)).await else { return Ended::Stopped };
        let (push, published, mut events) = match opened {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        // Whatever comes of it, the media server is to know when it is over.
        let ended = match self.stop.run_until_cancelled(connect(&push, &published, &mut events)).await {
            None => Ended::Stopped,
            Some(Err(ended)) => {
                self.use_servers(&published.ice_servers);
                ended
            }
            Some(Ok(())) => {
                tracing::info!(target = %self.endpoint.shown(), "a session is pushed");
                live();
                match self.stop.run_until_cancelled(over(&mut events, || push.reported())).await {
                    Some(reason) => Ended::Lost(reason),
                    None => Ended::Stopped,
                }
            }
        };
        self.endpoint.delete(&published).await;
        ended
    }

    /// A peer that has offered, and what came back.
    async fn open(&self, codec: usize) -> Result<(Push, Published, mpsc::Receiver<PeerEvent>), Ended> {
        let failed = |error: String| Ended::Lost(error);
        let codec = self.broadcast.codecs().get(codec).copied();
        let codec = codec.ok_or_else(|| Ended::Failed("there is no encoder".to_owned()))?;
        let broadcast = self.broadcast.clone();
        // It may start an encode.
        let publisher = tokio::task::spawn_blocking(move || broadcast.publisher(codec)).await;
        let publisher = publisher.map_err(|error| failed(error.to_string()))?.map_err(|error| {
            tracing::error!(%error, "no encode to publish");
            failed("the session has no encode just now; the server's log says why".to_owned())
        })?;
        let (sender, events) = mpsc::channel(PEER_EVENTS);
        let push = Push::open(self.broadcast.clone(), publisher, sender, self.ice.clone()).await;
        let push = push.map_err(|Refusal { message, .. }| failed(message))?;
        let published = self.endpoint.publish(push.offer()).await.map_err(|error| {
            let reason = format!("{} {error}", self.endpoint.shown());
            if error.is_of_the_offer() {
                Ended::OtherCodec(reason)
            } else if error.is_final() {
                Ended::Failed(reason)
            } else if error.is_refusal() {
                Ended::Refused(reason, error.retry_after())
            } else {
                Ended::Lost(reason)
            }
        })?;
        Ok((push, published, events))
    }

    /// By these the media server says it is reached, so the next offer has candidates of theirs.
    fn use_servers(&mut self, servers: &[IceLink]) {
        for server in servers.iter().filter_map(IceLink::for_webrtcbin) {
            let place = if server.starts_with("stun:") { &mut self.ice.stun } else { &mut self.ice.turn };
            // What this server's own settings name goes before.
            place.get_or_insert(server);
        }
    }
}

/// Waits until media flow.
async fn connect(push: &Push, published: &Published, events: &mut mpsc::Receiver<PeerEvent>) -> Result<(), Ended> {
    push.accept(&published.answer).await.map_err(|refusal| match refusal.code {
        ErrorCode::NoCommonCodec => Ended::OtherCodec(refusal.message),
        _ => Ended::Refused(refusal.message, None),
    })?;
    let connected = async {
        loop {
            match events.recv().await {
                Some(PeerEvent::Connected) => return Ok(()),
                Some(PeerEvent::Candidate(_) | PeerEvent::Network(_)) => {}
                Some(PeerEvent::Closed { reason }) => return Err(Ended::Lost(reason)),
                None => return Err(Ended::Lost("its pipeline has ended".to_owned())),
            }
        }
    };
    timeout(CONNECT_TIME, connected).await.unwrap_or_else(|_| {
        Err(Ended::Lost(format!("no connection to the media server within {} s of its answer", CONNECT_TIME.as_secs())))
    })
}

/// Waits until the connection is over, and says why. `reported` counts the media server's reports.
async fn over(events: &mut mpsc::Receiver<PeerEvent>, reported: impl Fn() -> u64) -> String {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut heard, mut since) = (reported(), Instant::now());
    let (mut longest, mut times) = (Duration::ZERO, 0);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(PeerEvent::Closed { reason }) => return reason,
                Some(PeerEvent::Connected | PeerEvent::Candidate(_) | PeerEvent::Network(_)) => {}
                None => return "its pipeline has ended".to_owned(),
            },
            _ = looks.tick() => {
                let now = reported();
                if std::mem::replace(&mut heard, now) != now {
                    longest = longest.max(since.elapsed());
                    (since, times) = (Instant::now(), times + 1);
                }
                let [least, most] = SILENCE;
                let patience = if times < KNOWN { most } else { (longest * 4).clamp(least, most) };
                // One that has never reported may be one that does not.
                if heard > 0 && since.elapsed() >= patience {
                    return format!("the media server has reported nothing for {} s", patience.as_secs());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
