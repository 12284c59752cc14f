//! `mouthpiece doctor`: looks at everything that `serve` needs and says how to mend what is wrong.
//!
//! In here: the checks, each of which tries the real thing (loads the model, runs an encoder, binds the port), and
//! the report. Not in here: arguments and exit codes (`commands`). Runs on: the caller's thread; it blocks for some
//! seconds. `network` runs on tokio, before.

mod face_parsing;
mod machine;
pub(crate) mod network;

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use crate::avatar::{Avatar, AvatarStore, Manifest};
use crate::config::Folders;
use crate::ids::AvatarId;
use crate::lipsync::{AvatarAssets, AvatarHandle, LipSync};
use crate::media::inventory::{self, MissingElement};
use crate::media::{self, CheckStatus, EncoderChoice, Encoders, PipelineDir};
use crate::musetalk::device::Libtorch;
use crate::musetalk::{DeviceChoice, find_device};
use crate::server::budget::ResourceBudget;
use crate::server::budget::limits::{ProcessLimits, Usage, raise_descriptors};
use crate::server::load_network;
use crate::speech::tts::{espeak, hibari};
use crate::speech::{SpeechError, Voice, tts};

/// What the server would be started with.
#[derive(Clone, Debug)]
pub(crate) struct DoctorInput {
    /// Where everything lies.
    pub(crate) folders: Folders,
    /// The avatar that is looked at.
    pub(crate) avatar: AvatarId,
    /// The port that is tried.
    pub(crate) listen: SocketAddr,
    /// What was found of the network, if that was looked at.
    pub(crate) network: Vec<Check>,
}

/// What was found, in the order in which it was looked at. As JSON with `doctor --json`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Report {
    /// Whether `serve` has all it needs.
    pub(crate) healthy: bool,
    /// Of mouthpiece itself.
    pub(crate) version: &'static str,
    /// One for each thing that was looked at.
    pub(crate) checks: Vec<Check>,
}

/// One thing that `serve` needs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Check {
    /// One word.
    pub(crate) name: &'static str,
    /// How bad it is.
    pub(crate) status: Status,
    /// What was seen.
    pub(crate) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Ok,
    /// Something is missing that this server does without.
    Note,
    /// `serve` would not work.
    Fault,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), fix: None }
    }

    fn note(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Note, found: found.into(), fix: Some(fix.into()) }
    }

    fn fault(name: &'static str, found: impl ToString, fix: impl Into<String>) -> Self {
        Self { name, status: Status::Fault, found: found.to_string(), fix: Some(fix.into()) }
    }
}

