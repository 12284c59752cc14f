//! Files from a hub that cuts, refuses and lies; and a whole model fetched, converted and checked.

use std::path::Path;
use std::time::Duration;

use mouthpiece::models::catalog::Download;
use mouthpiece::models::fetch::{FetchError, Hub, Patience, Planned, Settings, fetch, plan};
use serde_json::{Value, json};

use crate::hub::{Act, HubServer};
use crate::models::{Upstream, fails, models, succeeds};
use crate::parity::fixture;
use crate::watchdog;

const FILES: [Download; 2] = [
    Download { repo: "them/model", file: "config.json", to: "net/config.json" },
    Download { repo: "them/model", file: "weights.bin", to: "net/weights.bin" },
];

fn weights() -> Vec<u8> {
    (0..200_000_u32).map(|index| (index * 7 + index / 251) as u8).collect()
}

/// A hub with one small and one large file, and the folder that they are fetched to.
struct Scene {
    server: HubServer,
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let server = HubServer::start();
        server.add("them/model", "config.json", b"{}");
        server.add("them/model", "weights.bin", &weights());
        Self { server, folder: tempfile::tempdir().unwrap() }
    }

    /// Waits for ever for what comes slowly, so that only what is asked for goes wrong.
    fn hub(&self, attempts: u32, token: Option<&str>) -> Hub {
        self.hub_that_waits(watchdog::LIMIT, attempts, token)
    }

    fn hub_that_waits(&self, stall: Duration, attempts: u32, token: Option<&str>) -> Hub {
        let patience = Patience { attempts, first_wait: Duration::ZERO, stall };
        let token = token.map(str::to_owned);
        Hub::new(Settings { endpoint: self.server.endpoint.clone(), token, patience }).unwrap()
    }

    async fn plan(&self) -> Vec<Planned> {
        plan(&self.hub(3, None), &FILES).await.unwrap()
    }

    async fn fetch(&self, attempts: u32) -> Result<(), FetchError> {
        fetch(&self.hub(attempts, None), &self.plan().await, self.folder.path(), 0, &mut |_| ()).await
    }

    /// The error of a fetch with these acts ahead of the large file.
    async fn error(&self, acts: &[Act]) -> FetchError {
        self.server.next("weights.bin", acts);
        self.fetch(2).await.unwrap_err()
    }

    /// Ranges that were asked for of the large file.
    fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.server.requests().into_iter();
        requests.filter(|request| request.path.ends_with("weights.bin")).map(|request| request.range).collect()
    }

    #[track_caller]
    fn is_whole(&self) {
        let folder = self.folder.path().join("net");
        assert_eq!(std::fs::read(folder.join("config.json")).unwrap(), b"{}");
        assert!(std::fs::read(folder.join("weights.bin")).unwrap() == weights());
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2, "something stayed behind");
    }
}

#[tokio::test]
async fn files_are_fetched_once_and_not_again() {
    let scene = Scene::new();
    let mut seen = Vec::new();
    let planned = scene.plan().await;
    assert_eq!(planned.iter().map(|file| file.bytes).collect::<Vec<_>>(), [2, 200_000]);
    assert!(planned.iter().all(|file| file.licence == "mit"));
    let mut watch = |progress: mouthpiece::models::fetch::Progress<'_>| seen.push((progress.bytes, progress.of));
    fetch(&scene.hub(1, None), &planned, scene.folder.path(), 0, &mut watch).await.unwrap();
    scene.is_whole();
    assert_eq!((seen.first(), seen.last()), (Some(&(0, 2)), Some(&(200_000, 200_000))));
    let before = scene.server.requests().len();
    scene.fetch(1).await.unwrap();
    assert_eq!(scene.server.requests().len(), before);
}

#[tokio::test]
async fn a_cut_is_gone_on_from_where_it_was() {
    let scene = Scene::new();
    scene.server.next("weights.bin", &[Act::Cut(50_000), Act::Cut(60_000)]);
    scene.fetch(2).await.unwrap();
    scene.is_whole();
    let ranges: Vec<_> = scene.ranges().into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(ranges, ["", "bytes=50000-", "bytes=110000-"]);
}

