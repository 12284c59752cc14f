//! Conversations with a language model: the real server, and a model's endpoint in a process of its own that streams,
//! and fails in every way that one can fail.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::watchdog;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");
pub(crate) const KEY: &str = "my-own-secret-key";

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

/// What the server asks, as a process of its own.
pub(crate) struct Service {
    _process: Process,
    pub(crate) port: u16,
}

pub(crate) struct Model;

impl Model {
    /// On any free port if it is 0; tokens come at once, or at stated times.
    pub(crate) fn start(port: u16, times: &[&str]) -> Service {
        Service::start("llm_server.py", &[&[port.to_string().as_str()], times].concat())
    }
}

impl Service {
    /// A script beside this file, which prints its port and tells of its requests.
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .arg(format!("{PROJECT}/tests/it/{script}"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let line = first_line(&mut child);
        Self { port: line.parse().unwrap(), _process: Process(child) }
    }

    /// Waits for a request of which this is true.
    pub(crate) async fn wait_for(&self, is_so: impl Fn(&Value) -> bool) {
        self.wait_until(|requests| requests.iter().any(&is_so)).await;
    }

    /// Waits until this is true of its requests.
    pub(crate) async fn wait_until(&self, is_so: impl Fn(&[Value]) -> bool) {
        watchdog::until("the requests", async || is_so(&self.requests().await)).await;
    }

    pub(crate) async fn requests(&self) -> Vec<Value> {
        serde_json::from_value(self.tells("requests").await).unwrap()
    }

    pub(crate) async fn tells(&self, of: &str) -> Value {
        let url = format!("http://127.0.0.1:{}/{of}", self.port);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let body = client.get(url).send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }
}

pub(crate) struct Served {
    _process: Process,
    pub(crate) address: String,
    log: tempfile::NamedTempFile,
    _settings: tempfile::NamedTempFile,
}

impl Served {
    fn start(port: u16) -> Self {
        let settings = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "[llm]\nurl = \"http://127.0.0.1:{port}/v1\"\nmodel = \"file-model\"\nfirst_token_s = 5.0\nnext_token_s = 5.0\n"
        );
        std::fs::write(settings.path(), text).unwrap();
        let path = settings.path().display().to_string();
        Self::start_with(&["--config", &path, "--llm-model", "typed-model"], settings)
    }

    pub(crate) fn start_with(arguments: &[&str], settings: tempfile::NamedTempFile) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_mouthpiece"))
            .current_dir(PROJECT)
            .env_remove("MOUTHPIECE_HOME")
            .env("RUST_LOG", "info,mouthpiece=trace,hyper=debug,reqwest=debug")
            .env("MOUTHPIECE_LLM_KEY", KEY)
            .env("MOUTHPIECE_TTS_KEY", KEY)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let line = first_line(&mut child);
        let address = line.rsplit_once("http://").unwrap_or_else(|| panic!("no address in {line:?}")).1.to_owned();
        Self { _process: Process(child), address, log, _settings: settings }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    pub(crate) async fn client_of(&self, session: &str) -> Client {
        let (socket, _) = connect_async(format!("ws://{}/ws?session={session}", self.address)).await.unwrap();
        Client { socket, seen: Vec::new() }
    }

    pub(crate) async fn client(&self) -> Client {
        let (socket, _) = connect_async(format!("ws://{}/ws", self.address)).await.unwrap();
        Client { socket, seen: Vec::new() }
    }
}

pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    seen: Vec<Value>,
}

impl Client {
    async fn says(&mut self, content: &str) {
        self.send(json!({"type": "text", "content": content, "id": content})).await;
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// So many samples of a voice of its own.
    pub(crate) async fn sends_sound(&mut self, samples: usize) {
        let tone = (0..samples).flat_map(|at| (8_000 * (1 - 2 * (at as i16 / 40 % 2))).to_le_bytes());
        self.socket.send(Message::binary(tone.collect::<Vec<u8>>())).await.unwrap();
    }

    /// Everything from here to the first message that fits, which is the last.
    pub(crate) async fn until(&mut self, fits: impl Fn(&Value) -> bool) -> Vec<Value> {
        let from = self.seen.len();
        let found = async {
            while !self.seen[from..].last().is_some_and(&fits) {
                let message = self.socket.next().await.expect("the session lives").unwrap();
                if let Message::Text(text) = message {
                    self.seen.push(serde_json::from_str(&text).unwrap());
                }
            }
        };
        watchdog::guarded(found).await.unwrap_or_else(|_| panic!("seen: {:#?}", &self.seen[from..]));
        self.seen[from..].to_vec()
    }

    pub(crate) async fn until_type(&mut self, kind: &str) -> Vec<Value> {
        self.until(|message| message["type"] == kind).await
    }

    /// Waits until a whole sentence has been heard.
    async fn until_second_sentence(&mut self) {
        self.until(|message| message["type"] == "caption" && message["sentence"] == 1).await;
    }

    /// A turn that goes well, cut short once it is heard.
    async fn is_answered(&mut self, content: &str) {
        self.says(content).await;
        let seen = self.until(|message| message["type"] == "speech_started" && message["id"] == content).await;
        assert!(of_type(&seen, "error").is_empty(), "{seen:#?}");
        assert!(text(&seen, content).starts_with("You said"), "{seen:#?}");
        self.send(json!({"type": "interrupt"})).await;
        self.until_type("speech_ended").await;
    }
}

fn of_type<'a>(messages: &'a [Value], kind: &str) -> Vec<&'a Value> {
    messages.iter().filter(|message| message["type"] == kind).collect()
}

