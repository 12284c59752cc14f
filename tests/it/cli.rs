//! The program as an operator starts it: what goes wrong is said in one line, and it stops when asked to.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use futures_util::{SinkExt, StreamExt};
use mouthpiece::access::{Access, Permission, Settings};
use mouthpiece::endpoint::Key;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::watchdog;

const PROJECT: &str = env!("CARGO_MANIFEST_DIR");

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mouthpiece"));
    command.current_dir(PROJECT).env_remove("RUST_LOG").env_remove("MOUTHPIECE_HOME");
    command
}

fn run(arguments: &[&str]) -> Output {
    program().args(arguments).output().unwrap()
}

/// The last line of stderr, which is the error.
fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default().to_owned()
}

fn stdout_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("not JSON: {output:?}"))
}

/// A home of its own, everything linked to the project's but what a test replaces.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    let link = |name: &str| {
        std::os::unix::fs::symlink(Path::new(PROJECT).join(name), home.path().join(name)).unwrap();
    };
    std::fs::create_dir_all(home.path().join("models/demo")).unwrap();
    link("models/avatars");
    link("models/demo/config.json");
    link("models/demo/model.safetensors");
    std::fs::create_dir(home.path().join("pipelines")).unwrap();
    for entry in std::fs::read_dir(Path::new(PROJECT).join("pipelines")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), home.path().join("pipelines").join(entry.file_name())).unwrap();
    }
    home
}

fn serve_in(home: &Path, arguments: &[&str]) -> Output {
    let mut all = vec!["--home", home.to_str().unwrap(), "serve", "--listen", "127.0.0.1:0"];
    all.extend(arguments);
    run(&all)
}

