//! A headless Chromium for browser tests, driven over the DevTools protocol.
//!
//! In here: starting and ending it, pages, running JavaScript in them, a hand on mouse and keyboard.
//! Not in here: what the server's page holds (`page`) and must do (`playing`).
//! Runs on: one tokio task per browser reads its socket, another its stderr; both end with the browser.
//!
//! Nothing waits by sleeping: conditions are awaited inside the page. A browser that does not answer, and JavaScript that
//! throws, fail the test with what was asked of it.

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::ChildStderr;
use tokio::sync::{MutexGuard, broadcast, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::watchdog;

const PROGRAMS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The sound is not muted: whether the avatar is heard is measured.
const FLAGS: [&str; 15] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    // Pages of one browser are all in front.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
    "--remote-debugging-port=0",
];

/// One browser at a time: two that play beside each other would measure each other's load.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Events kept for whoever waits for one; a page that loads sends tens.
const EVENTS: usize = 1024;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Reply = Result<Value, String>;

/// One browser with a profile of its own; another one is launched once this is dropped. Dropped, it is killed with everything it started.
pub struct Chromium {
    process: Child,
    link: Arc<Link>,
    _profile: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Chromium {
    /// Videos play without a gesture, as they do for someone who has been here before.
    pub async fn launch() -> Self {
        Self::launch_with(&["--autoplay-policy=no-user-gesture-required"]).await
    }

    pub async fn launch_with(flags: &[&str]) -> Self {
        let alone = ALONE.lock().await;
        let profile = tempfile::tempdir().expect("a folder for Chromium's profile");
        let mut process = start(profile.path(), flags);
        let stderr = process.stderr.take().expect("stderr is piped");
        let stderr = ChildStderr::from_std(stderr).expect("stderr can be read");
        // From here on, whatever fails, dropping this kills the browser.
        let mut browser = Self { process, link: Link::closed(), _profile: profile, _alone: alone };
        let address = watchdog::comes("Chromium starts", devtools_address(stderr)).await;
        let (socket, _) = tokio_tungstenite::connect_async(&address).await.expect("Chromium takes connections");
        browser.link = Link::open(socket);
        browser
    }

    /// A new page in a window of its own, so that none is in the background; returns when it has loaded.
    pub async fn page(&self, url: &str) -> Page {
        let target =
            self.command("Target.createTarget", json!({"url": "about:blank", "newWindow": true})).await["targetId"]
                .clone();
        let attach = json!({"targetId": target, "flatten": true});
        let session = self.command("Target.attachToTarget", attach).await["sessionId"].as_str().unwrap().to_owned();
        let page = Page { session, target, link: Arc::clone(&self.link) };
        for domain in ["Runtime", "Log", "Page"] {
            page.command(&format!("{domain}.enable"), json!({})).await;
        }
        page.navigate(url).await;
        page
    }

    async fn command(&self, method: &str, parameters: Value) -> Value {
        self.link.command(None, method, parameters, watchdog::LIMIT).await.unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let group = i32::try_from(self.process.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.process.wait();
        // Every process of the browser holds this open. Only when the last has let go is nobody left to write into the
        // profile that is deleted next.
        let _ = self.process.stdout.take().map(|mut stdout| stdout.read_to_end(&mut Vec::new()));
    }
}

fn start(profile: &Path, flags: &[&str]) -> Child {
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(FLAGS).args(flags).arg(format!("--user-data-dir={}", profile.display())).arg("about:blank");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        match command.spawn() {
            Ok(process) => return process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{program} does not start: {error}"),
        }
    }
    panic!("browser tests need one of {PROGRAMS:?}: apt-get install chromium");
}

/// The address that Chromium says on stderr, which is read on to its end: a full pipe would stop the browser.
async fn devtools_address(stderr: ChildStderr) -> String {
    let mut lines = BufReader::new(stderr).lines();
    let mut said = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.strip_prefix("DevTools listening on ") {
            let address = address.trim().to_owned();
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return address;
        }
        said.push(line);
    }
    panic!("Chromium ended before it could be driven; it said:\n{}", said.join("\n"));
}

/// One page. Dropped, it stays open until the browser ends; `close` ends it earlier.
pub struct Page {
    session: String,
    target: Value,
    link: Arc<Link>,
}

