//! Avatars over HTTP: hostile files, who waits, what is told; and the real server, which makes one of a drawn face.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use mouthpiece::avatar::manifest::Kind;
use mouthpiece::ids::AvatarId;
use mouthpiece::signalling::avatar_making::{
    AvatarApi, AvatarFault, AvatarFaultCode, AvatarMaker, AvatarOrder, AvatarSummary, MadeAvatar, NotMade, Reached,
};
use mouthpiece::signalling::uploads::UploadLimits;
use reqwest::{Body, Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::avatars::home;
use crate::llm::Served;
use crate::signalling::fakes::TestServer;
use crate::watchdog;

const LEAST: &str = "licence=CC0-1.0&consent=Drawn%20by%20a%20program.";

/// Knows `demo`, and makes any other but for `faceless`; `slow` when it is told to.
#[derive(Default)]
pub struct FakeMaker {
    made: Mutex<Vec<AvatarOrder>>,
    content: Mutex<Vec<Vec<u8>>>,
    release: Notify,
    at_work: AtomicUsize,
}

pub fn summary(id: &AvatarId) -> AvatarSummary {
    AvatarSummary {
        id: id.clone(),
        name: "Somebody".to_owned(),
        kind: Kind::Photo,
        model: "portrait".to_owned(),
        width: 512,
        height: 512,
        matte: None,
        frames: 1,
        licence: None,
        preview: Some("1".to_owned()),
        usable: true,
        deletable: id.as_str() != "demo",
    }
}

/// For servers whose test is of something else.
pub fn api() -> AvatarApi {
    api_of(Arc::new(FakeMaker::default()), &std::env::temp_dir())
}

fn api_of(maker: Arc<FakeMaker>, folder: &Path) -> AvatarApi {
    AvatarApi { maker, uploads: true, limits: UploadLimits::default(), folder: folder.to_owned() }
}

impl AvatarMaker for FakeMaker {
    fn list(&self) -> BoxFuture<'_, Vec<AvatarSummary>> {
        Box::pin(async { vec![summary(&"demo".parse().unwrap())] })
    }

    fn preview(&self, id: AvatarId) -> BoxFuture<'_, Result<Vec<u8>, AvatarFault>> {
        Box::pin(async move {
            let unknown = || AvatarFault::new(AvatarFaultCode::UnknownAvatar, format!("there is no avatar \"{id}\""));
            if id.as_str() == "demo" { Ok(b"a picture".to_vec()) } else { Err(unknown()) }
        })
    }

    fn check(&self, id: AvatarId, replace: bool) -> BoxFuture<'_, Result<(), AvatarFault>> {
        Box::pin(async move {
            let there = id.as_str() == "demo" && !replace;
            if there { Err(AvatarFault::new(AvatarFaultCode::AvatarExists, "it is there already")) } else { Ok(()) }
        })
    }

    fn make(
        &self,
        source: PathBuf,
        order: AvatarOrder,
        mut reached: Box<dyn FnMut(Reached) + Send>,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<MadeAvatar, NotMade>> {
        Box::pin(async move {
            assert_eq!(self.at_work.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
            reached(Reached { stage: "finding the face", share: 0.5 });
            self.content.lock().unwrap().push(std::fs::read(&source).unwrap());
            self.made.lock().unwrap().push(order.clone());
            if order.id.as_str() == "slow" {
                stop.run_until_cancelled(self.release.notified()).await;
            }
            self.at_work.fetch_sub(1, Ordering::SeqCst);
            let found = Some(b"found".to_vec());
            if stop.is_cancelled() {
                Err(NotMade { fault: AvatarFault::new(AvatarFaultCode::Stopped, "stopped"), found: None })
            } else if order.id.as_str() == "faceless" && order.face.is_none() {
                Err(NotMade { fault: AvatarFault::new(AvatarFaultCode::NoUsableFace, "no face was found"), found })
            } else {
                Ok(MadeAvatar { avatar: summary(&order.id), found })
            }
        })
    }

    fn delete(&self, id: AvatarId) -> BoxFuture<'_, Result<(), AvatarFault>> {
        Box::pin(async move {
            match id.as_str() {
                "demo" => Err(AvatarFault::new(AvatarFaultCode::AvatarProtected, "it is shown")),
                "nobody" => Err(AvatarFault::new(AvatarFaultCode::UnknownAvatar, "there is none")),
                _ => Ok(()),
            }
        })
    }
}

