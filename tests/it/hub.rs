//! A hub on this machine: repositories of small files, and every way in which a server lets one down.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use sha1::Digest;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server does with one request for a file.
#[derive(Clone, Debug)]
pub enum Act {
    /// Promises everything and hangs up after so many bytes.
    Cut(usize),
    /// Sends so many bytes and then nothing, with the connection open.
    Stall(usize),
    /// Announces so many bytes, whatever it sends.
    Announce(usize),
    /// Announces no length, and sends this after the file.
    Append(Vec<u8>),
    /// Sends something else of the same length.
    Corrupt,
    /// Sends the whole file whatever range was asked for.
    IgnoreRange,
    /// Sends another range than was asked for.
    WrongRange,
    Status(u16),
    Redirect(String),
}

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    /// By repository and name.
    files: HashMap<(String, String), Vec<u8>>,
    /// Sizes that the description gives instead of the true ones.
    listed: HashMap<String, u64>,
    acts: HashMap<String, VecDeque<Act>>,
    requests: Vec<Request>,
}

pub struct HubServer {
    pub endpoint: String,
    state: Arc<Mutex<State>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl HubServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (state, stop) = (Arc::new(Mutex::new(State::default())), Arc::new(AtomicBool::new(false)));
        let (serving, stopping) = (Arc::clone(&state), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, state) = (stream.unwrap(), Arc::clone(&serving));
                // A client that hangs up early is what some tests are about.
                connections.push(std::thread::spawn(move || drop(serve(stream, &state))));
            }
            connections.into_iter().for_each(|connection| connection.join().unwrap());
        });
        Self { endpoint, state, stop, thread: Some(thread) }
    }

    pub fn add(&self, repo: &str, file: &str, content: &[u8]) {
        self.state.lock().unwrap().files.insert((repo.to_owned(), file.to_owned()), content.to_vec());
    }

    /// Lists a file with a size that it does not have.
    pub fn list_as(&self, file: &str, bytes: u64) {
        self.state.lock().unwrap().listed.insert(file.to_owned(), bytes);
    }

    /// What the next requests for a path that ends like this get; those after are served well.
    pub fn next(&self, path: &str, acts: &[Act]) {
        self.state.lock().unwrap().acts.entry(path.to_owned()).or_default().extend(acts.iter().cloned());
    }

    /// Requests for files so far.
    pub fn requests(&self) -> Vec<Request> {
        let all = self.state.lock().unwrap().requests.clone();
        all.into_iter().filter(|request| !request.path.starts_with("/api/")).collect()
    }
}

impl Drop for HubServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.endpoint.trim_start_matches("http://"));
        let _ = self.thread.take().unwrap().join();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As the hub describes a repository: files over a kilobyte are large ones here.
fn describe(state: &State, repo: &str) -> Option<Value> {
    let files = state.files.iter().filter(|((of, _), _)| of == repo);
    let siblings: Vec<Value> = files
        .map(|((_, name), content)| {
            let size = state.listed.get(name).copied().unwrap_or(content.len() as u64);
            let header = format!("blob {}\0", content.len());
            let blob = hex(&sha1::Sha1::new_with_prefix(header).chain_update(content).finalize());
            let mut sibling = json!({"rfilename": name, "size": size, "blobId": blob});
            if size > 1000 {
                sibling["lfs"] =
                    json!({"sha256": hex(&sha2::Sha256::digest(content)), "size": size, "pointerSize": 134});
            }
            sibling
        })
        .collect();
    let description = json!({"id": repo, "sha": COMMIT, "cardData": {"license": "mit"}, "siblings": siblings});
    (!siblings.is_empty()).then_some(description)
}

fn head(stream: &mut TcpStream, status: &str, headers: &str) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut request = Request { path: path.clone(), range: None, authorization: None };
    for line in lines.by_ref() {
        let line = line?;
        match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
            Some((name, value)) if name == "range" => request.range = Some(value.to_owned()),
            Some((name, value)) if name == "authorization" => request.authorization = Some(value.to_owned()),
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    let (act, reply) = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let act =
            state.acts.iter_mut().find(|(end, _)| path.ends_with(end.as_str())).and_then(|(_, acts)| acts.pop_front());
        let reply =
            match path.strip_prefix("/api/models/").and_then(|rest| rest.strip_suffix("/revision/main?blobs=true")) {
                Some(repo) => describe(&state, repo).map(|value| value.to_string().into_bytes()),
                None => path[1..]
                    .split_once(&format!("/resolve/{COMMIT}/"))
                    .and_then(|(repo, file)| state.files.get(&(repo.to_owned(), file.to_owned())).cloned()),
            };
        (act, reply)
    };
    match act {
        Some(Act::Status(status)) => {
            return head(&mut stream, &format!("{status} No"), "Content-Length: 0\r\nRetry-After: 0\r\n");
        }
        Some(Act::Redirect(to)) => {
            return head(&mut stream, "302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n"));
        }
        _ => {}
    }
    let Some(content) = reply else { return head(&mut stream, "404 Not Found", "Content-Length: 0\r\n") };
    let asked =
        request.range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = if matches!(act, Some(Act::IgnoreRange)) { 0 } else { asked.unwrap_or(0) };
    let mut body = content[from.min(content.len())..].to_vec();
    let (mut announced, mut named) = (Some(body.len()), from);
    let mut sent = body.len();
    match act {
        Some(Act::Cut(bytes) | Act::Stall(bytes)) => sent = bytes.min(body.len()),
        Some(Act::Announce(bytes)) => announced = Some(bytes),
        Some(Act::Append(ref more)) => {
            body.extend(more);
            (announced, sent) = (None, body.len());
        }
        Some(Act::Corrupt) => body.iter_mut().for_each(|byte| *byte ^= 0x55),
        Some(Act::WrongRange) => named += 1,
        _ => {}
    }
    let mut headers = announced.map_or(String::new(), |bytes| format!("Content-Length: {bytes}\r\n"));
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    if from > 0 {
        headers += &format!("Content-Range: bytes {named}-{}/{}\r\n", content.len() - 1, content.len());
    }
    head(&mut stream, status, &headers)?;
    stream.write_all(&body[..sent])?;
    if matches!(act, Some(Act::Stall(_))) {
        // Until the client has had enough.
        let _ = stream.read(&mut [0])?;
    }
    Ok(())
}