#[tokio::test]
async fn a_server_that_stops_sending_is_asked_for_the_rest() {
    let scene = Scene::new();
    let planned = scene.plan().await;
    scene.server.next("weights.bin", &[Act::Cut(50_000), Act::Stall(10_000)]);
    let hub = scene.hub_that_waits(Duration::from_secs(2), 2, None);
    fetch(&hub, &planned, scene.folder.path(), 0, &mut |_| ()).await.unwrap();
    scene.is_whole();
    let ranges: Vec<_> = scene.ranges().into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(ranges, ["", "bytes=50000-", "bytes=60000-"]);
}

#[tokio::test]
async fn another_run_goes_on_with_what_the_last_one_left() {
    let scene = Scene::new();
    let error = scene.error(&[Act::Cut(150_000), Act::Cut(0), Act::Cut(0)]).await;
    assert!(matches!(error, FetchError::Interrupted { .. }), "{error}");
    scene.fetch(1).await.unwrap();
    scene.is_whole();
    assert_eq!(scene.ranges().last().unwrap().as_deref(), Some("bytes=150000-"));
}

#[tokio::test]
async fn a_server_that_ignores_ranges_begins_again() {
    let scene = Scene::new();
    scene.server.next("weights.bin", &[Act::Cut(50_000), Act::IgnoreRange]);
    scene.fetch(2).await.unwrap();
    scene.is_whole();
}

#[tokio::test]
async fn a_server_that_sends_nothing_is_given_up() {
    let error = Scene::new().error(&[Act::Cut(0), Act::Cut(0)]).await.to_string();
    assert!(error.contains("weights.bin") && error.contains("2 times in a row"), "{error}");
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    let scene = Scene::new();
    for status in [401, 403] {
        let error = scene.error(&[Act::Status(status)]).await.to_string();
        assert!(error.contains("weights.bin") && error.contains("HF_TOKEN"), "{error}");
    }
    let error = scene.error(&[Act::Status(404)]).await.to_string();
    assert!(error.contains("weights.bin") && error.contains("404"), "{error}");
    let absent = [Download { repo: "them/model", file: "absent.bin", to: "absent.bin" }];
    let error = plan(&scene.hub(1, None), &absent).await.unwrap_err().to_string();
    assert!(error.contains("absent.bin does not exist"), "{error}");
    let absent = [Download { repo: "them/none", file: "absent.bin", to: "absent.bin" }];
    assert!(matches!(plan(&scene.hub(1, None), &absent).await, Err(FetchError::NotFound { .. })));
    // Once there is a token, it goes along, but not to where the hub sends us.
    let elsewhere = HubServer::start();
    elsewhere.add("them/model", "weights.bin", &weights());
    let there = format!("{}/them/model/resolve/{}/weights.bin", elsewhere.endpoint, crate::hub::COMMIT);
    scene.server.next("weights.bin", &[Act::Redirect(there)]);
    fetch(&scene.hub(1, Some("secret")), &scene.plan().await, scene.folder.path(), 0, &mut |_| ()).await.unwrap();
    scene.is_whole();
    assert_eq!(scene.server.requests().last().unwrap().authorization.as_deref(), Some("Bearer secret"));
    assert_eq!(elsewhere.requests().last().unwrap().authorization, None);
}