struct Studio {
    server: TestServer,
    maker: Arc<FakeMaker>,
    folder: tempfile::TempDir,
}

impl Studio {
    async fn open(change: impl FnOnce(&mut AvatarApi)) -> Self {
        let (maker, folder) = (Arc::new(FakeMaker::default()), tempfile::tempdir().unwrap());
        let mut api = api_of(Arc::clone(&maker), folder.path());
        change(&mut api);
        let server = TestServer::with(|options| {
            options.avatars = api;
            // Whoever follows a job hears its end.
            options.shutdown_grace = Duration::from_secs(30);
        })
        .await;
        Self { server, maker, folder }
    }

    async fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, Value) {
        ask(&self.server.address.to_string(), method, path, body).await
    }

    async fn post(&self, query: &str, body: impl Into<Body>) -> (u16, Value) {
        self.ask(Method::POST, &format!("/avatars?{query}"), body).await
    }

    /// Nothing that was sent has a name on the disk.
    fn has_left_nothing(&self) {
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 0);
    }

    async fn close(self) {
        self.server.stop().await;
        assert_eq!(std::fs::read_dir(self.folder.path()).unwrap().count(), 0);
    }
}

async fn send(address: &str, method: Method, path: &str, body: impl Into<Body>) -> Response {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.request(method, format!("http://{address}/api{path}")).body(body).send().await.unwrap()
}

async fn ask(address: &str, method: Method, path: &str, body: impl Into<Body>) -> (u16, Value) {
    let response = send(address, method, path, body).await;
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    (status, if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() })
}

/// The events of a job until it has ended.
async fn follow(address: &str, job: &Value) -> Vec<(String, Value)> {
    let path = job["events"].as_str().unwrap().trim_start_matches("/api").to_owned();
    let text =
        watchdog::comes("the job ends", async { send(address, Method::GET, &path, "").await.text().await }).await;
    let lines: Vec<String> = text.unwrap().lines().map(str::to_owned).collect();
    let field = |line: &str, name: &str| line.strip_prefix(name).map(str::to_owned);
    let kinds = lines.iter().filter_map(|line| field(line, "event: "));
    let data = lines.iter().filter_map(|line| field(line, "data: "));
    kinds.zip(data.map(|data| serde_json::from_str(&data).unwrap())).collect()
}

/// The beginning of a photo, as far as its first bytes tell.
pub fn photo() -> Vec<u8> {
    b"\xff\xd8\xff\xe0 and so on".to_vec()
}

#[tokio::test]
async fn a_photo_becomes_an_avatar_and_is_told_of_until_it_is_there() {
    let studio = Studio::open(|_| ()).await;
    let (status, job) =
        studio.post(&format!("id=anna&name=Anna&file=a%2Fb.jpg&still=true&trim=1..2&{LEAST}"), photo()).await;
    assert_eq!((status, &job["avatar_id"]), (202, &json!("anna")), "{job}");
    let told = follow(&studio.server.address.to_string(), &job).await;
    let (kind, end) = told.last().unwrap();
    assert_eq!((kind.as_str(), &end["avatar"]["id"]), ("done", &json!("anna")), "{told:?}");
    let path = end["found"].as_str().unwrap().trim_start_matches("/api").to_owned();
    let found = send(&studio.server.address.to_string(), Method::GET, &path, "").await;
    assert_eq!((found.headers()["content-type"].to_str().unwrap(), found.status().as_u16()), ("image/png", 200));
    assert_eq!(*studio.maker.content.lock().unwrap(), [photo()]);
    {
        let made = studio.maker.made.lock().unwrap();
        assert_eq!((made[0].name.as_str(), made[0].file_name.as_str(), made[0].still), ("Anna", "b.jpg", true));
        assert_eq!(made[0].licence, "CC0-1.0");
    }
    studio.has_left_nothing();
    let (status, list) = studio.ask(Method::GET, "/avatars", "").await;
    assert_eq!((status, &list["uploads"]["allowed"]), (200, &json!(true)));
    assert_eq!(list["avatars"][0]["preview"], "/api/avatars/demo/preview.png?v=1");
    studio.close().await;
}

