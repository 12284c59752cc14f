//! What is heard of a language model's reply: the real client, and whole HTTP replies, most of them from public bug reports,
//! sent by a server that only plays bytes.

use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use mouthpiece::dialogue::llm::Settings;
use mouthpiece::dialogue::{Dialogues, Message, Persona, Role};
use mouthpiece::endpoint::Key;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::watchdog;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llm");
const KEY: &str = "my-own-secret-key";

/// Plays the next of its replies to each connection.
struct Player {
    address: String,
    /// The heads of the requests.
    asked: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Played {
    bytes: Vec<u8>,
    piece: usize,
    /// The connection stays open and says nothing more.
    hangs: bool,
}

impl Player {
    async fn start(replies: Vec<Played>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        tokio::spawn(async move {
            for played in replies {
                let (mut socket, _) = listener.accept().await.unwrap();
                let head = request(&mut socket).await;
                heads.lock().unwrap().push(head);
                tokio::spawn(async move {
                    socket.set_nodelay(true).unwrap();
                    for piece in played.bytes.chunks(played.piece) {
                        // Who has heard the end closes.
                        if socket.write_all(piece).await.is_err() {
                            return;
                        }
                    }
                    while played.hangs && socket.read(&mut [0; 16]).await.is_ok_and(|read| read > 0) {}
                });
            }
        });
        Self { address, asked }
    }

    async fn of(bytes: &[u8]) -> Self {
        Self::start(vec![Played { bytes: bytes.to_vec(), piece: usize::MAX, hangs: false }]).await
    }
}

/// The head of a request, after its body has come too.
async fn request(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return head.to_owned();
            }
        }
        assert!(socket.read_buf(&mut bytes).await.unwrap() > 0, "a whole request");
    }
}

fn settings(url: String) -> Settings {
    Settings {
        url,
        model: "m".to_owned(),
        key: Some(Key::new(KEY)),
        history_tokens: 100,
        connect: watchdog::LIMIT,
        first_token: watchdog::LIMIT,
        next_token: watchdog::LIMIT,
        begins_thinking: false,
    }
}

/// What is heard, and how it ends.
async fn heard(settings: Settings) -> (String, Option<String>) {
    let dialogues = Dialogues::new(Some(settings)).unwrap();
    let (responder, _) = dialogues.of("Mika", &Persona::default(), "en");
    let mut reply = responder.reply(vec![Message { role: Role::User, content: "When does it open?".to_owned() }]);
    let mut text = String::new();
    while let Some(piece) = reply.next().await {
        match piece {
            Ok(piece) => text.push_str(&piece),
            Err(error) => return (text, Some(error.to_string())),
        }
    }
    (text, None)
}

fn streamed(events: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n{events}").into_bytes()
}

/// An event with this choice.
fn choice(choice: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,{choice}}}]}}\n\n")
}

fn says(text: &str) -> String {
    choice(&format!("\"delta\":{{\"content\":{}}},\"finish_reason\":null", serde_json::json!(text)))
}

const NINE: &str = "The museum opens at nine.";
const BOTH: &str = "The museum opens at nine. It closes at five.";

#[tokio::test]
async fn replies_from_bug_reports_are_heard_as_they_were_meant() {
    let mut names: Vec<String> = std::fs::read_dir(FIXTURES)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap().trim_end_matches(".http").to_owned())
        .collect();
    names.sort();
    let table = [
        ("bad_comment", BOTH, None),
        ("camel_finish", BOTH, None),
        ("cr_only", BOTH, None),
        ("eos_token", NINE, None),
        ("event_error", "The museum opens ", Some("the language model broke off: upstream overloaded")),
        ("finish_on_reasoning", BOTH, None),
        ("harmony", NINE, None),
        ("im_end_loop", NINE, None),
        ("kimi", NINE, None),
        ("magistral", NINE, None),
        ("magistral_array", NINE, None),
        ("multi_data", BOTH, None),
        ("no_finish_no_done", BOTH, None),
        ("oneapi_error_field", NINE, None),
        ("refusal", "I cannot help with that.", None),
        ("think_close_only", NINE, None),
        ("tool_call", "Let me look that up.\n", None),
        ("utf8_bad_mid", "The museum opens at nine. It closes at five  on weekdays.", None),
    ];
    assert_eq!(table.map(|(name, ..)| name), *names, "each reply is in the table");
    for (name, expected, problem) in table {
        let bytes = std::fs::read(format!("{FIXTURES}/{name}.http")).unwrap();
        for piece in [usize::MAX, 1, 7] {
            let player = Player::start(vec![Played { bytes: bytes.clone(), piece, hangs: false }]).await;
            let mut settings = settings(format!("http://{}/v1", player.address));
            settings.begins_thinking = name == "think_close_only";
            let (text, error) = heard(settings).await;
            assert_eq!((text.as_str(), error.as_deref()), (expected, problem), "{name} in pieces of {piece}");
        }
    }
}

