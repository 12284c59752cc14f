//! Arguments of `mouthpiece avatars`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::avatar::manifest::MatteSource;
use crate::media::Trim;
use crate::preparation::{MaskSource, ParsingMode};

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Avatars {
    /// Make an avatar of a photo or a clip of a face, or of what MuseTalk's own script prepared
    Create(Box<Create>),
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

#[derive(Clone, Debug, Args)]
pub(crate) struct Create {
    /// What programs will call it: a-z, 0-9, '-' and '_'
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// The photo (JPEG, PNG, WebP, BMP, GIF) or clip (whatever GStreamer decodes)
    #[arg(long, value_name = "FILE", required_unless_present = "from_musetalk")]
    pub(crate) from: Option<PathBuf>,
    /// A folder that MuseTalk's realtime script prepared, results/v15/avatars/NAME; nothing in it is run
    #[arg(
        long,
        value_name = "DIR",
        conflicts_with_all = [
            "from", "face", "still", "closed", "alpha", "whole", "size", "trim", "mirror", "bbox_shift", "mask", "parsing_mode"
        ]
    )]
    pub(crate) from_musetalk: Option<PathBuf>,
    /// What people will call it [default: the id with a capital]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Under which terms the pictures may be used; asked for on a terminal
    #[arg(long, value_name = "TEXT")]
    pub(crate) licence: Option<String>,
    /// Who agreed to what, whose face it is; asked for on a terminal
    #[arg(long, value_name = "TEXT")]
    pub(crate) consent: Option<String>,
    /// Which face, from 1 at the left [default: the largest]
    #[arg(long, value_name = "N")]
    pub(crate) face: Option<usize>,
    /// A photo that does not move but for its mouth
    #[arg(long)]
    pub(crate) still: bool,
    /// Shut a mouth that is open or speaks, so that it is shut while nothing is said
    #[arg(long)]
    pub(crate) closed: bool,
    /// Cut it out, so that pages show it over their own background: by the file's own alpha channel, or from a plain background
    /// such as a green screen or a wall of one colour
    #[arg(long, value_enum, value_name = "HOW")]
    pub(crate) alpha: Option<MatteSource>,
    /// All of the photo, also where the head is small in it
    #[arg(long)]
    pub(crate) whole: bool,
    /// The longer side of its frames at most, in pixels [default: 720 of a photo, 1280 of a clip]
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(256..=1920))]
    pub(crate) size: Option<u32>,
    /// The part of a clip that is used, such as 2.5..10 or 1:02..
    #[arg(long, value_name = "START..END")]
    pub(crate) trim: Option<Trim>,
    /// Swap left and right, as cameras of laptops do
    #[arg(long)]
    pub(crate) mirror: bool,
    /// How far down the middle of the redrawn box is moved, in pixels: musetalk-v1.0 opens the mouth further then
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, default_value = "0",
        value_parser = clap::value_parser!(i32).range(-200..=200))]
    pub(crate) bbox_shift: i32,
    /// What a MuseTalk avatar's mask is made of: the points of the face, or upstream's face parsing, which sees hair and hands
    /// too [default: parsing if models/face-parse-bisent has its weights]
    #[arg(long, value_enum, value_name = "SOURCE")]
    pub(crate) mask: Option<MaskSource>,
    /// Which part of the face that mask shows, as upstream's option of this name [default: jaw; raw for musetalk-v1.0]
    #[arg(long, value_enum, value_name = "MODE")]
    pub(crate) parsing_mode: Option<ParsingMode>,
    /// What draws its mouth: a folder of models, such as musetalk-v1.5 [default: portrait, which needs no download; what
    /// MuseTalk's script says with --from-musetalk]
    #[arg(long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// How it speaks: espeak-ng or hibari [default: hibari for en-us]
    #[arg(long, value_name = "NAME")]
    pub(crate) engine: Option<String>,
    /// Its language, a BCP 47 tag
    #[arg(long, value_name = "TAG", default_value = "en-us")]
    pub(crate) language: String,
    /// Replace the avatar of this id
    #[arg(long)]
    pub(crate) replace: bool,
    #[arg(long)]
    pub(crate) json: bool,
}
