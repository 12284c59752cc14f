//! What is true for a run: arguments, settings file and defaults resolved and checked.
//!
//! Nothing but `cli` and this file reads the environment or looks for folders.

mod access;
mod asr;
mod endpoint;
mod file;
mod ice;
mod llm;
mod outputs;
mod tts;
mod whep;
mod whip;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

pub(crate) use outputs::Outputs;

use crate::cli::{Home, Machine, Serve};
use crate::dialogue;
use crate::ids::{AvatarId, InvalidAvatarId};
use crate::media::EncoderChoice;
use crate::musetalk::device::{DeviceChoices, DeviceError};
use crate::signalling::host::is_name;
use crate::signalling::quota::address::network;
use crate::signalling::tls::TlsFiles;
use crate::signalling::whep::WhepOptions;
pub(crate) use ice::Ice;

const DEFAULT_AVATAR: &str = "demo";
/// Of the page, unless the settings say otherwise.
pub(crate) const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
/// Sessions at a time unless the settings say otherwise; each holds an encoder.
const DEFAULT_MAX_SESSIONS: usize = 16;
/// Share of the frames that a device draws that may be promised; the rest is for what else the machine does.
const DEFAULT_MAX_LOAD: f64 = 0.9;
/// Share of the time that a session speaks: it listens, thinks and waits for the rest.
const DEFAULT_SPEAKING_SHARE: f64 = 0.2;

/// The project's folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Folders {
    /// `models`: lip-sync models, voices, and the avatars.
    pub(crate) models: PathBuf,
    /// `models/avatars`: a folder for each.
    pub(crate) avatars: PathBuf,
    /// `pipelines`: descriptions; those in the program are used where it is not there.
    pub(crate) pipelines: PathBuf,
}

/// Settings of `mouthpiece serve`.
#[derive(Clone, Debug, PartialEq)]
pub struct ServeConfig {
    /// Where everything lies.
    pub(crate) folders: Folders,
    /// Whom a session shows unless its client names another.
    pub(crate) avatar: AvatarId,
    /// Of the one port.
    pub(crate) listen: SocketAddr,
    /// Of the metrics, where they have an address of their own.
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// TLS by the server itself.
    pub(crate) tls: Option<TlsFiles>,
    /// Where mouths are drawn.
    pub(crate) device: DeviceChoices,
    /// What encodes the picture.
    pub(crate) encoder: EncoderChoice,
    /// How peers reach each other.
    pub(crate) ice: Ice,
    /// The one UDP and TCP port that all viewers come by; without it each has one of its own.
    pub(crate) media_port: Option<u16>,
    /// Origins other than the server's own whose pages may open the WebSocket.
    pub(crate) allowed_origins: Vec<String>,
    /// Names that the server answers to besides its addresses and `localhost`.
    pub(crate) allowed_hosts: Vec<String>,
    /// Tokens, without which nobody comes in; `None` where everybody may.
    pub(crate) access: Option<crate::access::Settings>,
    /// Whether avatars may be made and deleted over HTTP.
    pub(crate) uploads: bool,
    /// Ways out of sessions besides their viewers.
    pub(crate) outputs: Outputs,
    /// Whether pipelines are used as soon as they are edited.
    pub(crate) watch_pipelines: bool,
    /// Whether it is told over HTTP how they stand, and edited ones are used on demand.
    pub(crate) reload: bool,
    /// Proxies in front, which say who asks.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// Whether one address may have half of all connections at most, and ask for no more than its rates.
    pub(crate) limit_addresses: bool,
    /// Threads that the process may have, where that is less than the machine says.
    pub(crate) max_threads: Option<usize>,
    /// Sessions at a time; above 0.
    pub(crate) max_sessions: usize,
    /// Watched sessions are admitted while `speaking_share` of them needs no more than this share of what the device
    /// draws; above 0, at most 1.
    pub(crate) max_load: f64,
    /// Share of the time that a session is expected to speak; above 0, at most 1.
    pub(crate) speaking_share: f64,
    /// The language model that answers; built-in rules do without one.
    pub llm: Option<dialogue::llm::Settings>,
    /// The voice service that speaks for all avatars; their own voices do without one.
    pub tts: Option<crate::speech::tts::service::Settings>,
    /// The speech recogniser; without one nobody listens to microphones.
    pub asr: Option<crate::hearing::asr::Settings>,
    /// Viewers by WHEP.
    pub(crate) whep: WhepOptions,
    /// Sessions that are pushed to media servers.
    pub(crate) whip: whip::Whip,
    /// Frames with a fresh mouth carry a mark; for measuring what viewers see.
    pub(crate) mark_speech: bool,
}