impl Page {
    /// Goes to another address, or to the same once more; returns when it has loaded.
    pub async fn navigate(&self, url: &str) {
        let mut events = self.link.events.subscribe();
        let reply = self.command("Page.navigate", json!({"url": url})).await;
        if let Some(error) = reply["errorText"].as_str() {
            panic!("{url} does not load: {error}");
        }
        let loaded = async {
            loop {
                let event = events.recv().await.expect("Chromium is there and sends few events");
                if event["method"] == "Page.loadEventFired" && event["sessionId"] == self.session.as_str() {
                    return;
                }
            }
        };
        watchdog::comes("the page loads", loaded).await;
    }

    /// The value of an expression; a promise is awaited. What it throws fails the test.
    pub async fn evaluate(&self, expression: &str) -> Value {
        self.try_evaluate(expression).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// As `evaluate`, with what the expression throws as the error.
    pub async fn try_evaluate(&self, expression: &str) -> Reply {
        self.evaluate_within(expression, watchdog::LIMIT).await
    }

    /// Waits, inside the page, until an expression is truthy, and returns its value.
    pub async fn wait_for(&self, condition: &str) -> Value {
        self.wait_within(condition, watchdog::LIMIT).await
    }

    async fn wait_within(&self, condition: &str, limit: Duration) -> Value {
        // Timers, not frames: a page that is not drawn has none.
        let expression = format!(
            "(async () => {{
                const deadline = performance.now() + {limit};
                for (;;) {{
                    const value = await ({condition});
                    if (value) return value;
                    if (performance.now() > deadline) throw new Error({message});
                    await new Promise((resolve) => setTimeout(resolve, 20));
                }}
            }})()",
            limit = limit.as_millis(),
            message = json!(format!("waited {limit:?} for: {condition}")),
        );
        let value = self.evaluate_within(&expression, limit + watchdog::LIMIT).await;
        value.unwrap_or_else(|error| panic!("{error}\nconsole: {:?}", self.console_errors()))
    }

    async fn evaluate_within(&self, expression: &str, limit: Duration) -> Reply {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let reply = self.link.command(Some(&self.session), "Runtime.evaluate", parameters, limit).await?;
        match reply.get("exceptionDetails") {
            None => Ok(reply["result"]["value"].clone()),
            Some(details) => Err(exception_text(details)),
        }
    }

    /// A click in the middle of the element, with the user activation that a real one has.
    pub async fn click(&self, selector: &str) {
        let place = self.middle_of(selector).await;
        for kind in ["mousePressed", "mouseReleased"] {
            let mouse = json!({"type": kind, "x": place["x"], "y": place["y"], "button": "left", "clickCount": 1});
            self.command("Input.dispatchMouseEvent", mouse).await;
        }
    }

    /// Brings the element into view; where its middle is then.
    async fn middle_of(&self, selector: &str) -> Value {
        let selector = json!(selector);
        self.evaluate(&format!(
            "(() => {{
                const element = document.querySelector({selector});
                if (!element) throw new Error('no element ' + {selector});
                element.scrollIntoView({{block: 'nearest'}});
                const {{x, y, width, height}} = element.getBoundingClientRect();
                if (width * height === 0) throw new Error('nothing to click on: ' + {selector});
                return {{x: x + width / 2, y: y + height / 2}};
            }})()"
        ))
        .await
    }

    /// Chooses a file, as a person does in the browser's own window.
    pub async fn choose_file(&self, selector: &str, path: &Path) {
        let expression = format!("document.querySelector({})", json!(selector));
        let input = self.command("Runtime.evaluate", json!({"expression": expression})).await;
        let object = &input["result"]["objectId"];
        self.command("DOM.setFileInputFiles", json!({"objectId": object, "files": [path]})).await;
    }

    /// Drops a file onto the middle of the element, as a person does who drags it out of a folder.
    pub async fn drop_file(&self, selector: &str, path: &Path) {
        let place = self.middle_of(selector).await;
        for kind in ["dragEnter", "dragOver", "drop"] {
            let data = json!({"items": [], "files": [path], "dragOperationsMask": 1});
            let drag = json!({"type": kind, "x": place["x"], "y": place["y"], "data": data});
            self.command("Input.dispatchDragEvent", drag).await;
        }
    }

    /// Writes into whatever has the focus.
    pub async fn write(&self, text: &str) {
        self.command("Input.insertText", json!({"text": text})).await;
    }

    /// Presses and releases a key by its DOM name: `Enter`, `Escape`.
    pub async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, Some("\r")),
            "Escape" => (27, None),
            _ => panic!("no key code is known for {key:?}: add it here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code});
            if let (Some(text), "keyDown") = (text, kind) {
                event["text"] = json!(text);
            }
            self.command("Input.dispatchKeyEvent", event).await;
        }
    }

    /// Size of the page in CSS pixels, and whether it is a phone's.
    pub async fn resize(&self, width: u32, height: u32, mobile: bool) {
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile});
        self.command("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`.
    pub async fn prefer_color_scheme(&self, scheme: &str) {
        let feature = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", feature).await;
    }

    /// A picture of what is to be seen, as PNG.
    pub async fn screenshot(&self, path: &Path) {
        let reply = self.command("Page.captureScreenshot", json!({"format": "png"})).await;
        let png = base64(reply["data"].as_str().unwrap());
        std::fs::write(path, png).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Errors that the console of this page has shown so far: thrown, logged, or the browser's own.
    pub fn console_errors(&self) -> Vec<String> {
        self.link.inner.lock().unwrap().errors.get(&self.session).cloned().unwrap_or_default()
    }

    /// Closes the page; its connections end.
    pub async fn close(self) {
        let close = json!({"targetId": self.target});
        let reply = self.link.command(None, "Target.closeTarget", close, watchdog::LIMIT).await;
        reply.unwrap_or_else(|error| panic!("{error}"));
    }

    async fn command(&self, method: &str, parameters: Value) -> Value {
        let reply = self.link.command(Some(&self.session), method, parameters, watchdog::LIMIT).await;
        reply.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The one WebSocket to the browser, for all its pages.
struct Link {
    sink: tokio::sync::Mutex<Option<SplitSink<Socket, Message>>>,
    next: AtomicU64,
    inner: Arc<Mutex<Inner>>,
    events: broadcast::Sender<Arc<Value>>,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<u64, oneshot::Sender<Reply>>,
    ended: bool,
    /// By session.
    errors: HashMap<String, Vec<String>>,
}

impl Link {
    fn closed() -> Arc<Self> {
        Arc::new(Self::new(None))
    }

    fn new(sink: Option<SplitSink<Socket, Message>>) -> Self {
        let events = broadcast::Sender::new(EVENTS);
        Self { sink: tokio::sync::Mutex::new(sink), next: AtomicU64::new(1), inner: Arc::default(), events }
    }

    fn open(socket: Socket) -> Arc<Self> {
        let (sink, stream) = socket.split();
        let link = Self::new(Some(sink));
        tokio::spawn(read(stream, Arc::clone(&link.inner), link.events.clone()));
        Arc::new(link)
    }

    async fn command(&self, session: Option<&str>, method: &str, parameters: Value, limit: Duration) -> Reply {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        let (reply, answer) = oneshot::channel();
        let gone = || format!("{method}: Chromium has ended");
        {
            let mut inner = self.inner.lock().unwrap();
            if inner.ended {
                return Err(gone());
            }
            inner.waiting.insert(id, reply);
        }
        if let Some(sink) = self.sink.lock().await.as_mut() {
            sink.send(Message::text(message.to_string())).await.map_err(|_| gone())?;
        }
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(reply)) => reply.map_err(|error| format!("{method}: {error}")),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                Err(format!("{method}: no answer in {limit:?}; asked: {parameters}", parameters = message["params"]))
            }
        }
    }
}

