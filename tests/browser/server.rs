//! `mouthpiece serve` in a process of its own, and what can be seen of it from outside.
//!
//! A process of its own, so that its threads, descriptors and memory are its and nobody else's.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::watchdog;

/// A server that learns beside other work that its device draws one session would refuse the next viewer while the one
/// before is still leaving; how many there may be is looked at elsewhere (`tests/it/limits.rs`).
const WHATEVER_IT_DRAWS: &str = "max_load = 1.0\nspeaking_share = 0.001\n";

pub struct Server {
    process: Child,
    /// `127.0.0.1:PORT`
    pub address: String,
    log: Arc<Mutex<Vec<String>>>,
    logging: JoinHandle<()>,
    _settings: NamedTempFile,
}

/// What a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// How many threads have each name.
    pub threads: BTreeMap<String, usize>,
    pub descriptors: usize,
    pub resident_kib: u64,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts on a free port with further arguments and waits until it serves.
    pub async fn start_with(arguments: &[&str]) -> Self {
        Self::start_at(Path::new(env!("CARGO_MANIFEST_DIR")), arguments).await
    }

    /// The same with lines of settings besides the usual ones, for what has no argument.
    pub async fn start_with_settings(lines: &str) -> Self {
        Self::start_set(Path::new(env!("CARGO_MANIFEST_DIR")), lines, &[]).await
    }

    /// The same with another home.
    pub async fn start_at(home: &Path, arguments: &[&str]) -> Self {
        Self::start_set(home, "", arguments).await
    }

    /// Behind a network of its own, at this address there.
    pub async fn start_in(namespace: &str, address: &str, lines: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_mouthpiece")]);
        Self::launch(command, Path::new(env!("CARGO_MANIFEST_DIR")), address, lines, arguments).await
    }

    async fn start_set(home: &Path, lines: &str, arguments: &[&str]) -> Self {
        Self::launch(Command::new(env!("CARGO_BIN_EXE_mouthpiece")), home, "127.0.0.1:0", lines, arguments).await
    }

    async fn launch(mut command: Command, home: &Path, address: &str, lines: &str, arguments: &[&str]) -> Self {
        let settings = NamedTempFile::new().unwrap();
        std::fs::write(settings.path(), format!("{WHATEVER_IT_DRAWS}{lines}")).unwrap();
        let mut process = command
            .arg("--home")
            .arg(home)
            // In a network of the tests' own nobody else is.
            .args(["serve", "--insecure", "--listen", address, "--config"])
            .arg(settings.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let kept = Arc::clone(&log);
        let logging = tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = watchdog::comes("the server starts", said.next_line()).await.unwrap();
        let line = line.unwrap_or_else(|| panic!("the server ended: {:?}", log.lock().unwrap()));
        let (_, address) = line.split_once("http://").expect("the server says where it is");
        Self { address: address.to_owned(), process, log, logging, _settings: settings }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// A value of `/metrics`; nothing that was never counted is there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let mut socket = TcpStream::connect(&self.address).await.unwrap();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).await.unwrap();
        let value = reply.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub async fn wait_for_metric(&self, name: &str, wanted: f64) {
        let reached = watchdog::looking(async || self.metric(name).await.unwrap_or(0.0) == wanted);
        if watchdog::guarded(reached).await.is_err() {
            panic!("{name} is {:?} and not {wanted}", self.metric(name).await);
        }
    }

    /// What the process holds now.
    pub fn holding(&self) -> Holding {
        let folder = format!("/proc/{}", self.process.id().expect("the server runs"));
        let mut threads = BTreeMap::new();
        for thread in std::fs::read_dir(format!("{folder}/task")).unwrap() {
            // A thread may end between the listing and the look.
            if let Ok(name) = std::fs::read_to_string(thread.unwrap().path().join("comm")) {
                *threads.entry(name.trim().to_owned()).or_default() += 1;
            }
        }
        let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        Holding {
            threads,
            descriptors: std::fs::read_dir(format!("{folder}/fd")).unwrap().count(),
            resident_kib: resident.trim().trim_end_matches(" kB").parse().unwrap(),
        }
    }

    /// User and system time of the process so far, from `/proc/PID/stat` (proc(5), fields 14 and 15).
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id().unwrap())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    /// Waits until the process holds what satisfies a condition, or never will; gives what it holds then.
    pub async fn holding_when(&self, mut enough: impl FnMut(&Holding) -> bool) -> Holding {
        let reached = watchdog::looking(async || enough(&self.holding()));
        // The caller asserts on what is held, which says more than that it took too long.
        let _ = watchdog::guarded(reached).await;
        self.holding()
    }

    /// Ends it as an administrator would; it must end by itself and without an error, as it would tell if its sessions used
    /// up the time that they have for that.
    pub async fn stop(mut self) {
        let id = self.process.id().and_then(|id| rustix::process::Pid::from_raw(i32::try_from(id).ok()?));
        rustix::process::kill_process(id.expect("the server still runs"), rustix::process::Signal::TERM).unwrap();
        let status = watchdog::comes("the server ends after SIGTERM", self.process.wait()).await.unwrap();
        assert!(status.success(), "{status}: {:#?}", self.log.lock().unwrap());
    }
}

impl Holding {
    pub fn thread_count(&self) -> usize {
        self.threads.values().sum()
    }

    pub fn named(&self, name: &str) -> usize {
        self.threads.get(name).copied().unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.logging.abort();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            eprintln!("the server's log, its end:\n{}", log[log.len().saturating_sub(40)..].join("\n"));
        }
    }
}