#[tokio::test]
async fn an_answer_ends_where_the_server_shows_that_it_does() {
    let stop = choice("\"delta\":{},\"finish_reason\":\"stop\"");
    let think = choice("\"delta\":{\"reasoning_content\":\"hm\"},\"finish_reason\":\"stop\"");
    let early = choice("\"delta\":{\"content\":\"The museum \"},\"finish_reason\":\"stop\"");
    let usage = "data: {\"choices\":[],\"usage\":{\"total_tokens\":9}}\n\n";
    for (name, events, hangs, expected, problem) in [
        ("silence after the reason", says(NINE) + &stop, true, NINE, None),
        ("silence after a count", says(NINE) + &stop + usage, true, NINE, None),
        ("silence after one newline", says(NINE) + stop.trim_end() + "\n", true, NINE, None),
        ("the end mark", says(NINE) + "data: [DONE]\n\n", true, NINE, None),
        ("a turn's end in the text", says(NINE) + &says("<|im_end|>"), true, NINE, None),
        ("text after the reason", early.clone() + &says("opens at nine.") + usage, false, NINE, None),
        (
            "a reason as a word",
            choice("\"delta\":{\"content\":\"The \"},\"finish_reason\":\"null\"") + &says("museum."),
            false,
            "The museum.",
            None,
        ),
        ("thoughts only", think.clone(), false, "", Some("without a word that can be said (stop)")),
        (
            "a thought that is cut short",
            says("<think>hm") + &choice("\"delta\":{},\"finish_reason\":\"length\""),
            false,
            "",
            Some("its thoughts did not end (length)"),
        ),
        (
            "a reason that is an error",
            says("The ") + &choice("\"delta\":{},\"finish_reason\":\"error\""),
            false,
            "The ",
            Some("broke off"),
        ),
        ("a chunk that is cut short", says("The ") + "data: {\"choices\":[{\"de", false, "The ", Some("cut short")),
        ("half a chunk after the reason", says(NINE) + &stop + "data: {\"us", false, NINE, None),
        ("nothing", String::new(), false, "", Some("cannot be read: nothing came")),
        ("a page", "<html>Sign in</html>".to_owned(), false, "", Some("no stream of events but text/event-stream")),
    ] {
        let player = Player::start(vec![Played { bytes: streamed(&events), piece: usize::MAX, hangs }]).await;
        let (text, error) = heard(settings(format!("http://{}/v1", player.address))).await;
        assert_eq!(text, expected, "{name}");
        assert_eq!(error.is_some(), problem.is_some(), "{name}: {error:?}");
        assert!(error.unwrap_or_default().contains(problem.unwrap_or_default()), "{name}");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_reason_has_told_all() {
    let whole = says(NINE) + &choice("\"delta\":{},\"finish_reason\":\"stop\"");
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n";
    let player = Player::of(format!("{head}{whole}").as_bytes()).await;
    let (text, error) = heard(settings(format!("http://{}/v1", player.address))).await;
    assert_eq!((text.as_str(), error), (NINE, None));
    let player = Player::of(format!("{head}{}", says(NINE)).as_bytes()).await;
    let (text, error) = heard(settings(format!("http://{}/v1", player.address))).await;
    assert_eq!(text, NINE);
    assert!(error.unwrap().contains("the connection broke"));
}

#[tokio::test]
async fn a_provider_s_words_are_told_wherever_they_stand() {
    for events in [
        "event: error\ndata: upstream overloaded\n\n".to_owned(),
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"upstream overloaded\"}}\n\n"
            .to_owned(),
        "error: {\"code\":500,\"message\":\"upstream overloaded\"}\n\n".to_owned(),
        "data: {\"error\":\"upstream overloaded\"}\n\n".to_owned(),
        "data: {\"error\":{\"message\":\"upstream overloaded\"},\"choices\":[]}\n\n".to_owned(),
        "data: {\"code\":529,\"message\":\"upstream overloaded\"}\n\n".to_owned(),
        "{\n  \"error\": {\n    \"message\": \"upstream overloaded\"\n  }\n}\n".to_owned(),
        "[{\n  \"error\": {\n    \"message\": \"upstream overloaded\"\n  }\n}]".to_owned(),
    ] {
        let player = Player::of(&streamed(&(says("The ") + &events))).await;
        let (text, error) = heard(settings(format!("http://{}/v1", player.address))).await;
        let expected = Some("the language model broke off: upstream overloaded".to_owned());
        assert_eq!((text.as_str(), error), ("The ", expected), "{events}");
    }
}

#[tokio::test]
async fn a_whole_answer_begins_after_its_thoughts_even_where_only_their_end_is_marked() {
    let body =
        r#"{"choices":[{"message":{"content":"I should say nine.\n</think>\n\nNine."},"finish_reason":"stop"}]}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let player = Player::of((head + body).as_bytes()).await;
    let (text, error) = heard(settings(format!("http://{}/v1", player.address))).await;
    assert_eq!((text.as_str(), error), ("Nine.", None));
}

#[tokio::test]
async fn addresses_of_azure_keep_their_version_and_get_the_key_as_azure_wants_it() {
    let player = Player::of(&streamed(&says(NINE))).await;
    let url = format!("http://{}/openai/deployments/d?api-version=2024-10-21", player.address);
    let (text, error) = heard(settings(url)).await;
    assert_eq!((text.as_str(), error), (NINE, None));
    let head = player.asked.lock().unwrap()[0].clone();
    let line = "POST /openai/deployments/d/chat/completions?api-version=2024-10-21 HTTP/1.1";
    assert_eq!(head.lines().next(), Some(line));
    assert!(
        head.contains(&format!("api-key: {KEY}")) && head.contains(&format!("authorization: Bearer {KEY}")),
        "{head}"
    );
}

#[tokio::test]
async fn without_a_path_the_endpoint_is_looked_for_below_v1_and_then_at_the_root() {
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec();
    let played = |bytes: Vec<u8>| Played { bytes, piece: usize::MAX, hangs: false };
    let good = played(streamed(&says(NINE)));
    let player =
        Player::start(vec![played(missing.clone()), good.clone(), good, played(missing.clone()), played(missing)])
            .await;
    let dialogues = Dialogues::new(Some(settings(format!("http://{}", player.address)))).unwrap();
    let (responder, _) = dialogues.of("Mika", &Persona::default(), "en");
    let mut ends = Vec::new();
    for _ in 0..2 {
        let asked = vec![Message { role: Role::User, content: "When?".to_owned() }];
        ends.push(responder.reply(asked).collect::<Vec<_>>().await.pop().unwrap().unwrap());
    }
    assert_eq!(ends, [NINE, NINE]);
    let (text, error) = heard(settings(format!("http://{}/", player.address))).await;
    assert!(text.is_empty() && error.unwrap().contains("404 Not Found"));
    let asked = player.asked.lock().unwrap().clone();
    let paths: Vec<&str> = asked.iter().map(|head| head.split(' ').nth(1).unwrap()).collect();
    let (below, root) = ("/v1/chat/completions", "/chat/completions");
    assert_eq!(paths, [below, root, root, below, root]);
}
