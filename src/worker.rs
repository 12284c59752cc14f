//! A thread of ours that ends before its owner does, whichever way the owner goes.
//!
//! In here: asking a thread to end and waiting for it. Not in here: what threads do; each looks at its token between two
//! pieces of work. libtorch's destructors crash under a thread that still computes, so no `?` may leave one behind.
//! Runs on: whoever drops or joins a `Worker`, which waits for the piece of work in hand.

use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

const CORES_A_THREAD: usize = 4;
const MOST_THREADS: usize = 4;

/// Work for all sessions that one thread has no time for is given so many on this machine: one for every four cores, since
/// encoders have most of them, and few, since each has memory of its own.
pub fn threads_for_all_sessions() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).div_ceil(CORES_A_THREAD).min(MOST_THREADS)
}

/// Owns a thread. Dropping it asks the thread to end and waits until it has, also while there are ways left to ask it for
/// more: whoever does then hears that it has ended.
#[derive(Debug)]
pub struct Worker {
    thread: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Worker {
    /// Runs `work` on a thread of this name; it returns once its token is cancelled.
    pub fn spawn(name: &str, work: impl FnOnce(CancellationToken) + Send + 'static) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let asked = stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || work(asked))?;
        Ok(Self { thread: Some(thread), stop })
    }

    /// Asks the thread to end without waiting for it.
    pub fn ask_to_end(&self) {
        self.stop.cancel();
    }

    /// As dropping it. True if the thread ended without a panic.
    pub fn join(mut self) -> bool {
        self.end()
    }

    fn end(&mut self) -> bool {
        self.stop.cancel();
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Whoever wants to know of a panic joins.
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_has_ended_when_its_owner_is_gone() {
        let (told, hears) = mpsc::channel();
        let wait = move |stop: CancellationToken| {
            while !stop.is_cancelled() {
                std::thread::yield_now();
            }
            told.send(()).unwrap();
        };
        let worker = Worker::spawn("waits", wait).unwrap();
        drop(worker);
        assert_eq!(hears.try_recv(), Ok(()));
    }

    #[test]
    fn a_panic_is_told_to_who_joins() {
        assert!(!Worker::spawn("panics", |_| panic!("it is told to")).unwrap().join());
        assert!(Worker::spawn("returns", |_| ()).unwrap().join());
    }
}