/// The settings file, all of it optional.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    avatar: Option<String>,
    listen: Option<SocketAddr>,
    metrics_listen: Option<SocketAddr>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    device: Option<String>,
    encoder: Option<String>,
    stun: Option<String>,
    turn: Option<String>,
    ice_private: Option<bool>,
    turn_file: Option<PathBuf>,
    turn_urls: Vec<String>,
    turn_secret: Option<String>,
    turn_secret_file: Option<PathBuf>,
    relay_only: Option<bool>,
    media_port: Option<u16>,
    external_address: Vec<IpAddr>,
    allowed_origins: Vec<String>,
    allowed_hosts: Vec<String>,
    trusted_proxies: Vec<String>,
    insecure: Option<bool>,
    allow_uploads: Option<bool>,
    allow_outputs: Option<bool>,
    watch_pipelines: Option<bool>,
    allow_reload: Option<bool>,
    record_dir: Option<PathBuf>,
    limit_addresses: Option<bool>,
    max_threads: Option<usize>,
    max_sessions: Option<usize>,
    max_load: Option<f64>,
    speaking_share: Option<f64>,
    llm: llm::Table,
    tts: tts::Table,
    asr: asr::Table,
    outputs: outputs::Table,
    whep: whep::Table,
    whip: whip::Table,
    access: access::Table,
}