#[tokio::test]
async fn the_same_file_is_used_once_more_with_other_options_and_in_the_place_of_what_was_made_of_it() {
    let studio = Studio::open(|_| ()).await;
    let address = studio.server.address.to_string();
    let (_, job) = studio.post(&format!("id=faceless&{LEAST}"), photo()).await;
    let (kind, end) = follow(&address, &job).await.pop().unwrap();
    assert_eq!((kind.as_str(), &end["code"]), ("failed", &json!("no_usable_face")), "{end}");
    assert!(end["found"].as_str().unwrap().contains("found.png"), "{end}");
    let again = format!("/avatars/jobs/{}/again?id=faceless&{LEAST}&face=2", job["job"].as_str().unwrap());
    for replaces in [false, true] {
        let (status, answer) = studio.ask(Method::POST, &again, "").await;
        assert_eq!(status, 202, "{answer}");
        assert_eq!(follow(&address, &job).await.pop().unwrap().0, "done");
        assert_eq!(studio.maker.made.lock().unwrap().last().unwrap().replace, replaces);
    }
    let path = format!("/avatars/jobs/{}", job["job"].as_str().unwrap());
    assert_eq!(studio.ask(Method::GET, &path, "").await.1["state"], "done");
    assert_eq!(studio.ask(Method::DELETE, &path, "").await.0, 204);
    let (status, gone) = studio.ask(Method::POST, &again, "").await;
    assert_eq!((status, &gone["code"]), (404, &json!("unknown_job")));
    studio.close().await;
}

#[tokio::test]
async fn one_is_made_at_a_time_others_wait_and_what_is_stopped_is_forgotten() {
    let studio = Studio::open(|_| ()).await;
    let (_, slow) = studio.post(&format!("id=slow&{LEAST}"), photo()).await;
    let (_, waiting) = studio.post(&format!("id=anna&{LEAST}"), photo()).await;
    assert_eq!((&waiting["state"], &waiting["ahead"]), (&json!("waiting"), &json!(1)), "{waiting}");
    let (status, busy) = studio.post(&format!("id=slow&{LEAST}"), photo()).await;
    assert_eq!((status, &busy["code"]), (409, &json!("avatar_busy")), "{busy}");
    let path = format!("/avatars/jobs/{}", slow["job"].as_str().unwrap());
    let (status, running) = studio.ask(Method::POST, &format!("{path}/again?id=slow&{LEAST}"), "").await;
    assert_eq!((status, &running["code"]), (409, &json!("job_running")), "{running}");
    assert_eq!(studio.ask(Method::DELETE, &path, "").await.0, 204);
    assert_eq!(studio.ask(Method::GET, &path, "").await.0, 404);
    assert_eq!(follow(&studio.server.address.to_string(), &waiting).await.pop().unwrap().0, "done");
    studio.close().await;
}

#[tokio::test]
async fn more_than_some_jobs_are_refused_while_none_has_ended() {
    let studio = Studio::open(|_| ()).await;
    studio.post(&format!("id=slow&{LEAST}"), photo()).await;
    for number in 1..8 {
        assert_eq!(studio.post(&format!("id=a{number}&{LEAST}"), photo()).await.0, 202);
    }
    let (status, full) = studio.post(&format!("id=b&{LEAST}"), photo()).await;
    assert_eq!((status, &full["code"]), (503, &json!("server_full")), "{full}");
    studio.close().await;
}