async fn read(mut stream: SplitStream<Socket>, inner: Arc<Mutex<Inner>>, events: broadcast::Sender<Arc<Value>>) {
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        let Ok(message) = serde_json::from_str::<Value>(&text) else { continue };
        if let Some(id) = message["id"].as_u64() {
            let waiting = inner.lock().unwrap().waiting.remove(&id);
            let reply = match message.get("error") {
                Some(error) => Err(error["message"].as_str().unwrap_or("an error without words").to_owned()),
                None => Ok(message["result"].clone()),
            };
            // Whoever asked may have stopped waiting.
            let _ = waiting.map(|waiting| waiting.send(reply));
            continue;
        }
        if let (Some(session), Some(error)) = (message["sessionId"].as_str(), console_error(&message)) {
            inner.lock().unwrap().errors.entry(session.to_owned()).or_default().push(error);
        }
        let _ = events.send(Arc::new(message));
    }
    // Their senders dropped, all who wait hear of the end.
    let mut inner = inner.lock().unwrap();
    inner.ended = true;
    inner.waiting.clear();
}

/// What an event shows in the console as an error.
fn console_error(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    match event["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(exception_text(&parameters["exceptionDetails"])),
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
            let arguments = parameters["args"].as_array()?;
            let words = arguments.iter().map(|argument| match &argument["value"] {
                Value::String(text) => text.clone(),
                Value::Null => argument["description"].as_str().unwrap_or_default().to_owned(),
                value => value.to_string(),
            });
            Some(words.collect::<Vec<_>>().join(" "))
        }
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => {
            let entry = &parameters["entry"];
            Some(format!("{} {}", entry["text"].as_str()?, entry["url"].as_str().unwrap_or_default()).trim().to_owned())
        }
        _ => None,
    }
}

