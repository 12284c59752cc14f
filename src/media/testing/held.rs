//! What the process of a test holds, and a process of a test's own to look at it in.

use std::future::Future;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Stage;
use crate::media::Resources;

/// The limit that `alone` sets, and by which the process knows that it is the test's own.
const DESCRIPTORS: u64 = 512;
/// For everything to be as it was.
const SETTLED: Duration = Duration::from_secs(10);
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Threads of GLib's pools stay for a while, and those of tokio's.
const POOLS: Resources = Resources { descriptors: 2, threads: 12 };

fn count(folder: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{folder}")).unwrap().count()
}

pub fn held() -> Resources {
    Resources { descriptors: count("fd"), threads: count("task") }
}

pub fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * rustix::param::page_size() as u64
}

/// As much again, with what pools keep for a while.
pub fn allowed(base: Resources) -> Resources {
    Resources { descriptors: base.descriptors + POOLS.descriptors, threads: base.threads + POOLS.threads }
}

pub fn is_within(held: Resources, limit: Resources) -> bool {
    held.descriptors <= limit.descriptors && held.threads <= limit.threads
}

/// Waits until the process holds no more than this, and says what it holds if that does not come.
pub async fn settles(limit: Resources, after: &str) {
    let since = Instant::now();
    while !is_within(held(), limit) {
        assert!(since.elapsed() < SETTLED, "{after}: {:?} are held and not {limit:?}", held());
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    eprintln!("{after}: {:?} after {:?}", held(), since.elapsed());
}

/// Drops viewers where it may block, and waits until their pipelines are freed.
pub async fn let_go(stage: &Stage, viewers: impl Send + 'static) {
    let teardown = stage.broadcast.teardown();
    tokio::task::spawn_blocking(move || {
        drop(viewers);
        teardown.wait();
    })
    .await
    .unwrap();
}

/// Runs the test of this name in a process of its own with few descriptors, which ends at the first of GLib's criticals.
pub fn alone<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F) {
    if rustix::process::getrlimit(rustix::process::Resource::Nofile).current == Some(DESCRIPTORS) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        return runtime.block_on(test());
    }
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &DESCRIPTORS.to_string()]);
    limited.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]);
    let ran = limited.env("G_DEBUG", "fatal-criticals").output().unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}", ran.status);
    assert!(String::from_utf8_lossy(&ran.stdout).contains("1 passed"), "no test is called {name}");
}

/// How often, by this variable of the environment: a run by hand goes further than one of all tests.
pub fn times(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |often| often.parse().unwrap())
}