#[test]
fn a_wrong_avatar_is_named_with_those_that_exist() {
    let output = run(&["serve", "--avatar", "anna", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("\"anna\"") && error(&output).contains("demo"), "{}", error(&output));
}

#[test]
fn an_avatar_id_cannot_leave_the_avatars_folder() {
    for command in [&["avatars", "show", "../demo"][..], &["serve", "--avatar", "../../etc"]] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(2));
        assert!(error(&output).contains("not valid"), "{}", error(&output));
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(&["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains(&address) && error(&output).contains("--listen"), "{}", error(&output));
}

#[test]
fn a_checkpoint_with_a_tensor_missing_is_an_error_that_names_the_tensor() {
    let home = home();
    let weights = home.path().join("models/demo/model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let kept = tensors.iter().filter(|(name, _)| *name != "unet.conv_in.bias");
    let written = safetensors::serialize(kept, None).unwrap();
    std::fs::remove_file(&weights).unwrap();
    std::fs::write(&weights, written).unwrap();
    let output = serve_in(home.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("unet.conv_in.bias") && error(&output).contains("missing"), "{}", error(&output));
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let home = home();
    std::fs::remove_file(home.path().join("models/demo/model.safetensors")).unwrap();
    let output = serve_in(home.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("model.safetensors"), "{}", error(&output));
}

/// With the engine running by then: an error and its exit code come of it, and no signal.
#[test]
fn a_failure_after_the_start_ends_the_program_in_order() {
    let home = home();
    let avatars = home.path().join("models/avatars");
    std::fs::remove_file(&avatars).unwrap();
    std::fs::create_dir_all(avatars.join("demo")).unwrap();
    for entry in std::fs::read_dir(Path::new(PROJECT).join("models/avatars/demo")).unwrap() {
        let entry = entry.unwrap();
        std::os::unix::fs::symlink(entry.path(), avatars.join("demo").join(entry.file_name())).unwrap();
    }
    let latents = avatars.join("demo/latents.safetensors");
    std::fs::remove_file(&latents).unwrap();
    std::fs::write(&latents, b"no latents").unwrap();
    let output = serve_in(home.path(), &[]);
    assert_eq!(output.status.code(), Some(1), "{:?}: {}", output.status, error(&output));
    assert!(error(&output).contains("latents"), "{}", error(&output));

    let output = run(&["render", "--text", "Bob made a big map.", "--out", "/dev/full"]);
    assert_eq!(output.status.code(), Some(1), "{:?}: {}", output.status, error(&output));
    assert!(error(&output).contains("/dev/full"), "{}", error(&output));
}

#[test]
fn an_encoder_that_is_missing_is_never_replaced_by_another() {
    for name in ["nvh264enc", "no264enc"] {
        if name == "nvh264enc"
            && stdout_json(&run(&["pipelines", "list", "--json"]))["pipelines"]
                .as_array()
                .unwrap()
                .iter()
                .any(|pipeline| pipeline["file"] == "publish-nvh264enc.launch" && pipeline["status"] == "ok")
        {
            continue;
        }
        let output = run(&["serve", "--encoder", name, "--listen", "127.0.0.1:0"]);
        assert!(!output.status.success());
        assert!(error(&output).contains(name), "{}", error(&output));
    }
}

/// Wrong use, as opposed to one that this machine lacks.
#[test]
fn an_encoder_that_nobody_knows_is_wrong_use_and_told_with_those_that_there_are() {
    let settings = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(settings.path(), "encoder = \"vp9enc\"\n").unwrap();
    let config = settings.path().to_str().unwrap();
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0", "--encoder", "vp9enc"][..],
        &["serve", "--listen", "127.0.0.1:0", "--config", config],
        &["render", "--text", "Bob.", "--out", "/dev/null", "--encoder", "vp9enc"],
        &["bench", "latency", "--encoder", "vp9enc"],
        &["bench", "throughput", "--encoder", "vp9enc"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", error(&output));
        let told = ["\"vp9enc\"", "auto", "openh264enc", "vp8enc", "x264enc"];
        assert!(told.iter().all(|name| error(&output).contains(name)), "{}", error(&output));
    }
}

/// A broken description, what breaks it and what the error must name.
#[test]
fn a_broken_pipeline_file_is_named_with_its_fault() {
    let faults = [
        ("syntax", "! opusenc", "! ! opusenc", "publish-x264enc.launch"),
        ("element", "opusenc", "opusencoder", "opusencoder"),
        ("name", "name=video ", "name=picture ", "video"),
    ];
    for (what, from, to, named) in faults {
        let home = home();
        let path = home.path().join("pipelines/publish-x264enc.launch");
        let text = std::fs::read_to_string(&path).unwrap();
        let broken = text
            .lines()
            .map(|line| if line.trim_start().starts_with('#') { line.to_owned() } else { line.replacen(from, to, 1) });
        let broken = broken.collect::<Vec<_>>().join("\n");
        assert_ne!(text.trim(), broken.trim(), "{what}: the file has no {from:?}");
        std::fs::write(&path, broken).unwrap();
        let file = path.to_str().unwrap();
        let output = run(&["pipelines", "check", file, "--json"]);
        assert_eq!(output.status.code(), Some(2), "{what}");
        let report = stdout_json(&output);
        let message = report["pipelines"][0]["fault"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("publish-x264enc.launch") && message.contains(named), "{what}: {message}");
        let fault = &report["pipelines"][0]["fault"];
        let place = format!("line {}, column {}", fault["line"], fault["column"]);
        assert!(message.contains(&place), "{what}: {message}, at {place}");
        let output = serve_in(home.path(), &["--encoder", "x264enc"]);
        assert!(!output.status.success() && error(&output).contains(named), "{what}: {}", error(&output));
    }
}

#[test]
fn a_pipeline_is_drawn_as_a_graph_for_each_way_in_which_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let dot = folder.path().join("publish.dot");
    let (file, drawn) = ("pipelines/publish-x264enc.launch", dot.to_str().unwrap());
    let output = run(&["pipelines", "check", file, "--dot", drawn]);
    assert!(output.status.success(), "{}", error(&output));
    let graphs = std::fs::read_to_string(&dot).unwrap();
    assert_eq!(graphs.matches("digraph").count(), 3, "one for each rung");
    assert!(["GstX264Enc", "video_encoder_low", "audio_out"].iter().all(|name| graphs.contains(name)), "{graphs}");
    // What a description is in is not drawn over.
    for arguments in
        [&["--dot", file][..], &["pipelines/viewer-vp8.launch", "--dot", file], &[file, file, "--dot", drawn]]
    {
        let output = run(&[&["pipelines", "check"], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    assert!(std::fs::read_to_string(Path::new(PROJECT).join(file)).unwrap().starts_with('#'));
}

#[test]
fn the_shipped_pipelines_fit_their_contract() {
    let output = run(&["pipelines", "check"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn doctor_finds_nothing_missing_where_the_tests_run() {
    let output = run(&["doctor", "--json", "--listen", "127.0.0.1:0"]);
    let report = stdout_json(&output);
    assert!(output.status.success() && report["healthy"] == true, "{report}");
}

#[test]
fn doctor_tells_of_the_network_what_the_settings_make_of_it_and_no_secret() {
    let settings = tempfile::NamedTempFile::new().unwrap();
    // Nobody answers at these addresses of documentation, or at a port that nothing listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!(
        "media_port = 0\nexternal_address = [\"8.8.8.8\"]\nturn_urls = [\"turn:{closed}?transport=tcp\"]\n\
         turn_secret = \"my-secret\"\n"
    );
    std::fs::write(settings.path(), text).unwrap();
    let output = run(&["doctor", "--json", "--network", "--config", settings.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "a TURN server that is not there is a fault");
    let report = stdout_json(&output);
    let check = |name: &str| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report}")).clone()
    };
    assert!(check("addresses")["found"].as_str().unwrap().contains("told 8.8.8.8 (public)"), "{report}");
    assert_eq!(check("media port")["status"], "ok", "{report}");
    assert_eq!(check("stun")["status"], "note", "{report}");
    assert_eq!(check("turn")["status"], "fault", "{report}");
    assert!(!report.to_string().contains("my-secret"), "{report}");
}

#[test]
fn doctor_names_a_missing_model_and_its_fix() {
    let home = home();
    std::fs::remove_file(home.path().join("models/demo/model.safetensors")).unwrap();
    let output = run(&["--home", home.path().to_str().unwrap(), "doctor", "--json", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1));
    let report = stdout_json(&output);
    let model = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == "model").unwrap().clone();
    assert_eq!(model["status"], "fault");
    assert!(model["fix"].is_string(), "{model}");
}

#[test]
fn a_film_holds_every_frame_of_the_speech_and_its_sound() {
    let folder = tempfile::tempdir().unwrap();
    let film = folder.path().join("film.mp4");
    let output = run(&["render", "--text", "Bob made a big map.", "--out", film.to_str().unwrap(), "--json"]);
    assert!(output.status.success(), "{}", error(&output));
    let report = stdout_json(&output);
    let frames = report["frames"].as_u64().unwrap();
    assert!((25..100).contains(&frames), "{report}");
    assert!(report["mouths"].as_u64().unwrap() >= 15, "{report}");
    assert_eq!(report["duration_ms"], frames * 40);
    let bytes = std::fs::read(&film).unwrap();
    assert_eq!(&bytes[4..8], b"ftyp");
    assert!(bytes.len() > 20_000);
}

#[test]
fn a_film_of_a_wrong_audio_file_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let sound = folder.path().join("sound.wav");
    std::fs::write(&sound, b"RIFF but not really").unwrap();
    let film = folder.path().join("film.mp4");
    let output = run(&["render", "--audio", sound.to_str().unwrap(), "--out", film.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("sound.wav"), "{}", error(&output));
    let output = run(&["render", "--text", "🙂 \u{7}", "--out", film.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
}

/// The viewer is a process of its own and really receives, whichever codec the server has.
#[test]
fn viewers_are_measured_by_one_that_receives() {
    for encoder in ["x264enc", "vp8enc"] {
        let size = ["--viewers", "1", "--rounds", "1", "--seconds", "1"];
        let output = run(&[&["bench", "viewers", "--encoder", encoder, "--json"], &size[..]].concat());
        assert!(output.status.success(), "{encoder}: {}", error(&output));
        let report = stdout_json(&output);
        let row = &report["viewers"][0];
        for field in ["received_fps", "cpu_percent_idle", "cpu_percent_speaking"] {
            assert!(row[field].as_f64().unwrap() > 0.0, "{encoder}: {field} in {report}");
        }
        assert!(report["each_further_viewer_cpu_percent"]["idle"].is_null(), "there was only one: {report}");
    }
}

#[test]
fn speaking_sessions_are_measured_by_what_their_frames_show() {
    let sizes = ["--sessions", "2", "--seconds", "1", "--utterances", "1", "--idle", "1", "--unwatched", "2"];
    let output = run(&[&["bench", "sessions", "--json"], &sizes[..]].concat());
    assert!(output.status.success(), "{}", error(&output));
    let report = stdout_json(&output);
    let rows = report["sessions"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{report}");
    for row in rows {
        // On a busy machine every mouth may be late.
        let due: u64 = ["fresh", "repeated", "starved"].map(|kind| row[kind].as_u64().unwrap()).iter().sum();
        assert!(due > 0, "nobody spoke: {report}");
        assert_eq!(row["fresh"] == due, row["fresh_percent"] == 100.0, "{report}");
        assert!(row["frame_gap_ms"]["p99"].as_f64().unwrap() > 0.0, "{report}");
        assert!(row["received_fps"].as_f64().unwrap() > 0.0, "{report}");
    }
    let hold = rows.iter().take_while(|row| row["holds"] == true).count();
    assert_eq!(report["hold"], hold, "{report}");
    assert_eq!(report["first_frame_ms"]["busy"]["count"], 1, "{report}");
    assert!(report["idle"]["received_fps"].as_f64().unwrap() > 0.0, "{report}");
    assert_eq!(report["idle"]["batches_drawn"], 0, "{report}");
    let unwatched = &report["unwatched"];
    assert_eq!((&unwatched["batches_drawn"], &unwatched["frames_encoded"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(unwatched["wake_ms"]["count"], 2, "{report}");
}

#[test]
fn numbers_of_sessions_of_ones_own_choosing_are_measured_with_viewers_that_share_processes() {
    let sizes = ["--at", "1,4", "--seconds", "1", "--viewers-per-process", "2"];
    let output = run(&[&["bench", "sessions", "--json"], &sizes[..]].concat());
    assert!(output.status.success(), "{}", error(&output));
    let report = stdout_json(&output);
    let rows = report["sessions"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["sessions"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4], "{report}");
    // One viewer, then three more: two of them share a process.
    assert_eq!(report["viewer_processes"], 3, "{report}");
    for row in rows {
        assert!(row["received_fps"].as_f64().unwrap() > 0.0, "{report}");
        assert_eq!(row["left_out_percent_each"].as_array().unwrap().len() as u64, row["sessions"], "{report}");
        let batches = row["batches"].as_array().unwrap();
        assert!(batches.iter().all(|size| size["mean_ms"].as_f64() > Some(0.0)), "{report}");
        let busiest = &row["threads"][0];
        assert!(busiest["cpu_percent_of_a_core"].as_f64() >= busiest["busiest_percent"].as_f64(), "{report}");
    }
    assert_eq!((&report["first_frame_ms"]["alone"], &report["first_frame_ms"]["busy"]), (&Value::Null, &Value::Null));
}

fn assert_throughput(report: &Value, decode_rows: &Value) {
    assert_eq!(report["model"], "demo");
    assert_eq!((&report["decoder"], &report["dtype"]["unet"]), (&json!("tiny"), &json!("fp32")), "{report}");
    assert_eq!(report["decode_rows"], *decode_rows, "{report}");
    assert!(report["memory"]["peak_resident_mb"].as_u64().unwrap() > 50, "{report}");
    let attention = report["attention"].as_array().unwrap();
    assert_eq!(attention.iter().map(|level| level["head_size"].as_i64().unwrap()).collect::<Vec<_>>(), [16, 24]);
    assert!(attention.iter().all(|level| level["fused_ms"].as_f64() > Some(0.0)), "{report}");
    let (roof, work) = (&report["roof_gflop_per_second"], &report["gflop_per_frame"]);
    let rows = report["sizes"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["batch"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4], "{report}");
    for row in rows {
        let (stages, share) = (&row["stage_ms"], &row["roof_share"]);
        assert_eq!(row["frame_ms"]["count"], 3, "{report}");
        for network in ["unet", "decode"] {
            let (ms, gflop) = (stages[network].as_f64().unwrap(), work[network].as_f64().unwrap());
            let expected = gflop * 1000.0 / ms / roof[network].as_f64().unwrap();
            assert!((share[network].as_f64().unwrap() - expected).abs() < 0.02, "{network} in {report}");
        }
        for stage in ["features", "paste", "copy", "compose"] {
            assert!(stages[stage].as_f64().unwrap() >= 0.0, "{stage} in {report}");
        }
        let fps = row["frames_per_second"].as_f64().unwrap();
        let ms = row["frame_ms"]["p50_ms"].as_f64().unwrap();
        assert!((fps * ms - 1000.0).abs() < 20.0, "{report}");
    }
}

#[test]
fn throughput_is_measured_stage_by_stage_and_against_the_roof() {
    let size = ["--batch", "1,4", "--rounds", "3", "--device", "cpu", "--json"];
    let output = run(&[&["bench", "throughput"], &size[..]].concat());
    assert!(output.status.success(), "{}", error(&output));
    assert_throughput(&stdout_json(&output), &json!([1, 15]));
    let output = run(&["bench", "throughput", "--batch", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", error(&output));
}

/// Where there is no GStreamer, this one still runs: it must not even ask for it.
#[test]
fn the_engines_bench_needs_no_gstreamer() {
    let program = env!("CARGO_BIN_EXE_engine-bench");
    let size = ["--batch", "1,4", "--rounds", "3", "--device", "cpu"];
    let output =
        Command::new(program).args(["--model", "models/demo"]).args(size).current_dir(PROJECT).output().unwrap();
    assert!(output.status.success(), "{}", error(&output));
    assert_throughput(&stdout_json(&output), &json!([0, 16]));
    let binary = std::fs::read(program).unwrap();
    let missing =
        Command::new(program).args(["--model", "models/none", "--device", "cpu"]).current_dir(PROJECT).output();
    assert!(error(&missing.unwrap()).starts_with("engine-bench: model file models/none/config.json"));
    let names = |library: &[u8]| binary.windows(library.len()).any(|window| window == library);
    assert!(names(b"libtorch_cpu.so"));
    assert!(!names(b"libgstreamer-1.0.so"));
}

#[test]
fn a_viewer_that_finds_no_server_says_so() {
    let output = run(&["bench", "watch", "--url", "ws://127.0.0.1:1/ws"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(error(&output).contains("ws://127.0.0.1:1/ws"), "{}", error(&output));
}

/// A server in a process of its own; killed if a test fails.
struct Served {
    child: Child,
    address: String,
    log: tempfile::NamedTempFile,
}

impl Served {
    fn start() -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = program()
            .args(["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("no address in {line:?}")).1.to_owned();
        Self { child, address, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// A viewer of a session in a process of its own: what nobody watches is neither drawn nor encoded.
pub(crate) struct Watching(Child);

impl Watching {
    /// Returns when it receives pictures.
    pub(crate) fn start(url: &str) -> Self {
        let mut child = program()
            .args(["bench", "watch", "--url", url])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen = |line: std::io::Result<String>| serde_json::from_str::<Value>(&line.unwrap()).unwrap();
        assert!(lines.map(seen).any(|seen| seen["received"]["video_frames"].as_u64().unwrap() > 0), "the viewer ended");
        Self(child)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        kill(&mut self.0);
    }
}

fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// The time that sessions have for ending is the program's own, and it fails where they use it up.
#[tokio::test]
async fn a_server_asked_to_stop_in_mid_sentence_ends_cleanly_before_its_time_is_up() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut served = Served::start();
        let url = format!("ws://{}/ws?session=both", served.address);
        let _viewer = Watching::start(&url);
        let (mut socket, _) = connect_async(url).await.unwrap();
        let text = "This sentence is long enough to be still going on when somebody stops the server. ".repeat(5);
        socket.send(Message::text(json!({"type": "speak", "content": text}).to_string())).await.unwrap();
        while !next(&mut socket).await.is_some_and(|message| message["type"] == "speech_started") {}
        kill_process(Pid::from_child(&served.child), signal).unwrap();
        let mut told = Vec::new();
        while let Some(message) = next(&mut socket).await {
            told.push(message);
        }
        assert!(told.iter().any(|message| message["code"] == "shutting_down"), "the client was not told: {told:#?}");
        let whole = |message: &Value| message["type"] == "speech_ended" && message["interrupted"] == false;
        assert!(!told.iter().any(whole), "the sentence was spoken to its end: {told:#?}");
        let (served, status) = tokio::task::spawn_blocking(move || {
            let status = served.child.wait().unwrap();
            (served, status)
        })
        .await
        .unwrap();
        let log = served.log();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("shutting down") && log.contains("everything has ended"), "{log}");
    }
}

/// A machine that is short of time draws none of some sentences' mouths in time; playout waits for the first of each.
const UNTIL_DRAWN: &str = "Hello there, Bob. ";

/// The next JSON message; `None` once the socket is closed.
pub(crate) async fn next<S>(socket: &mut S) -> Option<Value>
where
    S: StreamExt<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[tokio::test]
async fn metrics_tell_the_way_of_an_utterance() {
    let served = Served::start();
    let url = format!("ws://{}/ws?session=both", served.address);
    let _viewer = Watching::start(&url);
    let (mut socket, _) = connect_async(url).await.unwrap();
    let speak = json!({"type": "speak", "content": "Hello there, Bob.", "id": "mine"});
    socket.send(Message::text(speak.to_string())).await.unwrap();
    let ended = loop {
        let message = next(&mut socket).await.unwrap();
        if message["type"] == "speech_ended" {
            break message;
        }
    };
    assert_eq!((&ended["interrupted"], &ended["text_spoken"]), (&json!(false), &json!("Hello there, Bob.")));
    assert!((400..4000).contains(&ended["spoken_ms"].as_u64().unwrap()), "{ended}");
    let speak = json!({"type": "speak", "content": UNTIL_DRAWN.repeat(20)});
    socket.send(Message::text(speak.to_string())).await.unwrap();
    while next(&mut socket).await.unwrap()["type"] != "latency" {}
    for name in [
        "mouthpiece_turn_stage_seconds_count{stage=\"first_audio\"} 2\n",
        "mouthpiece_turn_stage_seconds_count{stage=\"first_frame\"} ",
        "mouthpiece_turn_stage_seconds_count{stage=\"first_packet\"} ",
        "mouthpiece_pairs_total{shows=\"mouth\"}",
        "mouthpiece_mouth_frames_total{kind=\"fresh\"}",
        "mouthpiece_infer_seconds_bucket",
    ] {
        // Encoders tell of their packets a moment after the viewers have them.
        metrics_with(&served.address, name).await;
    }
    // Not /readyz: a machine that is short of time has no place for another session.
    assert!(http(&served.address, "/healthz").await.contains("200 OK"));
}

#[tokio::test]
async fn a_turn_is_told_with_its_stages_and_counted_when_it_is_shown() {
    let served = Served::start();
    let url = format!("ws://{}/ws?session=both", served.address);
    let _viewer = Watching::start(&url);
    let (mut socket, _) = connect_async(url).await.unwrap();
    let text = json!({"type": "text", "content": format!("Say: {}", UNTIL_DRAWN.repeat(20))});
    socket.send(Message::text(text.to_string())).await.unwrap();
    let mut told: Vec<Value> = Vec::new();
    while told.last().is_none_or(|message| message["type"] != "speech_ended") {
        let message = next(&mut socket).await.unwrap();
        if message["type"] == "latency" {
            let ms = message["stages"]["first_frame"].as_u64().unwrap();
            let shown = json!({"type": "shown", "utterance_id": message["utterance_id"], "ms": ms});
            for message in [shown, json!({"type": "interrupt"})] {
                socket.send(Message::text(message.to_string())).await.unwrap();
            }
        }
        told.push(message);
    }
    let at = |kind: &str| told.iter().position(|message| message["type"] == kind).unwrap();
    assert!(at("text") < at("speech_started") && at("speech_started") < at("latency"), "{told:#?}");
    let Value::Object(latency) = &told[at("latency")] else { panic!("{told:#?}") };
    assert_eq!(latency["utterance_id"], told[at("speech_started")]["utterance_id"]);
    assert!(latency["rtp_timestamp"].is_u64(), "a viewer receives it: {latency:?}");
    let stages = latency["stages"].as_object().unwrap();
    let ms = |stage: &str| stages[stage].as_u64().unwrap();
    assert!(ms("first_token") <= ms("first_audio") && ms("first_audio") < ms("first_frame"), "{stages:?}");
    assert!(!stages.contains_key("transcript"), "{stages:?}");
    for stage in ["first_token", "first_audio", "first_frame", "first_packet", "shown"] {
        metrics_with(&served.address, &format!("mouthpiece_turn_stage_seconds_count{{stage=\"{stage}\"}} 1\n")).await;
    }
}

/// Waits until this is among the metrics.
async fn metrics_with(address: &str, name: &str) {
    watchdog::until(name, async || http(address, "/metrics").await.contains(name)).await;
}

pub(crate) async fn http(address: &str, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// What is typed may be read by every user of the machine, and what is logged ends in files that are sent around.
#[test]
fn secrets_are_neither_in_the_list_of_processes_nor_in_errors_and_colours_are_not_in_files() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let mut child = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--turn", "turn:user:my-secret@127.0.0.1:3478"])
        .stdout(Stdio::piped())
        .stderr(log.reopen().unwrap())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let typed = std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap();
    let logged = std::fs::read_to_string(log.path()).unwrap();
    kill(&mut child);
    assert!(line.contains("http://"), "it does not serve: {line:?} {logged}");
    let typed = String::from_utf8_lossy(&typed);
    assert!(typed.contains("serve") && !typed.contains("secret"), "{typed}");
    assert!(logged.contains("INFO") && !logged.contains('\u{1b}') && !logged.contains("secret"), "{logged}");

    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(settings.path(), "[llm]\nurl = \"http://h/v1\"\nkey = \"my-secret\"\n").unwrap();
    let output = run(&["serve", "--config", settings.path().to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("llm.key") && told.contains("line 3") && !told.contains("secret"), "{told}");
}

/// A folder that is not the project's: nothing is found, and the error says what is looked for.
#[test]
fn a_home_without_avatars_is_named() {
    let elsewhere: PathBuf = std::env::temp_dir();
    let output = run(&["--home", elsewhere.to_str().unwrap(), "avatars", "list"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(error(&output).contains("models/avatars"), "{}", error(&output));
}

#[test]
fn an_avatar_says_a_text_into_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said.wav");
    let say = |engine: &str| {
        let out = file.to_str().unwrap();
        let text = "Hello there. It is good to see you.";
        let output = run(&["say", "--engine", engine, "--text", text, "--out", out, "--json"]);
        assert!(output.status.success(), "{output:?}");
        let report = stdout_json(&output);
        assert_eq!((&report["engine"], &report["sentences"]), (&json!(engine), &json!(2)));
        let audio = report["audio_ms"].as_f64().unwrap();
        let (samples, rate) = mouthpiece::speech::sound::read(&file).unwrap();
        let written = samples.len() as f64 * 1000.0 / f64::from(rate);
        assert!((1_500.0..6_000.0).contains(&audio) && (written - audio).abs() < 1.0, "{audio} and {written} ms");
        rate
    };
    assert_eq!((say("hibari"), say("espeak-ng")), (24_000, 22_050));
    let output = run(&["say", "--engine", "siri", "--text", "Hello.", "--out", file.to_str().unwrap()]);
    assert!(!output.status.success() && error(&output).contains("known: espeak-ng, hibari"), "{output:?}");
}

#[tokio::test]
async fn a_token_is_made_for_the_server_that_has_the_same_secret() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = "a-secret-of-the-tests,-thirty-two+";
    let secret = write("secret", &format!("{text}\n"));
    let short = write("short", "too-short");
    let settings = write("settings.toml", &format!("[access]\nsecret_file = {secret:?}\naudience = \"us\"\n"));
    let (secret, settings, short) = (secret.as_str(), settings.as_str(), short.as_str());
    let made = |arguments: &[&str]| run(&[&["token"][..], arguments].concat());
    let checked = async |output: &Output, audience: Option<String>| {
        assert!(output.status.success(), "{output:?}");
        let settings = Settings { secret: Some(Key::new(text)), keys: None, audience };
        let token = String::from_utf8(output.stdout.clone()).unwrap();
        Access::open(settings).await.unwrap().check(token.trim_end()).unwrap()
    };
    let room = ["--may", "view,speak", "--tenant", "acme", "--session", "room", "--avatar", "demo", "--for", "30m"];
    let grant = checked(&made(&[&["--secret-file", secret][..], &room[..]].concat()), None).await;
    assert!(grant.may(Permission::View) && grant.may(Permission::Speak) && !grant.may(Permission::Converse));
    assert_eq!((grant.tenant(), grant.session(), grant.avatar().unwrap().as_str()), ("acme", Some("room"), "demo"));
    let grant = checked(&made(&["--config", settings, "--may", "administer"]), Some("us".into())).await;
    assert!(grant.may(Permission::Administer) && grant.tenant() == "main");
    for (wrong, says) in [
        (&["--may", "view"][..], "access.secret_file"),
        (&["--secret-file", short, "--may", "view"], "9 bytes"),
        (&["--secret-file", "/nowhere", "--may", "view"], "/nowhere"),
        (&["--secret-file", secret, "--may", "everything"], "administer"),
        (&["--secret-file", secret, "--may", "view", "--for", "0s"], "--for"),
        (&["--secret-file", secret, "--may", "view", "--for", "soon"], "--for"),
        (&["--secret-file", secret, "--may", "view", "--tenant", "a.b"], "tenant"),
        (&["--secret-file", secret], "--may"),
    ] {
        let output = made(wrong);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(2) && output.stdout.is_empty() && told.contains(says),
            "{wrong:?}: {told}"
        );
        assert!(!told.contains(text) && !told.contains("too-short"), "{told}");
    }
}

#[test]
fn a_server_that_strangers_can_reach_does_not_start_without_saying_who_may() {
    let output = run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(2));
    let told = error(&output);
    assert!(["listen", "[access]", "mouthpiece token", "--insecure"].iter().all(|word| told.contains(word)), "{told}");
}
