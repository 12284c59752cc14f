//! What each kind of thread of this process takes of a core: one of which there is a single one cannot take more than the whole
//! of it, and whatever it does for all sessions then waits.
//!
//! In here: reading `/proc/self/task`. Threads of one name are one kind, and GStreamer's are called by what they serve.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{rounded, ticks};

/// Kinds of thread that take less than this, in percent of a core, are not worth a line.
const LEAST_PERCENT: f64 = 0.5;

/// The CPU time of every thread, from a moment on.
pub(super) struct ThreadMeter {
    before: BTreeMap<String, Spent>,
    started: Instant,
}

/// What a thread is called, and its CPU time so far.
type Spent = (String, Duration);

impl ThreadMeter {
    pub(super) fn start() -> anyhow::Result<Self> {
        Ok(Self { before: threads()?, started: Instant::now() })
    }

    /// For each kind: how many threads there are, what all of them took, and what the busiest did. The busiest kind is first.
    pub(super) fn report(&self) -> anyhow::Result<Value> {
        Ok(report(&self.before, &threads()?, self.started.elapsed()))
    }
}

fn report(before: &BTreeMap<String, Spent>, now: &BTreeMap<String, Spent>, passed: Duration) -> Value {
    let mut kinds: BTreeMap<&str, (u32, Duration, Duration)> = BTreeMap::new();
    for (thread, (name, spent)) in now {
        let spent_before = before.get(thread).map_or(Duration::ZERO, |(_, spent)| *spent);
        let spent = spent.saturating_sub(spent_before);
        let kind = kinds.entry(name).or_default();
        *kind = (kind.0 + 1, kind.1 + spent, kind.2.max(spent));
    }
    let percent = |time: Duration| rounded(time.as_secs_f64() / passed.as_secs_f64() * 100.0);
    let mut kinds: Vec<_> = kinds.into_iter().filter(|(_, kind)| percent(kind.1) >= LEAST_PERCENT).collect();
    kinds.sort_by_key(|(_, (_, all, _))| std::cmp::Reverse(*all));
    let line = |(name, (threads, all, busiest)): (&str, (u32, Duration, Duration))| json!({"name": name, "threads": threads, "cpu_percent_of_a_core": percent(all), "busiest_percent": percent(busiest)});
    kinds.into_iter().map(line).collect()
}

/// All threads by their numbers.
fn threads() -> anyhow::Result<BTreeMap<String, Spent>> {
    let mut threads = BTreeMap::new();
    for thread in std::fs::read_dir("/proc/self/task")? {
        let thread = thread?;
        // One that has ended meanwhile has no file any more.
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { continue };
        if let Some(spent) = spent(&stat) {
            threads.insert(thread.file_name().to_string_lossy().into_owned(), spent);
        }
    }
    Ok(threads)
}

/// Name and CPU time out of a thread's `stat` (proc(5), fields 2, 14 and 15). Only digits tell threads of a kind apart.
fn spent(stat: &str) -> Option<Spent> {
    let (name, _) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name.replace(|letter: char| letter.is_ascii_digit(), ""), ticks(stat, 2)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, user: u32, system: u32) -> String {
        format!("7 ({name}) S 1 7 7 0 -1 64 10 0 0 0 {user} {system} 900 900 20 0 5 0 100")
    }

    #[test]
    fn threads_of_a_kind_are_counted_together_and_by_the_busiest() {
        let a_tick = ticks(&stat("x", 1, 0), 2).unwrap();
        let seen = |times: [u32; 3]| {
            let [first, second, other] = times;
            let threads = [("7", stat("queue0:src", first, 0)), ("8", stat("queue12:src", 0, second))];
            let threads = threads.into_iter().chain([("9", stat("a) b(1", other, other))]);
            threads.map(|(thread, stat)| (thread.to_owned(), spent(&stat).unwrap())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(seen([0; 3])["9"].0, "a) b(");
        let report = report(&seen([50, 10, 7]), &seen([80, 20, 7]), a_tick * 100);
        let queues =
            json!([{"name": "queue:src", "threads": 2, "cpu_percent_of_a_core": 40.0, "busiest_percent": 30.0}]);
        assert_eq!(report, queues);
    }

    #[test]
    fn this_very_thread_is_there() {
        assert!(threads().unwrap().len() > 1);
        assert_eq!(spent("nonsense"), None);
    }
}
