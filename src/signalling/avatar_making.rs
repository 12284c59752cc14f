//! Avatars as the API lists, makes and deletes them: what it asks of whoever does so.
//!
//! In here: the trait between the API and the server, and plain data. Not in here: HTTP (`api`), files that are sent
//! (`uploads`), how an avatar is made (`preparation`, which the server calls).

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::uploads::UploadLimits;
use crate::avatar::manifest::{Kind, MatteSource};
use crate::ids::AvatarId;
use crate::media::Trim;
use crate::picture::matte::MattePlace;

/// How the API makes avatars.
#[derive(Clone)]
pub struct AvatarApi {
    /// Who does.
    pub maker: Arc<dyn AvatarMaker>,
    /// Whether whoever may use the API may also make and delete avatars.
    pub uploads: bool,
    /// How much may be sent for that.
    pub limits: UploadLimits,
    /// Where what is sent lies meanwhile, without a name: on the disk that the avatars are on.
    pub folder: PathBuf,
}

/// Lists, makes and deletes avatars. Implemented by the server, faked in tests. No error of it names a path.
pub trait AvatarMaker: Send + Sync {
    /// All avatars by their ids.
    fn list(&self) -> BoxFuture<'_, Vec<AvatarSummary>>;
    /// A small picture of an avatar, as PNG.
    fn preview(&self, id: AvatarId) -> BoxFuture<'_, Result<Vec<u8>, AvatarFault>>;
    /// Makes an avatar of a photo or clip, which is readable meanwhile; told to stop, or failing, it leaves nothing. `reached`
    /// is called from a thread that works on it.
    fn make(
        &self,
        source: PathBuf,
        order: AvatarOrder,
        reached: Box<dyn FnMut(Reached) + Send>,
        stop: CancellationToken,
    ) -> BoxFuture<'_, Result<MadeAvatar, NotMade>>;
    /// Whether an avatar of this id may be begun, before anything is sent for it.
    fn check(&self, id: AvatarId, replace: bool) -> BoxFuture<'_, Result<(), AvatarFault>>;
    /// Removes an avatar. Sessions that show it go on.
    fn delete(&self, id: AvatarId) -> BoxFuture<'_, Result<(), AvatarFault>>;
}

/// What a list says of an avatar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AvatarSummary {
    /// What it is asked for by.
    pub id: AvatarId,
    /// What people call it.
    pub name: String,
    /// What it was made from.
    pub kind: Kind,
    /// The model that draws its mouth.
    pub model: String,
    /// Of its picture, in pixels.
    pub width: u32,
    /// Of its picture, in pixels.
    pub height: u32,
    /// Where the matte lies in its video, if it is cut out.
    pub matte: Option<MattePlace>,
    /// Frames of its own.
    pub frames: u32,
    /// Under which terms its pictures may be used, where that is known.
    pub licence: Option<String>,
    /// Another one when its picture is another, so that a browser fetches it anew; `None` if it has no picture.
    pub preview: Option<String>,
    /// Whether its model is there, so that it can be talked to.
    pub usable: bool,
    /// Whether it may be deleted over the API: not the server's own, and none that a program drew.
    pub deletable: bool,
}

/// An avatar that is asked for.
#[derive(Clone, Debug)]
pub struct AvatarOrder {
    /// What the photo or clip is called where it comes from.
    pub file_name: String,
    /// What programs will call it.
    pub id: AvatarId,
    /// What people will call it.
    pub name: String,
    /// Under which terms the pictures may be used.
    pub licence: String,
    /// Who agreed to what.
    pub consent: String,
    /// What it speaks, a BCP 47 tag.
    pub language: String,
    /// Which face, from 1 at the left; the largest if left out.
    pub face: Option<usize>,
    /// A photo that does not move but for its mouth.
    pub still: bool,
    /// All of a photo, even if the head is small in it.
    pub whole: bool,
    /// Left and right are swapped.
    pub mirror: bool,
    /// A mouth that is open in the source is shut in the avatar's own frames.
    pub closed: bool,
    /// What it is cut out by, if it is to be.
    pub alpha: Option<MatteSource>,
    /// What is taken of a clip.
    pub trim: Trim,
    /// The longer side of its frames at most, in pixels.
    pub side: Option<u32>,
    /// Whether an avatar of this id is replaced.
    pub replace: bool,
}

/// How far the making of an avatar is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reached {
    /// What is being done, in words.
    pub stage: &'static str,
    /// How much of the whole is done, 0 to 1.
    pub share: f64,
}

/// An avatar that was made.
#[derive(Clone, Debug)]
pub struct MadeAvatar {
    /// As a list says it.
    pub avatar: AvatarSummary,
    /// Its picture with the mesh and what its mouth moves, as PNG.
    pub found: Option<Vec<u8>>,
}

/// Why an avatar was not made.
#[derive(Clone, Debug)]
pub struct NotMade {
    /// The reason.
    pub fault: AvatarFault,
    /// The picture with what was found in it, as PNG.
    pub found: Option<Vec<u8>>,
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AvatarFault {
    /// For programs.
    pub code: AvatarFaultCode,
    /// For people; no path of this machine is in it.
    pub message: String,
}

impl AvatarFault {
    /// For this reason, in these words.
    pub fn new(code: AvatarFaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The `code` of such a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AvatarFaultCode {
    /// There is none of this id.
    UnknownAvatar,
    /// There is one of this id.
    AvatarExists,
    /// One of this id is being made.
    AvatarBusy,
    /// It may not be replaced or deleted over the API.
    AvatarProtected,
    /// There is no face that can be used, or it cannot be told which one is meant.
    NoUsableFace,
    /// The photo or clip cannot be used.
    UnusableFile,
    /// The disk is too small.
    DiskFull,
    /// Whoever asked for it has stopped it, or the server ends.
    Stopped,
    /// The server is at fault; its log says how.
    ServerFault,
}

impl AvatarFaultCode {
    /// As it is on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownAvatar => "unknown_avatar",
            Self::AvatarExists => "avatar_exists",
            Self::AvatarBusy => "avatar_busy",
            Self::AvatarProtected => "avatar_protected",
            Self::NoUsableFace => "no_usable_face",
            Self::UnusableFile => "unusable_file",
            Self::DiskFull => "disk_full",
            Self::Stopped => "stopped",
            Self::ServerFault => "server_fault",
        }
    }
}