/// Why the server is not started: a setting by its name, and what would be right. Never shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("settings file {path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The id of the avatar is none.
    #[error(transparent)]
    Avatar(#[from] InvalidAvatarId),
    /// The device is none.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A STUN or TURN server is none.
    #[error("{field} {given:?} is not a valid address: use {example}")]
    Ice {
        /// The setting, as the file names it.
        field: &'static str,
        /// What stands there.
        given: String,
        /// What would be right.
        example: &'static str,
    },
    /// The folder of models and avatars is not there.
    #[error("no folder `models/avatars` in {0}: start in the project's folder or give --home DIR")]
    Home(String),
    /// No session would be allowed.
    #[error("max_sessions is 0: nobody could connect")]
    NoSessions,
    /// The address of a service is none.
    #[error("{field} {problem}")]
    Endpoint {
        /// The setting, as the file names it.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting has a value that it cannot have.
    #[error("{field} holds {given:?}, which is not {wanted}")]
    Entry {
        /// The setting, as the file names it.
        field: &'static str,
        /// What stands there.
        given: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// The file with the TURN server, or with its secret, cannot be read.
    #[error("{field} {path}: {problem}")]
    TurnFile {
        /// The setting, as the file names it.
        field: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Strangers could come in, and nothing says who may.
    #[error(
        "{setting} lets others than those on this machine come in, and there is no [access] that says who may: set \
         access.secret_file or access.jwks, so that nobody comes in without a token (`mouthpiece token` makes some), or let \
         everybody in with --insecure"
    )]
    NoAccess {
        /// What lets them in, as the file names it.
        setting: &'static str,
    },
    /// A share is not between 0 and 1.
    #[error("{field} is {given}: it is a share, above 0 and at most 1")]
    Share {
        /// The setting, as the file names it.
        field: &'static str,
        /// What stands there.
        given: f64,
    },
}

impl Folders {
    /// The folders under `--home`, the current folder, or a folder above the program (where cargo built it).
    pub(crate) fn find(home: &Home) -> Result<Self, ConfigError> {
        let holds_models = |folder: &Path| folder.join("models/avatars").is_dir();
        if let Some(home) = &home.home {
            return if holds_models(home) {
                Ok(Self::of(home))
            } else {
                Err(ConfigError::Home(home.display().to_string()))
            };
        }
        let current = std::env::current_dir().unwrap_or_default();
        let program = std::env::current_exe().unwrap_or_default();
        std::iter::once(current.as_path())
            .chain(program.ancestors().skip(1))
            .find(|folder| holds_models(folder))
            .map(Self::of)
            .ok_or_else(|| ConfigError::Home(current.display().to_string()))
    }

    fn of(home: &Path) -> Self {
        Self { models: home.join("models"), avatars: home.join("models/avatars"), pipelines: home.join("pipelines") }
    }
}

impl Machine {
    /// Devices and encoder, or their defaults.
    pub fn resolve(&self) -> Result<(DeviceChoices, EncoderChoice), ConfigError> {
        let device = self.device.as_deref().map_or(Ok(DeviceChoices::default()), str::parse)?;
        let encoder = match self.encoder.as_deref() {
            None | Some("auto") => EncoderChoice::Auto,
            Some(name) => EncoderChoice::Named(name.to_owned()),
        };
        Ok((device, encoder))
    }
}

impl ServeConfig {
    /// What is typed wins over the settings file, which wins over the defaults.
    pub fn resolve(home: &Home, typed: Serve) -> Result<Self, ConfigError> {
        let file = typed.config.as_deref().map_or_else(|| Ok(File::default()), File::load)?;
        let machine =
            Machine { device: typed.machine.device.or(file.device), encoder: typed.machine.encoder.or(file.encoder) };
        let (device, encoder) = machine.resolve()?;
        let avatar = typed.avatar.or(file.avatar).unwrap_or_else(|| DEFAULT_AVATAR.to_owned());
        let max_sessions = file.max_sessions.unwrap_or(DEFAULT_MAX_SESSIONS);
        if max_sessions == 0 {
            return Err(ConfigError::NoSessions);
        }
        let in_file = |path: &Path| line_in("turn_file", path, "turn:user:password@host:port");
        let turn = match (typed.turn, typed.turn_file) {
            (Some(turn), _) => Some(turn),
            (None, Some(path)) => Some(in_file(&path)?),
            (None, None) => {
                file.turn.map_or_else(|| file.turn_file.as_deref().map(in_file).transpose(), |turn| Ok(Some(turn)))?
            }
        };
        let turn_secret = match (std::env::var(ice::SECRET_VARIABLE).ok().or(file.turn_secret), file.turn_secret_file) {
            (None, Some(path)) => Some(line_in("turn_secret_file", &path, "static-auth-secret of the TURN server")?),
            (secret, _) => secret,
        };
        let share = |field, given: Option<f64>, default| match given.unwrap_or(default) {
            given if given > 0.0 && given <= 1.0 => Ok(given),
            given => Err(ConfigError::Share { field, given }),
        };
        let listen = typed.listen.or(file.listen).unwrap_or(DEFAULT_LISTEN);
        let ice = Ice {
            without_private: !typed.ice_private.or(file.ice_private).unwrap_or(true),
            on_loopback: listen.ip().is_loopback(),
            external: external([typed.external_address, file.external_address].concat())?,
            ..Ice::new(
                typed.stun.or(file.stun),
                turn,
                [typed.turn_urls, file.turn_urls].concat(),
                turn_secret,
                typed.relay_only.or(file.relay_only).unwrap_or(false),
            )?
        };
        let allowed_hosts = names([typed.allowed_hosts, file.allowed_hosts].concat())?;
        let trusted_proxies = networks(file.trusted_proxies)?;
        // Behind a proxy those who come are not on this machine, though they come from it.
        let stranger = match () {
            () if !listen.ip().is_loopback() => Some("listen"),
            () if !allowed_hosts.is_empty() => Some("allowed_hosts"),
            () if !trusted_proxies.is_empty() => Some("trusted_proxies"),
            () => None,
        };
        let access = file.access.resolve(std::env::var(access::SECRET_VARIABLE).ok())?;
        let is_insecure = typed.insecure.or(file.insecure).unwrap_or(false);
        if let Some(setting) = stranger.filter(|_| access.is_none() && !is_insecure) {
            return Err(ConfigError::NoAccess { setting });
        }
        // Only those come in who are on this machine, or may.
        let is_private = stranger.is_none() || access.is_some();
        Ok(Self {
            avatar: avatar.parse()?,
            folders: Folders::find(home)?,
            listen,
            tls: tls(typed.tls_certificate.or(file.tls_certificate), typed.tls_key.or(file.tls_key))?,
            metrics_listen: typed.metrics_listen.or(file.metrics_listen),
            device,
            encoder,
            ice,
            media_port: typed.media_port.or(file.media_port),
            allowed_origins: file.allowed_origins,
            allowed_hosts,
            outputs: file.outputs.resolve(
                typed.allow_outputs.or(file.allow_outputs).unwrap_or(is_private),
                typed.record_dir.or(file.record_dir),
            )?,
            access,
            uploads: typed.allow_uploads.or(file.allow_uploads).unwrap_or(is_private),
            watch_pipelines: typed.watch_pipelines.or(file.watch_pipelines).unwrap_or(true),
            reload: typed.allow_reload.or(file.allow_reload).unwrap_or(is_private),
            trusted_proxies,
            limit_addresses: file.limit_addresses.unwrap_or(true),
            max_threads: file.max_threads,
            max_sessions,
            max_load: share("max_load", file.max_load, DEFAULT_MAX_LOAD)?,
            speaking_share: share("speaking_share", file.speaking_share, DEFAULT_SPEAKING_SHARE)?,
            llm: file.llm.resolve(typed.llm_url, typed.llm_model, std::env::var(llm::KEY_VARIABLE).ok())?,
            tts: file.tts.resolve(tts::Typed {
                url: typed.tts_url,
                model: typed.tts_model,
                voice: typed.tts_voice,
                key: std::env::var(tts::KEY_VARIABLE).ok(),
            })?,
            asr: file.asr.resolve(typed.asr_url, typed.asr_model, std::env::var(asr::KEY_VARIABLE).ok())?,
            whep: file.whep.resolve(std::env::var(whep::TOKEN_VARIABLE).ok())?,
            whip: file.whip.resolve(std::env::var(whip::TOKEN_VARIABLE).ok(), is_private)?,
            mark_speech: typed.mark_speech,
        })
    }
}

/// What `mouthpiece token` signs with, and for whom: of a settings file, of a file of its own, or of the environment.
pub(crate) fn signing(
    config: Option<&Path>,
    secret_file: Option<PathBuf>,
) -> Result<(crate::endpoint::Key, Option<String>), ConfigError> {
    let file = config.map_or_else(|| Ok(File::default()), File::load)?;
    file.access.signing(std::env::var(access::SECRET_VARIABLE).ok(), secret_file)
}

impl File {
    fn load(path: &Path) -> Result<Self, ConfigError> {
        let error = |problem: String| ConfigError::File { path: path.display().to_string(), problem };
        let text = std::fs::read_to_string(path).map_err(|problem| error(problem.to_string()))?;
        file::parse(&text).map_err(error)
    }
}

/// The one line of a file that holds a secret.
fn line_in(field: &'static str, path: &Path, wanted: &'static str) -> Result<String, ConfigError> {
    let error = |problem: String| ConfigError::TurnFile { field, path: path.display().to_string(), problem };
    let text = std::fs::read_to_string(path).map_err(|problem| error(problem.to_string()))?;
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    match (lines.next(), lines.next()) {
        (Some(line), None) => Ok(line.to_owned()),
        _ => Err(error(format!("holds not one line: {wanted}"))),
    }
}

/// Addresses that viewers may be told.
fn external(addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>, ConfigError> {
    match addresses.iter().find(|address| address.is_unspecified() || address.is_multicast()) {
        Some(given) => Err(ConfigError::Entry {
            field: "external_address",
            given: given.to_string(),
            wanted: "an address that viewers can send to, such as 203.0.113.7",
        }),
        None => Ok(addresses),
    }
}

/// Both files or neither.
fn tls(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<TlsFiles>, ConfigError> {
    let missing = |field, beside| ConfigError::Endpoint { field, problem: format!("is missing beside {beside}") };
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles { certificate, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(missing("tls_key", "tls_certificate")),
        (None, Some(_)) => Err(missing("tls_certificate", "tls_key")),
    }
}

fn names(entries: Vec<String>) -> Result<Vec<String>, ConfigError> {
    match entries.iter().find(|entry| !is_name(entry)) {
        Some(given) => Err(ConfigError::Entry {
            field: "allowed_hosts",
            given: given.clone(),
            wanted: "a host name such as example.org",
        }),
        None => Ok(entries),
    }
}

fn networks(entries: Vec<String>) -> Result<Vec<IpNet>, ConfigError> {
    let wanted = "an address or a network such as 10.0.0.0/8";
    let parse = |given: String| network(&given).ok_or(ConfigError::Entry { field: "trusted_proxies", given, wanted });
    entries.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("models/avatars")).unwrap();
        let home = Home { home: Some(folder.path().to_owned()) };
        (folder, home)
    }

    fn typed() -> Serve {
        Serve::default()
    }

    #[test]
    fn what_is_typed_wins_over_the_file_and_the_file_over_the_defaults() {
        let (folder, home) = home();
        let path = folder.path().join("mouthpiece.toml");
        std::fs::write(&path, "avatar = \"file\"\nlisten = \"127.0.0.1:9\"\nencoder = \"vp8enc\"\n").unwrap();
        let serve = Serve { config: Some(path), avatar: Some("typed".into()), ..typed() };
        let config = ServeConfig::resolve(&home, serve).unwrap();
        assert_eq!(config.avatar.as_str(), "typed");
        assert_eq!(config.listen.port(), 9);
        assert_eq!(config.encoder, EncoderChoice::Named("vp8enc".into()));
        assert_eq!(ServeConfig::resolve(&home, typed()).unwrap().listen, DEFAULT_LISTEN);
    }

    #[test]
    fn candidates_of_this_machine_are_for_viewers_on_it_and_private_ones_unless_forbidden() {
        let (folder, home) = home();
        let ice = |serve: Serve| ServeConfig::resolve(&home, serve).unwrap().ice.for_webrtcbin();
        let at = |address: &str| Serve { listen: Some(address.parse().unwrap()), insecure: Some(true), ..typed() };
        assert_eq!((ice(typed()).private, ice(typed()).loopback), (true, true));
        assert!(ice(at("[::1]:0")).loopback && !ice(at("0.0.0.0:0")).loopback && !ice(at("192.0.2.1:0")).loopback);
        assert!(!ice(Serve { ice_private: Some(false), ..typed() }).private);
        let path = folder.path().join("s.toml");
        std::fs::write(&path, "ice_private = false").unwrap();
        assert!(!ice(Serve { config: Some(path), ..typed() }).private);
    }

    #[test]
    fn avatars_are_made_over_http_by_those_on_this_machine_unless_it_is_said_who_may() {
        let (folder, home) = home();
        let path = folder.path().join("s.toml");
        let uploads = |text: &str, typed: Serve| {
            std::fs::write(&path, text).unwrap();
            let typed = Serve { config: Some(path.clone()), insecure: Some(true), ..typed };
            ServeConfig::resolve(&home, typed).unwrap().uploads
        };
        assert!(uploads("", typed()));
        assert!(!uploads("listen = \"0.0.0.0:1\"", typed()));
        assert!(!uploads("allowed_hosts = [\"example.org\"]", typed()));
        assert!(!uploads("trusted_proxies = [\"127.0.0.1\"]", typed()));
        assert!(!uploads("allow_uploads = false", typed()));
        assert!(uploads("listen = \"0.0.0.0:1\"\nallow_uploads = true", typed()));
        assert!(uploads("allow_uploads = false", Serve { allow_uploads: Some(true), ..typed() }));
        let outputs = |text: &str, typed| {
            std::fs::write(&path, text).unwrap();
            let typed = Serve { config: Some(path.clone()), insecure: Some(true), ..typed };
            ServeConfig::resolve(&home, typed).unwrap().outputs.allowed
        };
        assert!(outputs("", typed()) && !outputs("listen = \"0.0.0.0:1\"", typed()));
        assert!(
            !outputs("allow_outputs = false", typed())
                && outputs("listen = \"0.0.0.0:1\"\nallow_outputs = true", typed())
        );
        assert!(!outputs("allow_outputs = true", Serve { allow_outputs: Some(false), ..typed() }));
    }

    #[test]
    fn where_strangers_could_come_in_it_has_to_be_said_who_may() {
        let (folder, home) = home();
        let path = folder.path().join("s.toml");
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
        let resolve = |text: &str, insecure: bool| {
            std::fs::write(&path, text).unwrap();
            let insecure = Some(true).filter(|_| insecure);
            ServeConfig::resolve(&home, Serve { config: Some(path.clone()), insecure, ..typed() })
        };
        for (open, setting) in [
            ("listen = \"0.0.0.0:1\"", "listen"),
            ("listen = \"192.0.2.1:1\"", "listen"),
            ("allowed_hosts = [\"example.org\"]", "allowed_hosts"),
            ("trusted_proxies = [\"127.0.0.1\"]", "trusted_proxies"),
        ] {
            let error = resolve(open, false).unwrap_err().to_string();
            assert!(
                error.starts_with(setting) && error.contains("[access]") && error.contains("--insecure"),
                "{error}"
            );
            assert!(resolve(open, true).unwrap().access.is_none());
            assert!(resolve(&format!("{open}\ninsecure = true"), false).unwrap().access.is_none());
            let guarded = resolve(&format!("{open}\n[access]\nsecret_file = {secret:?}"), false).unwrap();
            assert!(guarded.access.is_some() && guarded.uploads && guarded.outputs.allowed);
        }
        assert!(resolve("", false).unwrap().access.is_none());
        assert!(resolve(&format!("[access]\nsecret_file = {secret:?}"), false).unwrap().access.is_some());
    }

    #[test]
    fn a_bad_setting_is_named() {
        let (folder, home) = home();
        let path = folder.path().join("s.toml");
        for (text, named) in [
            ("avatr = 1", "avatr"),
            ("avatar = \"../x\"", "../x"),
            ("device = \"gpu\"", "gpu"),
            ("stun = \"stun.example.org\"", "stun"),
            ("turn = \"turn:h:1\"", "turn"),
            ("max_sessions = 0", "max_sessions"),
            ("max_load = 1.5", "max_load"),
            ("speaking_share = nan", "speaking_share"),
            ("allowed_hosts = [\"a b\"]", "a b"),
            ("trusted_proxies = [\"10.0.0.0/40\"]", "10.0.0.0/40"),
            ("turn_file = \"/nowhere\"", "/nowhere"),
            ("turn_secret_file = \"/nowhere\"", "turn_secret_file"),
            ("relay_only = true", "relay_only"),
            ("turn_urls = [\"turn:h:1\"]", "turn_secret"),
            ("external_address = [\"0.0.0.0\"]", "external_address"),
            ("media_port = 70000", "media_port"),
            ("tls_key = \"k\"", "tls_certificate is missing"),
            ("tls_certificate = \"c\"", "tls_key is missing"),
            ("[llm]\nurl = \"http://h/v1\"", "llm_model"),
            ("[llm]\nkey = \"sk-1\"", "key"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = ServeConfig::resolve(&home, Serve { config: Some(path.clone()), ..typed() }).unwrap_err();
            assert!(error.to_string().contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn a_turn_server_may_be_named_in_a_file_of_its_own() {
        let (folder, home) = home();
        let secret = folder.path().join("turn");
        std::fs::write(&secret, "\nturn:u:secret@h:1\n").unwrap();
        let path = folder.path().join("s.toml");
        std::fs::write(&path, format!("turn_file = {secret:?}\n")).unwrap();
        for serve in
            [Serve { turn_file: Some(secret.clone()), ..typed() }, Serve { config: Some(path.clone()), ..typed() }]
        {
            let config = ServeConfig::resolve(&home, serve).unwrap();
            assert_eq!(config.ice.turn.as_deref(), Some("turn:u:secret@h:1"));
        }
        let serve = Serve { config: Some(path), turn: Some("turn:u:typed@h:1".into()), ..typed() };
        assert_eq!(ServeConfig::resolve(&home, serve).unwrap().ice.turn.as_deref(), Some("turn:u:typed@h:1"));
        std::fs::write(&secret, "turn:u:secret@h:1\nturn:u:secret@h:2\n").unwrap();
        let error = ServeConfig::resolve(&home, Serve { turn_file: Some(secret), ..typed() }).unwrap_err().to_string();
        assert!(error.contains("turn_file") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_home_without_models_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home { home: Some(folder.path().to_owned()) };
        assert!(Folders::find(&home).unwrap_err().to_string().contains("models/avatars"));
    }
}