/// The text that was shown for a turn.
fn text(messages: &[Value], id: &str) -> String {
    let texts = messages.iter().filter(|message| message["type"] == "text" && message["id"] == id);
    texts.map(|message| message["content"].as_str().unwrap()).collect()
}

fn contents(request: &Value) -> Vec<String> {
    let messages = request["asked"]["messages"].as_array().unwrap().iter();
    messages
        .map(|message| format!("{}: {}", message["role"].as_str().unwrap(), message["content"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_reply_is_shown_while_it_is_written_and_spoken_and_remembered() {
    let model = Model::start(0, &["50", "100"]);
    let served = Served::start(model.port);
    let mut client = served.client().await;
    client.says("something, my dear friend, and nothing else").await;
    let seen = client.until_type("speech_ended").await;
    let reply = "You said something, my dear friend, and nothing else.";
    let texts = of_type(&seen, "text");
    assert!(texts.len() > 3, "it streams: {seen:#?}");
    assert_eq!(texts.iter().filter(|text| text["final"] == true).count(), 1);
    assert_eq!(texts.iter().map(|text| text["content"].as_str().unwrap()).collect::<String>(), reply);
    let ended = seen.last().unwrap();
    assert_eq!((&ended["interrupted"], &ended["text_spoken"]), (&json!(false), &json!(reply)));
    client.says("think").await;
    let seen = client.until_type("speech_ended").await;
    assert_eq!(text(&seen, "think"), "Thinking is done.");
    client.says("whole").await;
    assert_eq!(text(&client.until_type("speech_ended").await, "whole"), "A whole answer.");

    let requests = model.requests().await;
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0]["path"], "/v1/chat/completions");
    assert_eq!(requests[0]["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        (&requests[0]["asked"]["model"], &requests[0]["asked"]["stream"]),
        (&json!("typed-model"), &json!(true))
    );
    let last = contents(&requests[2]);
    assert!(last[0].starts_with("system: You are Mika"), "{last:?}");
    let said = ["user: something, my dear friend, and nothing else", &format!("assistant: {reply}"), "user: think"];
    assert_eq!(last[1..4], said);
    assert_eq!(last[4..], ["assistant: Thinking is done.", "user: whole"]);
    assert!(!served.log().contains(KEY), "the key is in the log");
}

#[tokio::test]
async fn an_interruption_closes_the_connection_and_the_history_keeps_what_was_heard() {
    let model = Model::start(0, &["0", "50"]);
    let served = Served::start(model.port);
    let mut client = served.client().await;
    client.says("count").await;
    client.until_second_sentence().await;
    client.send(json!({"type": "interrupt"})).await;
    client.says("the next one").await;
    let seen = client.until(|message| message["type"] == "speech_ended" && message["id"] == "count").await;
    let ended = seen.last().unwrap();
    assert_eq!(ended["interrupted"], true);
    let heard = ended["text_spoken"].as_str().unwrap().to_owned();
    client.until(|message| message["type"] == "speech_started" && message["id"] == "the next one").await;
    let of_count = |request: &Value| contents(request).last().is_some_and(|last| last == "user: count");
    model.wait_for(|request| of_count(request) && !request["closed_at"].is_null()).await;
    let requests = model.requests().await;
    assert!(heard.starts_with("This is the"), "{heard}");
    let expected = ["user: count", &format!("assistant: {heard}"), "user: the next one"];
    assert_eq!(contents(&requests[1])[1..], expected);
}

#[tokio::test]
async fn a_new_text_stops_the_answer_before_it_and_whatever_still_waits() {
    let model = Model::start(0, &["0", "50"]);
    let served = Served::start(model.port);
    let mut client = served.client().await;
    client.says("count").await;
    client.until_second_sentence().await;
    for content in ["no", "wait", "the next one"] {
        client.says(content).await;
    }
    let seen = client.until(|message| message["type"] == "speech_started" && message["id"] == "the next one").await;
    // Each ends in one message of its own, those too of which nothing was heard.
    let end_of = |id: &str| {
        let ends: Vec<&Value> = of_type(&seen, "speech_ended").into_iter().filter(|end| end["id"] == id).collect();
        assert_eq!((ends.len(), &ends[0]["interrupted"]), (1, &json!(true)), "{id}: {seen:#?}");
        ends[0]["text_spoken"].as_str().unwrap()
    };
    let (heard, unheard) = (end_of("count"), [end_of("no"), end_of("wait")]);
    assert_eq!(unheard, ["", ""]);
    model.wait_for(|request| !request["closed_at"].is_null()).await;
    let requests = model.requests().await;
    // What was said and not answered is still known.
    let expected = ["user: count", &format!("assistant: {heard}"), "user: no\nwait\nthe next one"];
    assert_eq!(contents(requests.last().unwrap())[1..], expected);
}

#[tokio::test]
async fn an_interruption_before_the_first_word_closes_the_connection() {
    let model = Model::start(0, &[]);
    let served = Served::start(model.port);
    let mut client = served.client().await;
    client.says("hang").await;
    model.wait_for(|_| true).await;
    client.send(json!({"type": "interrupt"})).await;
    client.is_answered("the next one").await;
    model
        .wait_for(|request| request["asked"]["messages"][1]["content"] == "hang" && !request["closed_at"].is_null())
        .await;
}

/// Each is one error with a clear message, after which the same session answers.
#[tokio::test]
async fn every_fault_of_a_model_is_one_error_and_the_next_turn_works() {
    let model = Model::start(0, &[]);
    let served = Served::start(model.port);
    let mut client = served.client().await;
    for (fault, code, words) in [
        ("fail 401", "llm_failed", "401 Unauthorized: Incorrect API key provided: ***."),
        ("fail 404", "llm_failed", "404 Not Found: It is a 404."),
        ("fail 429", "llm_rate_limited", "again in 7 s: Rate limit reached for requests."),
        ("fail 500", "llm_failed", "500 Internal Server Error: It is a 500."),
        ("fail 302", "llm_failed", "302 Found"),
        ("hang", "llm_failed", "did not begin to answer within 5 s"),
        ("stall", "llm_failed", "did not go on with its answer within 5 s"),
        ("break", "llm_failed", "broke off: CUDA out of memory"),
        ("llama", "llm_failed", "broke off: context is full"),
        ("cut", "llm_failed", "cut short"),
        ("drop", "llm_failed", "the connection broke"),
        ("flood", "llm_failed", "a line of more than 262144 bytes"),
        ("tools", "llm_failed", "without a word that can be said (tool_calls)"),
    ] {
        client.says(fault).await;
        let seen = client.until_type("error").await;
        let error = seen.last().unwrap();
        assert_eq!((&error["code"], &error["fatal"]), (&json!(code), &json!(false)), "{fault}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words) && message.len() < 500, "{fault}: {message}");
        // It is the end of the turn, and says how much of it was heard.
        assert_eq!((&error["id"], error["utterance_id"].is_string()), (&json!(fault), true), "{error}");
        let begun = ["stall", "break", "llama", "cut", "drop", "flood"].contains(&fault);
        assert_eq!(error["text_spoken"], if begun { "So far so good." } else { "" }, "{error}");
        assert_eq!((error["spoken_ms"] != 0, of_type(&seen, "speech_ended").len()), (begun, 0), "{seen:#?}");
        client.is_answered(&format!("good morning after {fault}")).await;
    }
    let log = served.log();
    assert!(!log.contains(KEY) && !format!("{:?}", client.seen).contains(KEY), "the key is told");
}

#[tokio::test]
async fn a_model_that_is_not_there_is_an_error_and_answers_once_it_is() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let served = Served::start(free);
    let mut client = served.client().await;
    client.says("hello").await;
    let seen = client.until_type("error").await;
    assert_eq!(seen.last().unwrap()["code"], "llm_failed");
    assert!(seen.last().unwrap()["message"].as_str().unwrap().contains("cannot be reached: "), "{seen:#?}");
    let _model = Model::start(free, &[]);
    client.is_answered("are you there").await;
}

#[tokio::test]
async fn without_a_model_rules_answer_and_the_log_says_so_once() {
    let served = Served::start_with(&[], tempfile::NamedTempFile::new().unwrap());
    for _ in 0..2 {
        let mut client = served.client().await;
        client.says("What is your name?").await;
        let seen = client.until_type("speech_ended").await;
        assert!(text(&seen, "What is your name?").starts_with("I am Mika."), "{seen:#?}");
    }
    assert_eq!(served.log().matches("no language model is set").count(), 1);
}