impl Report {
    fn new(checks: Vec<Check>) -> Self {
        let healthy = checks.iter().all(|check| check.status != Status::Fault);
        Self { healthy, version: env!("CARGO_PKG_VERSION"), checks }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// The report as a table for people.
    pub(crate) fn write_to(&self, out: &mut impl Write) -> std::io::Result<()> {
        for check in &self.checks {
            let status = match check.status {
                Status::Ok => "ok",
                Status::Note => "note",
                Status::Fault => "FAULT",
            };
            writeln!(out, "{status:6} {:10} {}", check.name, check.found)?;
            if let Some(fix) = &check.fix {
                writeln!(out, "{:17} fix: {fix}", "")?;
            }
        }
        let faults = self.checks.iter().filter(|check| check.status == Status::Fault).count();
        match faults {
            0 => writeln!(out, "mouthpiece {} has all it needs", self.version),
            1 => writeln!(out, "mouthpiece {}: 1 fault", self.version),
            _ => writeln!(out, "mouthpiece {}: {faults} faults", self.version),
        }
    }
}

/// Checks everything. One fault never hides another, except behind what both need.
pub(crate) fn run(input: &DoctorInput) -> Report {
    let mut checks = Vec::new();
    media_checks(&input.folders.pipelines, &mut checks);
    checks.push(libtorch());
    let store = AvatarStore::new(&input.folders.avatars);
    if let Some((manifest, loaded)) = avatar(&store, &input.avatar, &mut checks) {
        if let Some(loaded) = loaded {
            checks.extend(model(&input.folders, loaded));
        }
        checks.push(voice(espeak::ENGINE, &manifest.voice));
        checks.push(neural_voice(&hibari::folder(&input.folders.models)));
    }
    checks.extend(face_parsing::check(&input.folders.models));
    checks.push(limits());
    checks.push(port(input.listen));
    checks.extend(input.network.iter().cloned());
    Report::new(checks)
}

/// Sessions that the server takes if nothing is set, each with a viewer.
const USUAL_VIEWERS: usize = 16;

/// What this machine allows a process, once it was raised as far as `serve` raises it.
fn limits() -> Check {
    const NAME: &str = "limits";
    raise_descriptors();
    let limits = ProcessLimits::find(None);
    let (descriptors, threads) = (limits.descriptors(), limits.threads());
    let fix = "raise the limit that is named: `ulimit -n` and `ulimit -u` in a shell, LimitNOFILE and TasksMax of a systemd \
               unit, --ulimit nofile and --pids-limit of a container";
    let unlimited = |usage: &Usage| {
        if usage.most == usize::MAX { "any number of".into() } else { usage.most.to_string() }
    };
    let allowed = format!(
        "{} descriptors ({}) and {} threads ({})",
        unlimited(&descriptors),
        descriptors.by,
        unlimited(&threads),
        threads.by
    );
    match ResourceBudget::new(limits, USUAL_VIEWERS, USUAL_VIEWERS) {
        Err(short) => Check::fault(NAME, format!("{allowed}: not enough for one viewer: {short}"), fix),
        Ok((budget, _)) if budget.viewers() < USUAL_VIEWERS => {
            Check::note(NAME, format!("{allowed}: enough for {} viewers", budget.viewers()), fix)
        }
        Ok((budget, _)) => Check::ok(NAME, format!("{allowed}: enough for {} viewers", budget.viewers())),
    }
}

fn media_checks(pipelines: &Path, checks: &mut Vec<Check>) {
    if let Err(error) = media::init() {
        checks.push(Check::fault("gstreamer", error, "run scripts/setup.sh"));
        return;
    }
    checks.push(gstreamer(&inventory::missing_elements()));
    let directory = PipelineDir::find(pipelines);
    checks.extend(descriptions(&directory));
    checks.push(encoder(&directory));
    checks.push(encryption());
}

/// What every connection begins with.
fn encryption() -> Check {
    match media::encryption_check::run() {
        Ok(()) => Check::ok("encryption", "DTLS and SRTP work"),
        Err(error) => Check::fault("encryption", error, media::encryption_check::SRTP_HINT),
    }
}

fn gstreamer(missing: &[MissingElement]) -> Check {
    let version = inventory::version();
    if missing.is_empty() {
        return Check::ok("gstreamer", format!("{version} with all elements that WebRTC needs"));
    }
    let elements: Vec<&str> = missing.iter().map(|missing| missing.element).collect();
    let mut packages: Vec<&str> = missing.iter().filter_map(|missing| missing.package).collect();
    packages.sort_unstable();
    packages.dedup();
    let found = format!("{version} without {}", elements.join(", "));
    let fix = match packages.is_empty() {
        true => "run scripts/setup.sh".to_owned(),
        false => format!("run scripts/setup.sh, or on Debian `apt-get install {}`", packages.join(" ")),
    };
    Check::fault("gstreamer", found, fix)
}

fn descriptions(directory: &PipelineDir) -> Vec<Check> {
    const NAME: &str = "pipelines";
    let reports = match media::list(directory) {
        Ok(reports) => reports,
        Err(error) => return vec![Check::fault(NAME, error, "restore pipelines/ from the repository")],
    };
    let faulty = reports.iter().filter(|report| report.status == CheckStatus::Faulty);
    let mut checks: Vec<Check> = faulty
        .map(|report| {
            let message = report.fault.as_ref().map_or(report.file.as_str(), |fault| fault.message.as_str());
            let fix = format!(
                "edit {}; pipelines/README.md has the contract, `mouthpiece pipelines check` tries it",
                report.file
            );
            Check::fault(NAME, message, fix)
        })
        .collect();
    let place = match directory {
        PipelineDir::Directory(path) => format!("in {}", path.display()),
        PipelineDir::Embedded => "built in".to_owned(),
    };
    let fine = reports.iter().filter(|report| report.status == CheckStatus::Ok).count();
    let unavailable: Vec<&str> = reports
        .iter()
        .filter(|report| report.status == CheckStatus::Unavailable)
        .map(|report| report.file.as_str())
        .collect();
    let lacking = match unavailable.is_empty() {
        true => String::new(),
        false => format!("; no hardware for {}", unavailable.join(", ")),
    };
    checks.insert(0, Check::ok(NAME, format!("{fine} of {} usable, {place}{lacking}", reports.len())));
    checks
}

fn encoder(directory: &PipelineDir) -> Check {
    match Encoders::select(&EncoderChoice::Auto, directory) {
        Ok(encoders) => {
            let refused: Vec<String> =
                encoders.refused.iter().map(|no| format!("; not {}: {}", no.encoder, no.reason)).collect();
            let makes =
                |selected: &media::Selected| format!("{} makes {}", selected.encoder, selected.codec.encoding_name());
            let made = encoders.iter().map(makes).collect::<Vec<_>>().join(", ");
            Check::ok("encoder", format!("{made}{}", refused.concat()))
        }
        Err(error) => Check::fault("encoder", error, "run scripts/setup.sh; x264enc is in gstreamer1.0-plugins-ugly"),
    }
}

fn libtorch() -> Check {
    let libtorch = Libtorch::in_use();
    let version = libtorch.version.as_deref().unwrap_or("of unknown version");
    let place = libtorch.folder.map(|folder| format!(" in {}", folder.display())).unwrap_or_default();
    let cuda = libtorch.cuda.map(|path| format!(" with {}", path.display())).unwrap_or_default();
    match (libtorch.gpus, libtorch.graphs) {
        (Ok(count), graphs) => {
            let gpus = match count {
                1 => "1 GPU".to_owned(),
                count => format!("{count} GPUs: serve draws on all of them unless --device names some"),
            };
            let found = format!("{version}{place}{cuda}, {gpus}");
            match graphs {
                Ok(()) => Check::ok("libtorch", found),
                Err(reason) => {
                    let fix = "run scripts/setup.sh --cuda, which compiles what captures them";
                    Check::note("libtorch", format!("{found}; without CUDA graphs, so slower: {reason}"), fix)
                }
            }
        }
        (Err(reason), _) => {
            let fix =
                "none needed for the demo model; for a GPU, install NVIDIA's driver and run scripts/setup.sh --cuda";
            Check::note("libtorch", format!("{version}{place}{cuda}, on the CPU: {reason}"), fix)
        }
    }
}

/// The avatar's manifest if its folder is good enough to go on with.
fn avatar(store: &AvatarStore, id: &AvatarId, checks: &mut Vec<Check>) -> Option<(Manifest, Option<Avatar>)> {
    const NAME: &str = "avatar";
    for other in store.list().iter().filter(|other| *other != id) {
        if let Err(error) = store.manifest(other) {
            checks.push(Check::note(NAME, format!("{other} is unusable: {error}"), "mend or remove its folder"));
        }
    }
    let manifest = match store.manifest(id) {
        Ok(manifest) => manifest,
        Err(error) => {
            checks.push(Check::fault(NAME, error, "choose another with --avatar; `mouthpiece avatars list` has them"));
            return None;
        }
    };
    let loaded = store.load(id);
    checks.push(match &loaded {
        Ok(avatar) => {
            let (width, height, frames) = (manifest.width, manifest.height, avatar.frame_count());
            Check::ok(NAME, format!("{id} ({}), {width}x{height}, {frames} frames", manifest.name))
        }
        Err(error) => Check::fault(NAME, error, "restore or prepare the avatar's folder again"),
    });
    Some((manifest, loaded.ok()))
}

/// Loads the model and gives it the avatar, which finds weights that do not fit the configuration and what was prepared of
/// the avatar that does not fit the model. Then how many speakers the processor carries, if it is what draws.
fn model(folders: &Folders, avatar: Avatar) -> Vec<Check> {
    const NAME: &str = "model";
    let (name, folder) = (avatar.manifest.model.clone(), folders.models.join(&avatar.manifest.model));
    let decoder = avatar.manifest.decoder_folder(&folders.avatars, &folders.models);
    let assets = AvatarAssets { avatar: Arc::new(avatar), decoder };
    let loaded = load_network(&folder, DeviceChoice::Auto, 1).and_then(|mut network| {
        let handle = network.add_avatar(&assets)?;
        Ok((network, handle))
    });
    match loaded {
        Ok((mut network, handle)) => {
            let found = Check::ok(NAME, format!("{name} from {}", folder.display()));
            let on_cpu = find_device(DeviceChoice::Auto).is_ok_and(|device| !device.is_cuda());
            [found].into_iter().chain(on_cpu.then(|| processor(network.as_mut(), handle))).collect()
        }
        Err(error) => {
            let fix = format!("restore {}: it holds config.json and model.safetensors", folder.display());
            vec![Check::fault(NAME, error, fix)]
        }
    }
}

/// What kind of processor this is, and how many it lets speak at once.
fn processor(network: &mut dyn LipSync, avatar: AvatarHandle) -> Check {
    const NAME: &str = "processor";
    let kind = machine::processor(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let took = match machine::time_of_frame(network, avatar) {
        Ok(took) => took,
        Err(error) => return Check::fault(NAME, format!("{kind}: {error}"), "see whether memory is short"),
    };
    let ms = took.as_secs_f64() * 1e3;
    let found = |speakers: &str| format!("{kind}; {cores} cores, {ms:.1} ms a frame just now: {speakers}");
    match machine::speakers(took, cores) {
        0 => Check::note(
            NAME,
            found("not every mouth of one speaker will be in time"),
            "leave the machine alone and look again; a GPU or a smaller model draws more",
        ),
        1 => Check::ok(NAME, found("about 1 speaker at once (estimated)")),
        several => Check::ok(NAME, found(&format!("about {several} speakers at once (estimated)"))),
    }
}

fn voice(program: &str, voice: &Voice) -> Check {
    const NAME: &str = "voice";
    let in_manifest = "edit [voice] in the avatar's avatar.toml";
    // Whether it is there is a check of its own; espeak-ng, which stands in for it, is always needed.
    let is_neural = voice.engine == hibari::ENGINE;
    let stand_in = tts::stand_in(voice);
    if is_neural {
        if let Err(error) = hibari::check(voice) {
            return Check::fault(NAME, error, in_manifest);
        }
    } else if let Err(error) = tts::from_voice(voice, Path::new("")) {
        return Check::fault(NAME, error, in_manifest);
    }
    match espeak::Installed::probe(program) {
        Err(error @ SpeechError::ProgramMissing { .. }) => {
            Check::fault(NAME, error, "run scripts/setup.sh, or on Debian `apt-get install espeak-ng`")
        }
        Err(error) => Check::fault(NAME, error, format!("see whether `{program} --version` works in a terminal")),
        Ok(installed) => match installed.supports(if is_neural { &stand_in } else { voice }) {
            Ok(()) if is_neural => Check::ok(NAME, format!("hibari, and espeak-ng {} in its place", installed.version)),
            Ok(()) => {
                let name = if voice.name.is_empty() { String::new() } else { format!(", variant {}", voice.name) };
                Check::ok(NAME, format!("espeak-ng {} speaks {}{name}", installed.version, voice.language))
            }
            Err(problem) => Check::fault(NAME, problem, in_manifest),
        },
    }
}

/// Loads the neural voice and lets it say a word.
fn neural_voice(folder: &Path) -> Check {
    const NAME: &str = "hibari";
    match hibari::try_out(folder) {
        Ok(share) => Check::ok(NAME, format!("a neural English voice, {share:.2} s of work for a second of speech")),
        Err(error @ hibari::HibariError::Missing { .. }) => {
            let fix = "run scripts/setup.sh; espeak-ng speaks instead of it";
            Check::note(NAME, format!("no neural voice: {error}"), fix)
        }
        Err(error) => {
            let fix = format!("remove {} and run scripts/setup.sh; espeak-ng speaks instead of it", folder.display());
            Check::note(NAME, error.to_string(), fix)
        }
    }
}

fn port(listen: SocketAddr) -> Check {
    match TcpListener::bind(listen) {
        Ok(_) => Check::ok("port", format!("{listen} is free")),
        Err(error) => {
            let fix = match error.kind() {
                std::io::ErrorKind::AddrInUse => "stop the other server, or choose another port with --listen",
                std::io::ErrorKind::PermissionDenied => "choose a port from 1024 on with --listen",
                _ => "choose an address of this machine with --listen, such as 127.0.0.1:8080",
            };
            Check::fault("port", format!("cannot listen on {listen}: {error}"), fix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demo_voice() -> Voice {
        Voice { engine: "espeak-ng".into(), language: "en-us".into(), name: "f5".into(), rate: 168, pitch: 55 }
    }

    fn is_fault(check: &Check, found: &str, fix: &str) {
        assert_eq!(check.status, Status::Fault, "{check:?}");
        assert!(check.found.contains(found) && check.fix.as_ref().unwrap().contains(fix), "{check:?}");
    }

    #[test]
    fn a_taken_port_is_a_fault_and_a_free_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        is_fault(&port(address), &address.to_string(), "stop the other server");
        is_fault(&port("203.0.113.1:8080".parse().unwrap()), "203.0.113.1", "address of this machine");
        drop(listener);
        assert_eq!(port(address).status, Status::Ok);
    }

    #[test]
    fn each_fault_of_a_voice_has_its_fix() {
        assert_eq!(voice(espeak::ENGINE, &demo_voice()).status, Status::Ok);
        is_fault(&voice("espeak-ng-not-there", &demo_voice()), "did not start", "apt-get install espeak-ng");
        is_fault(&voice("false", &demo_voice()), "exit status: 1", "`false --version`");
        let other = |change: fn(&mut Voice)| {
            let mut changed = demo_voice();
            change(&mut changed);
            voice(espeak::ENGINE, &changed)
        };
        is_fault(&other(|voice| voice.engine = "siri".into()), "\"siri\"", "avatar.toml");
        is_fault(&other(|voice| voice.engine = "hibari".into()), "\"f5\"", "avatar.toml");
        let neural = Voice { engine: "hibari".into(), name: "heart".into(), pitch: 50, ..demo_voice() };
        assert_eq!(voice(espeak::ENGINE, &neural).status, Status::Ok);
        is_fault(&voice("false", &neural), "exit status: 1", "`false --version`");
        is_fault(&other(|voice| voice.name = "f77".into()), "no variant \"f77\"", "avatar.toml");
        is_fault(&other(|voice| voice.language = "xx".into()), "no language \"xx\"", "avatar.toml");
    }

    #[test]
    fn missing_elements_are_named_with_their_packages_once() {
        let missing = |element| MissingElement { element, package: Some("gstreamer1.0-nice") };
        is_fault(
            &gstreamer(&[missing("nicesrc"), missing("nicesink")]),
            "without nicesrc, nicesink",
            "install gstreamer1.0-nice`",
        );
        assert_eq!(gstreamer(&[]).status, Status::Ok);
    }

    #[test]
    fn an_empty_home_gives_faults_and_no_crash() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| folder.path().join(name);
        let folders = Folders { models: home("models"), avatars: home("models/avatars"), pipelines: home("pipelines") };
        let input = DoctorInput {
            folders,
            avatar: "demo".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            network: Vec::new(),
        };
        let report = run(&input);
        assert!(!report.is_healthy());
        let avatar = report.checks.iter().find(|check| check.name == "avatar").unwrap();
        is_fault(avatar, "\"demo\"", "--avatar");
        let encoder = report.checks.iter().find(|check| check.name == "encoder").unwrap();
        assert_eq!(encoder.status, Status::Ok, "the descriptions built in still work: {encoder:?}");
    }

    #[test]
    fn a_model_that_is_not_there_is_a_fault() {
        let folder = tempfile::tempdir().unwrap();
        let [avatars, models, pipelines] = ["avatars", "models", "pipelines"].map(|name| folder.path().join(name));
        let check = model(&Folders { avatars, models, pipelines }, crate::kit::avatar::tiny());
        is_fault(&check[0], "config.json", "model.safetensors");
    }

    #[test]
    fn an_edited_description_with_a_mistake_is_a_fault_that_names_it() {
        media::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("publish-bad.launch"), "videotestsrc ! no-such-thing ! fakesink").unwrap();
        let checks = descriptions(&PipelineDir::find(folder.path()));
        is_fault(&checks[1], "no-such-thing", "publish-bad.launch");
        assert!(checks[0].found.starts_with("0 of 1 usable"), "{:?}", checks[0]);
    }

    #[test]
    fn the_report_reads_the_same_as_table_and_as_json() {
        let report = Report::new(vec![
            Check::ok("port", "free"),
            Check::note("libtorch", "CPU", "none"),
            Check::fault("voice", "mute", "sing"),
        ]);
        let mut table = Vec::new();
        report.write_to(&mut table).unwrap();
        let table = String::from_utf8(table).unwrap();
        assert_eq!(
            table,
            format!(
                "ok     port       free\nnote   libtorch   CPU\n{0:17} fix: none\nFAULT  voice      mute\n{0:17} fix: sing\n\
                 mouthpiece {1}: 1 fault\n",
                "",
                env!("CARGO_PKG_VERSION")
            )
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["healthy"], false);
        assert_eq!(
            json["checks"][2],
            serde_json::json!({"name": "voice", "status": "fault", "found": "mute", "fix": "sing"})
        );
        assert!(Report::new(report.checks[..2].to_vec()).is_healthy());
    }
}
