//! Arguments of `mouthpiece avatars`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Avatars {
    /// All avatars: what they were made from, how large they are, under which licence
    List {
        #[arg(long)]
        json: bool,
    },
    /// One avatar's manifest
    Show {
        #[arg(value_name = "ID")]
        id: String,
        #[arg(long)]
        json: bool,
    },
    /// Look at every byte: whether all files are there, unchanged, and can be used
    Check {
        /// The avatar to check [default: all]
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// Write manifests of an older format anew, of avatars that have no fault
        #[arg(long)]
        migrate: bool,
        #[arg(long)]
        json: bool,
    },
    /// Remove an avatar from the disk; a server that shows it goes on until it is loaded next
    Delete {
        #[arg(value_name = "ID")]
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Pack an avatar into one file
    Export {
        #[arg(value_name = "ID")]
        id: String,
        /// Where to write it, which must not be there yet [default: ID.mouthpiece]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Unpack an avatar that was packed with `export`, here or elsewhere
    Import {
        /// The file, or /dev/stdin
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The id that it gets here [default: its own]
        #[arg(long = "as", value_name = "ID")]
        id: Option<String>,
        /// Replace the avatar of that id
        #[arg(long)]
        replace: bool,
        #[arg(long)]
        json: bool,
    },
}
