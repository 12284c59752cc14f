//! Who performs in sessions: avatars with their voices and characters, and one that takes the place of another.
//!
//! In here: making an avatar ready for a session, swapping that of a live one. Not in here: loading them (`avatar_cache`), at which tick a swap is seen (`playout`).
//! Runs on: the task of whoever asks; a swap of what is loaded, on a task of its own, since it is not left half done.

use std::sync::{Arc, Weak};

use super::super::avatar_cache::{AvatarCache, LoadedAvatar};
use super::core::SessionCore;
use super::{Services, missing_voice};
use crate::audience::Audience;
use crate::avatar::{FrameMakers, Manifest, OwnFrames};
use crate::conversation::Character;
use crate::dialogue::history::History;
use crate::ids::AvatarId;
use crate::session::{AvatarInfo, ErrorCode, Notice, NoticeBroadcast, Refusal};
use tracing::Instrument;

/// Makes avatars ready for sessions.
pub(super) struct Casting {
    pub(super) avatars: Arc<AvatarCache>,
    pub(super) frame_makers: FrameMakers,
    pub(super) services: Arc<Services>,
}

/// What clients are told of an avatar.
pub(super) fn info(own: &OwnFrames) -> AvatarInfo {
    let matte = own.avatar().manifest.matte_place();
    let Manifest { id, name, width, height, fps, .. } = own.avatar().manifest.clone();
    let gestures = own.gestures().into_iter().map(str::to_owned).collect();
    AvatarInfo { id, name, width, height, fps, matte, gestures }
}

impl Casting {
    /// An avatar's own frames in one session.
    pub(super) fn own_frames(&self, loaded: &LoadedAvatar, audience: &Audience) -> OwnFrames {
        self.frame_makers.frames_of(Arc::clone(&loaded.avatar), audience.clone())
    }

    /// Who speaks for an avatar, and the memory of a conversation that begins.
    pub(super) fn character(
        &self,
        manifest: &Manifest,
        notices: &NoticeBroadcast,
    ) -> anyhow::Result<(Character, History)> {
        let Services { dialogues, voices, .. } = &*self.services;
        let tts = voices.telling(&manifest.voice, missing_voice(notices))?;
        let (responder, history) = dialogues.of(&manifest.name, &manifest.dialogue, &manifest.voice.language);
        Ok((Character { tts, voice: manifest.voice.clone(), responder }, history))
    }

    /// Loads an avatar and has it take over in a session, which loading does not keep open.
    pub(super) async fn swap(self: Arc<Self>, session: Weak<SessionCore>, id: AvatarId) -> Result<AvatarInfo, Refusal> {
        let loaded = self.avatars.get(&id).await?;
        let core = session.upgrade().ok_or_else(closing)?;
        let swapping = core.tracker.clone().spawn(self.take_over(core, loaded).in_current_span());
        swapping.await.map_err(|_| closing())?
    }

    async fn take_over(
        self: Arc<Self>,
        core: Arc<SessionCore>,
        loaded: Arc<LoadedAvatar>,
    ) -> Result<AvatarInfo, Refusal> {
        let one_by_one = core.swapping.lock().await;
        let manifest = &loaded.avatar.manifest;
        let current = core.shown().info.clone();
        if current.id == manifest.id {
            core.notices.tell(&Notice::Avatar(current.clone()));
            return Ok(current);
        }
        let (character, _) = self.character(manifest, &core.notices).map_err(|error| {
            tracing::warn!(avatar = %manifest.id, error = format!("{error:#}"), "an avatar has no voice");
            let message = format!("avatar \"{}\" has no voice just now; the server's log says why", manifest.id);
            Refusal::new(ErrorCode::AvatarUnavailable, message)
        })?;
        let own = self.own_frames(&loaded, &core.audience);
        let info = info(&own);
        core.conversation.swap(own, loaded.handle, character).await.map_err(|_| closing())?;
        tracing::info!(avatar = %info.id, before = %current.id, "another avatar took over");
        core.show(info.clone(), loaded);
        core.notices.tell(&Notice::Avatar(info.clone()));
        drop(one_by_one);
        drop(core);
        // The one before may be used by nobody now.
        self.avatars.tidy_up().await;
        Ok(info)
    }
}

fn closing() -> Refusal {
    Refusal::new(ErrorCode::ShuttingDown, "the session is closing")
}
