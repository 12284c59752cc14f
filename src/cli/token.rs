//! Arguments of `mouthpiece token`.

use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;

use crate::access::{OWN_TENANT, Permission};
use crate::ids::AvatarId;

#[derive(Clone, Debug, Args)]
pub(crate) struct Token {
    /// What its holder may do: view, speak, converse, microphone, avatars, administer
    #[arg(long, value_name = "PERMISSION", value_delimiter = ',', required = true)]
    pub(crate) may: Vec<Permission>,
    /// Whose sessions it is for: a tenant can neither name nor hear another's; `main` is the server's own
    #[arg(long, value_name = "NAME", default_value = OWN_TENANT)]
    pub(crate) tenant: String,
    /// The only session that it is for
    #[arg(long, value_name = "NAME")]
    pub(crate) session: Option<String>,
    /// The only avatar that it is for
    #[arg(long, value_name = "ID")]
    pub(crate) avatar: Option<AvatarId>,
    /// How long it holds, such as 30m, 1h or 168h
    #[arg(long = "for", value_name = "TIME", default_value = "1h")]
    pub(crate) duration: SignedDuration,
    /// File with the secret that it is signed with [default: MOUTHPIECE_ACCESS_SECRET, else that of --config]
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Settings file (TOML) of the server that it is for
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}