#[tokio::test]
async fn a_busy_server_is_asked_again_but_not_for_ever() {
    let scene = Scene::new();
    scene.server.next("blobs=true", &[Act::Status(429), Act::Status(503)]);
    scene.server.next("weights.bin", &[Act::Status(429), Act::Cut(90_000), Act::Status(503)]);
    scene.fetch(3).await.unwrap();
    scene.is_whole();
    let error = Scene::new().error(&[Act::Status(429), Act::Status(429)]).await;
    assert!(matches!(error, FetchError::Busy { status: 429, attempts: 2, .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_lies_about_lengths_is_caught() {
    for act in [Act::Announce(300_000), Act::Announce(100), Act::Append(vec![0; 5])] {
        let scene = Scene::new();
        let error = scene.error(std::slice::from_ref(&act)).await;
        assert!(matches!(error, FetchError::Length { wanted: 200_000, .. }), "{act:?}: {error}");
        assert!(!scene.folder.path().join("net/weights.bin").exists(), "{act:?}");
        scene.fetch(1).await.unwrap();
        scene.is_whole();
    }
    let error = Scene::new().error(&[Act::Cut(50_000), Act::WrongRange]).await.to_string();
    assert!(error.contains("was asked for bytes from 50000 on"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_another_is_removed_and_fetched_anew() {
    let scene = Scene::new();
    let error = scene.error(&[Act::Corrupt]).await;
    assert!(matches!(error, FetchError::Checksum { .. }), "{error}");
    scene.fetch(1).await.unwrap();
    scene.is_whole();
    // One that was there before is no better.
    std::fs::write(scene.folder.path().join("net/config.json"), "[]").unwrap();
    scene.fetch(1).await.unwrap();
    scene.is_whole();
}

#[tokio::test]
async fn a_disk_that_is_too_small_is_noticed_before() {
    let scene = Scene::new();
    scene.server.list_as("weights.bin", 1 << 60);
    let error = scene.fetch(1).await.unwrap_err();
    assert!(matches!(error, FetchError::Disk { .. }), "{error}");
    assert!(scene.server.requests().is_empty());
}

/// A hub with the small networks under the published names.
fn published(upstream: &Upstream) -> HubServer {
    let server = HubServer::start();
    let add = |repo: &str, file: &str, from: &Path| server.add(repo, file, &std::fs::read(from).unwrap());
    let from = upstream.from.path();
    for file in ["musetalkV15/musetalk.json", "musetalkV15/unet.pth"] {
        add("TMElyralab/MuseTalk", file, &from.join(file));
    }
    let weights = "diffusion_pytorch_model.safetensors";
    add("stabilityai/sd-vae-ft-mse", "config.json", &from.join("sd-vae/config.json"));
    add("stabilityai/sd-vae-ft-mse", weights, &fixture("autoencoder_kl.safetensors"));
    add("openai/whisper-tiny", "config.json", &from.join("whisper/config.json"));
    add("openai/whisper-tiny", "model.safetensors", &fixture("whisper.safetensors"));
    server.add("openai/whisper-tiny", "preprocessor_config.json", json!({"feature_size": 80}).to_string().as_bytes());
    server
}

#[test]
fn a_model_is_fetched_converted_and_sound_and_consent_is_asked_for_once() {
    let upstream = Upstream::new();
    let server = published(&upstream);
    let home = Some(upstream.home.path());
    let fetch = |more: &[&str]| {
        let mut arguments = vec!["fetch", "musetalk-v1.5", "--endpoint", &server.endpoint, "--json"];
        arguments.extend(more);
        models(home, &arguments)
    };
    let listed: Value = succeeds(&fetch(&["--dry-run"]));
    let files = listed["files"].as_array().unwrap();
    assert_eq!(files.len(), 7);
    assert!(files.iter().all(|file| file["licence"] == "mit" && file["bytes"].as_u64().unwrap() > 0));
    assert!(server.requests().is_empty() && !upstream.model().exists());
    fails(&fetch(&[]), 2, &["--accept-licences"]);
    server.next("unet.pth", &[Act::Cut(1_000_000)]);
    succeeds(&fetch(&["--accept-licences"]));
    assert_eq!(succeeds(&upstream.verify())["sound"], true);
    assert!(!upstream.home.path().join("models/.musetalk-v1.5.fetched").exists());
    fails(&fetch(&[]), 2, &["is there already", "--replace"]);
    let consent = upstream.home.path().join("models/licences-accepted.json");
    let agreed = std::fs::read(&consent).unwrap();
    std::fs::write(&consent, "{").unwrap();
    fails(&fetch(&["--replace"]), 2, &["licences-accepted.json", "remove it"]);
    std::fs::write(&consent, agreed).unwrap();
    succeeds(&fetch(&["--replace", "--keep"]));
    assert!(upstream.home.path().join("models/.musetalk-v1.5.fetched/musetalkV15/unet.pth").exists());
    fails(&models(home, &["fetch", "anything"]), 2, &["\"anything\"", "musetalk-v1.5"]);
    fails(&models(home, &["fetch", "taesd", "--endpoint", "huggingface.co"]), 2, &["endpoint", "https://"]);
}
