//! Arguments of `mouthpiece serve`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::Machine;
use super::secrets::TURN_VARIABLE;

#[derive(Clone, Debug, Default, Args)]
pub struct Serve {
    /// Avatar to speak as; `mouthpiece avatars list` shows them
    #[arg(long, value_name = "ID")]
    pub avatar: Option<String>,
    /// Address and port of the page, the WebSocket and the metrics [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address and port of the metrics, which then are nowhere else [default: with the page]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// Certificate (PEM, with those that signed it) for TLS by the server itself; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Private key (PEM) of the certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
    #[command(flatten)]
    pub machine: Machine,
    /// Settings file (TOML); what is typed here wins over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// STUN server given to browsers and used here, such as stun:stun.example.org:3478
    #[arg(long, value_name = "URL")]
    pub stun: Option<String>,
    /// TURN server, such as turn:user:password@turn.example.org:3478; everybody on this machine may read what is typed, so
    /// better in the environment or in a file
    #[arg(long, env = TURN_VARIABLE, hide_env_values = true, value_name = "URL", conflicts_with = "turn_file")]
    pub turn: Option<String>,
    /// TURN URL given to browsers, such as turns:turn.example.org:5349; once for each. Without one they are given that of
    /// --turn
    #[arg(long = "turn-url", value_name = "URL")]
    pub turn_urls: Vec<String>,
    /// Whether browsers connect by TURN only [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub relay_only: Option<bool>,
    /// UDP and TCP port that all viewers come by [default: a UDP port for each viewer]
    #[arg(long, value_name = "PORT")]
    pub media_port: Option<u16>,
    /// Address that viewers are told instead of the machine's own, where those are behind an address translator, as a
    /// container's and many a cloud's are; once for each
    #[arg(long = "external-address", value_name = "ADDRESS")]
    pub external_address: Vec<IpAddr>,
    /// Whether viewers' ICE candidates with private addresses are used, which viewers in a network of your own have; turn
    /// it off on a public server beside machines that strangers must not send packets to [default: true]
    #[arg(long, value_name = "BOOL")]
    pub ice_private: Option<bool>,
    /// File that holds the TURN server's URL, password and all
    #[arg(long, value_name = "FILE")]
    pub turn_file: Option<PathBuf>,
    /// Another name that the server answers to, besides its addresses and localhost; once for each
    #[arg(long = "allowed-host", value_name = "NAME")]
    pub allowed_hosts: Vec<String>,
    /// Whether everybody who can reach the server may come in, where it listens elsewhere than on loopback or names a proxy or
    /// another host; without it such a server wants tokens (table `access` of the settings) [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub insecure: Option<bool>,
    /// Whether whoever may open the page may also make and delete avatars there [default: true where the server listens on
    /// loopback, without a proxy or another name]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub allow_uploads: Option<bool>,
    /// Whether whoever may use the API may also start outputs: RTMP and SRT pushes, recordings, HLS [default: true where the
    /// server listens on loopback, without a proxy or another name]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub allow_outputs: Option<bool>,
    /// Whether pipelines/*.launch are used as soon as they are edited; a bad one is refused, and the one before goes on
    /// [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub watch_pipelines: Option<bool>,
    /// Whether whoever may use the API may also see how pipelines/*.launch stand and have edited ones used [default: true where
    /// the server listens on loopback, without a proxy or another name]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub allow_reload: Option<bool>,
    /// Folder that recordings and HLS go into; without it there are none
    #[arg(long, value_name = "DIR")]
    pub record_dir: Option<PathBuf>,
    /// OpenAI-compatible endpoint that answers what users write, such as http://127.0.0.1:8080/v1; its key is read from
    /// MOUTHPIECE_LLM_KEY or the settings file's key_file
    #[arg(long, value_name = "URL")]
    pub llm_url: Option<String>,
    /// Name of the model there
    #[arg(long, value_name = "NAME")]
    pub llm_model: Option<String>,
    /// OpenAI-compatible endpoint that speaks for all avatars, such as http://127.0.0.1:8880/v1, or a synthesiser behind a
    /// WebSocket, such as ws://127.0.0.1:9000/speak; their own voices take over where it fails. Its key is read from MOUTHPIECE_TTS_KEY or the settings file's key_file
    #[arg(long, value_name = "URL")]
    pub tts_url: Option<String>,
    /// Name of the model there; a WebSocket needs none
    #[arg(long, value_name = "NAME")]
    pub tts_model: Option<String>,
    /// Name of the voice there [default: alloy]
    #[arg(long, value_name = "NAME")]
    pub tts_voice: Option<String>,
    /// Speech recogniser behind an OpenAI-compatible audio/transcriptions endpoint, such as http://127.0.0.1:8000/v1: viewers
    /// may then speak to the avatar. Its key is read from MOUTHPIECE_ASR_KEY or the settings file's key_file
    #[arg(long, value_name = "URL")]
    pub asr_url: Option<String>,
    /// Name of the model there
    #[arg(long, value_name = "NAME")]
    pub asr_model: Option<String>,
    /// Draw a mark into every frame with a fresh mouth, so that a program that looks at the picture can tell when speech
    /// is seen. For measuring only: viewers see it too
    #[arg(long, hide = true)]
    pub mark_speech: bool,
}