#[tokio::test]
async fn hostile_files_get_one_clear_error_each_and_leave_nothing() {
    let studio = Studio::open(|api| api.limits.bytes = 100_000).await;
    let query = format!("id=anna&file=holiday.mp4&{LEAST}");
    let zip = [b"PK\x03\x04".to_vec(), vec![0; 900]].concat();
    for (body, status, code, says) in [
        (Vec::new(), 422, "unusable_file", "the file is empty"),
        (b"I am no film at all.".to_vec(), 422, "unusable_file", "text"),
        (b"<svg onload=\"alert(1)\">".to_vec(), 422, "unusable_file", "SVG"),
        (zip, 422, "unusable_file", "ZIP"),
        (vec![0xff; 200_000], 413, "file_too_large", "MB"),
    ] {
        let (got, error) = studio.post(&query, body).await;
        assert_eq!((got, &error["code"]), (status, &json!(code)), "{error}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
    }
    for (query, status, code) in [
        (format!("id=..%2F..%2Fetc&{LEAST}"), 422, "bad_message"),
        (format!("id=%00&{LEAST}"), 422, "bad_message"),
        (format!("id=demo&{LEAST}"), 409, "avatar_exists"),
        ("id=anna&consent=x".to_owned(), 422, "bad_message"),
        (format!("id=anna&{LEAST}&model=..%2Fx"), 422, "bad_message"),
    ] {
        let (got, error) = studio.post(&query, photo()).await;
        assert_eq!((got, &error["code"]), (status, &json!(code)), "{query}: {error}");
    }
    for path in
        ["/avatars/..%2f..%2fetc%2fpasswd/preview.png", "/avatars/%00/preview.png", "/avatars/nobody/preview.png"]
    {
        assert_eq!(studio.ask(Method::GET, path, "").await.0, 404, "{path}");
    }
    assert_eq!(studio.ask(Method::DELETE, "/avatars/..%2fx", "").await.0, 404);
    assert_eq!(studio.ask(Method::DELETE, "/avatars/demo", "").await.1["code"], "avatar_protected");
    assert_eq!(studio.ask(Method::GET, "/avatars/jobs/nothing", "").await.1["code"], "unknown_job");
    assert!(studio.maker.made.lock().unwrap().is_empty());
    studio.server.assert_serves().await;
    studio.close().await;
}

#[tokio::test]
async fn who_leaves_in_the_middle_or_sends_nothing_any_more_leaves_nothing() {
    let studio = Studio::open(|api| {
        api.limits.idle = Duration::from_millis(200);
        api.limits.at_once = 1;
    })
    .await;
    let head = format!(
        "POST /api/avatars?id=anna&{LEAST} HTTP/1.1\r\nHost: {}\r\nContent-Length: 90000\r\n\r\n",
        studio.server.address
    );
    let begin = async || {
        let mut stream = TcpStream::connect(studio.server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&photo()).await.unwrap();
        stream
    };
    let mut stalls = begin().await;
    let mut answer = String::new();
    watchdog::comes("the answer", stalls.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("too_slow"), "{answer}");
    drop(begin().await);
    // There is one place, which who has left gives back.
    watchdog::until("there is a place again", async || studio.post(&format!("id=b&{LEAST}"), photo()).await.0 == 202)
        .await;
    studio.close().await;
}

#[tokio::test]
async fn a_server_that_ends_stops_what_is_sent_and_made() {
    let studio = Studio::open(|_| ()).await;
    let (_, job) = studio.post(&format!("id=slow&{LEAST}"), photo()).await;
    let address = studio.server.address.to_string();
    let path = job["events"].as_str().unwrap().trim_start_matches("/api").to_owned();
    let mut events = send(&address, Method::GET, &path, "").await;
    let mut told = String::new();
    while !told.contains("finding the face") {
        let chunk = watchdog::comes("it is begun", events.chunk()).await.unwrap();
        told.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
    }
    studio.server.shutdown.cancel();
    let rest = watchdog::comes("the events end", events.text()).await.unwrap();
    assert!(!rest.contains("event: done"), "{rest}");
    let maker = Arc::clone(&studio.maker);
    studio.close().await;
    assert_eq!(maker.at_work.load(Ordering::SeqCst), 0, "it is told to stop");
}

#[tokio::test]
async fn where_uploads_are_off_nothing_is_taken_or_deleted_and_pages_of_other_origins_may_do_neither() {
    let studio = Studio::open(|api| api.uploads = false).await;
    for (method, path) in
        [(Method::POST, format!("/avatars?id=anna&{LEAST}")), (Method::DELETE, "/avatars/anna".into())]
    {
        let (status, error) = studio.ask(method, &path, photo()).await;
        assert_eq!((status, &error["code"]), (403, &json!("uploads_off")), "{error}");
    }
    assert_eq!(studio.ask(Method::GET, "/avatars", "").await.1["uploads"]["allowed"], false);
    studio.close().await;
    let studio = Studio::open(|_| ()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/api/avatars/anna", studio.server.address);
    let response = client.delete(url).header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(response.status().as_u16(), 403);
    studio.close().await;
}

/// A PNG that says it has 16384 x 16384 pixels and holds none of them.
const BOMB: &[u8] = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x40\x00\
    \x00\x00\x40\x00\x08\x02\x00\x00\x00\x26\xaa\x87\xd3\x00\x00\x00\x0c\x49\x44\x41\
    \x54\x78\x9c\x63\x60\xa0\x0c\x00\x00\x00\x40\x00\x01\xb7\x34\x7c\xef\x00\x00\x00\
    \x00\x49\x45\x4e\x44\xae\x42\x60\x82";

/// The drawn face of the demo avatar, as a photo.
fn drawn_face() -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/avatars/demo/frames/0000.png")).unwrap()
}

fn folders(home: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(home.join("models/avatars")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A home in which avatars can be made, beside the demo's.
fn studio_home() -> tempfile::TempDir {
    let home = home(&[]);
    for name in ["models/portrait", "models/face"] {
        let from: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        std::os::unix::fs::symlink(from, home.path().join(name)).unwrap();
    }
    home
}

#[tokio::test]
async fn the_server_makes_replaces_refuses_and_deletes_avatars_of_drawn_faces() {
    let home = studio_home();
    let manifest = std::fs::read_to_string(home.path().join("models/avatars/demo/avatar.toml")).unwrap();
    let lost = home.path().join("models/avatars/lost");
    std::fs::create_dir(&lost).unwrap();
    let manifest = manifest.replacen("\"demo\"", "\"lost\"", 1).replacen("model = \"demo\"", "model = \"gone\"", 1);
    std::fs::write(lost.join("avatar.toml"), manifest).unwrap();
    let served =
        Served::start_with(&["--home", home.path().to_str().unwrap()], tempfile::NamedTempFile::new().unwrap());
    let address = served.address.clone();
    let post = async |query: &str, body: Vec<u8>| {
        let (status, job) = ask(&address, Method::POST, &format!("/avatars?{query}&{LEAST}"), body).await;
        assert_eq!(status, 202, "{job}");
        let told = follow(&address, &job).await;
        (job, told)
    };
    let (job, told) = post("id=anna&name=Anna", drawn_face()).await;
    let (kind, end) = told.last().unwrap();
    assert_eq!((kind.as_str(), &end["avatar"]["kind"]), ("done", &json!("photo")), "{told:?}");
    assert!(told.iter().any(|(kind, event)| kind == "making" && event["share"].as_f64().unwrap() > 0.0), "{told:?}");
    let path = end["found"].as_str().unwrap().trim_start_matches("/api").to_owned();
    let found = send(&address, Method::GET, &path, "").await.bytes().await.unwrap();
    assert!(found.starts_with(b"\x89PNG"));
    let before = ask(&address, Method::GET, "/avatars", "").await.1["avatars"][0]["preview"].clone();
    let again = format!("/avatars/jobs/{}/again?id=anna&{LEAST}&mirror=true", job["job"].as_str().unwrap());
    assert_eq!(ask(&address, Method::POST, &again, "").await.0, 202);
    assert_eq!(follow(&address, &job).await.pop().unwrap().0, "done");
    let list = ask(&address, Method::GET, "/avatars", "").await.1;
    assert_eq!(list["avatars"][0]["id"], "anna");
    assert_ne!(list["avatars"][0]["preview"], before, "a browser fetches the new picture");
    assert_eq!((&list["avatars"][1]["id"], &list["avatars"][1]["deletable"]), (&json!("demo"), &json!(false)));
    let usable = |at: usize| (list["avatars"][at]["id"].clone(), list["avatars"][at]["usable"].clone());
    assert_eq!((usable(1), usable(2)), ((json!("demo"), json!(true)), (json!("lost"), json!(false))), "{list}");

    let blank = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/avatars/demo/mask.png")).unwrap();
    let truncated = drawn_face()[..3_000].to_vec();
    for (file, content, code) in [
        ("mask.png", blank, "no_usable_face"),
        ("half.png", truncated, "unusable_file"),
        ("bomb.png", BOMB.to_vec(), "unusable_file"),
    ] {
        let (_, told) = post(&format!("id=bad&file={file}"), content).await;
        let (kind, end) = told.last().unwrap();
        assert_eq!((kind.as_str(), &end["code"]), ("failed", &json!(code)), "{end}");
        let message = end["message"].as_str().unwrap();
        assert!(message.starts_with(file) && !message.contains("/proc") && !message.contains("/tmp"), "{message}");
    }
    assert_eq!(folders(home.path()), ["anna", "demo", "lost"]);
    assert_eq!(ask(&address, Method::DELETE, "/avatars/demo", "").await.0, 409);
    assert_eq!(ask(&address, Method::DELETE, "/avatars/anna", "").await.0, 204);
    assert_eq!(folders(home.path()), ["demo", "lost"]);
}