fn exception_text(details: &Value) -> String {
    let exception = &details["exception"];
    match (exception.get("value"), exception["description"].as_str()) {
        (Some(value), _) => format!("threw {value}"),
        (None, Some(description)) => description.to_owned(),
        (None, None) => details["text"].as_str().unwrap_or("an exception without words").to_owned(),
    }
}

/// The bytes that base64 stands for.
pub fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter(|byte| *byte != b'=');
    let digits =
        digits.map(|byte| ALPHABET.iter().position(|digit| *digit == byte).expect("base64 holds its digits only"));
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() / 4 * 3), 0, 0);
    for digit in digits {
        (held, bits) = ((held << 6 | digit) & 0xffff, bits + 6);
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}

mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const PAGE: &str = "<!doctype html><title>page</title><button onclick='clicked = event.isTrusted'>press</button>
        <input autofocus onkeydown='key = event.key'><p id=out></p>
        <script>var clicked = false, key = ''; console.error('seen', 7); setTimeout(() => { later = 'now' }, 50)</script>";

    /// Serves one page, whatever is asked for.
    async fn serve(page: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 4096];
                    let _ = socket.read(&mut request).await;
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: ";
                    let _ = socket.write_all(format!("{head}{}\r\n\r\n{page}", page.len()).as_bytes()).await;
                });
            }
        });
        format!("http://{address}/")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_is_driven_read_and_photographed_and_its_browser_leaves_nothing_behind() {
        let browser = Chromium::launch().await;
        let url = serve(PAGE).await;
        let page = browser.page(&url).await;

        assert_eq!(page.evaluate("document.title").await, "page");
        assert_eq!(page.evaluate("(async () => ({sum: 1 + 1}))()").await, json!({"sum": 2}));
        assert_eq!(page.wait_for("window.later").await, "now");
        let error = page.try_evaluate("nothing.here").await.unwrap_err();
        assert!(error.contains("nothing is not defined"), "{error}");
        let error = page.try_evaluate("Promise.reject(5)").await.unwrap_err();
        assert_eq!(error, "threw 5");

        page.click("button").await;
        assert_eq!(page.evaluate("clicked").await, true, "a click of the user, not of a script");
        page.evaluate("document.querySelector('input').focus()").await;
        page.write("hi, \u{4f60}\u{597d}").await;
        page.press("Escape").await;
        assert_eq!(
            page.evaluate("[document.querySelector('input').value, key]").await,
            json!(["hi, \u{4f60}\u{597d}", "Escape"])
        );

        page.resize(390, 844, true).await;
        page.prefer_color_scheme("dark").await;
        let size = "[innerWidth >= 390, matchMedia('(prefers-color-scheme: dark)').matches]";
        assert_eq!(page.evaluate(size).await, json!([true, true]));
        let folder = tempfile::tempdir().unwrap();
        let picture = folder.path().join("page.png");
        page.screenshot(&picture).await;
        let picture = mouthpiece::picture::png::read_rgb(&picture).unwrap();
        assert_eq!((picture.width, picture.height), (390, 844));

        assert_eq!(page.console_errors(), ["seen 7"]);
        let second = browser.page(&url).await;
        second.evaluate("fetch('data:,').then(() => { console.error('second') })").await;
        assert_eq!(second.console_errors(), ["seen 7", "second"]);
        assert_eq!(page.console_errors(), ["seen 7"], "pages do not see each other's");
        page.close().await;
        assert_eq!(second.evaluate("1").await, 1);

        let group = i32::try_from(browser.process.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        let profile = browser._profile.path().to_owned();
        drop(browser);
        assert!(second.try_evaluate("1").await.unwrap_err().contains("Runtime.evaluate"));
        assert!(!profile.exists(), "{}", profile.display());
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            // `pid (name) state parent group ...`
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
            // Empty once a process has ended, also while nobody has collected it.
            let command = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if rest.split(' ').nth(2) == Some(&group.as_raw_nonzero().to_string()) && !command.is_empty() {
                left.push(command);
            }
        }
        assert!(left.is_empty(), "{left:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    #[should_panic(expected = "waited 100ms for: window.never")]
    async fn a_condition_that_never_holds_fails_with_its_text() {
        let browser = Chromium::launch().await;
        browser.page("data:text/html,<p>still</p>").await.wait_within("window.never", Duration::from_millis(100)).await;
    }
}
