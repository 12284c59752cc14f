//! Several networks on one device, each for the avatars that were prepared for it.
//!
//! In here: which network draws an avatar; one is loaded when the first avatar needs it, and stays. Not in here: loading one,
//! which is a function of whoever starts the engine. Runs on: the engine's thread.

use std::collections::BTreeMap;

use super::{AvatarAssets, AvatarHandle, LipSync, LipSyncError, Mouth, MouthRun};

/// Loads the network of this name.
pub type LoadNetwork = Box<dyn FnMut(&str) -> Result<Box<dyn LipSync>, LipSyncError>>;

/// The networks that are loaded, and whose avatars are whose.
pub struct Networks {
    load: LoadNetwork,
    loaded: Vec<(String, Box<dyn LipSync>)>,
    /// By handle: which of the loaded draws it, and what that one calls it.
    avatars: BTreeMap<usize, (usize, AvatarHandle)>,
    /// How many avatars there have been.
    added: usize,
}

impl Networks {
    /// Has none loaded yet.
    pub fn new(load: LoadNetwork) -> Self {
        Self { load, loaded: Vec::new(), avatars: BTreeMap::new(), added: 0 }
    }

    /// Loads the network of a model's name, so that no avatar has to wait for it. Its place among the loaded.
    pub fn preload(&mut self, model: &str) -> Result<usize, LipSyncError> {
        if let Some(at) = self.loaded.iter().position(|(name, _)| name == model) {
            return Ok(at);
        }
        let network = (self.load)(model)?;
        self.loaded.push((model.to_owned(), network));
        Ok(self.loaded.len() - 1)
    }

    fn whose(&self, run: &MouthRun) -> Result<(usize, AvatarHandle), LipSyncError> {
        self.avatars.get(&run.avatar.0).copied().ok_or_else(|| {
            let problem = format!("avatar {} is not there: it was never added, or removed", run.avatar.0);
            LipSyncError::Latents { path: String::new(), problem }
        })
    }
}

impl LipSync for Networks {
    fn context_samples(&self) -> usize {
        self.loaded.iter().map(|(_, network)| network.context_samples()).max().unwrap_or(0)
    }

    fn add_avatar(&mut self, assets: &AvatarAssets) -> Result<AvatarHandle, LipSyncError> {
        let at = self.preload(&assets.avatar.manifest.model)?;
        let (_, network) = &mut self.loaded[at];
        let own = network.add_avatar(assets)?;
        let handle = self.added;
        self.added += 1;
        self.avatars.insert(handle, (at, own));
        Ok(AvatarHandle(handle))
    }

    fn remove_avatar(&mut self, avatar: AvatarHandle) {
        if let Some((at, own)) = self.avatars.remove(&avatar.0)
            && let Some((_, network)) = self.loaded.get_mut(at)
        {
            network.remove_avatar(own);
        }
    }

    fn network_of(&self, avatar: AvatarHandle) -> usize {
        self.avatars.get(&avatar.0).map_or(0, |(at, _)| *at)
    }

    fn is_slow_at_first(&self, avatar: AvatarHandle) -> bool {
        let network = self.avatars.get(&avatar.0).and_then(|(at, own)| Some((self.loaded.get(*at)?, *own)));
        network.is_some_and(|((_, network), own)| network.is_slow_at_first(own))
    }

    fn warm_up(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        self.each(runs, |network, own| network.warm_up(own))
    }

    fn draw(&mut self, runs: &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        self.each(runs, |network, own| network.draw(own))
    }
}

impl Networks {
    /// Has each network `draw` its own runs.
    fn each(
        &mut self,
        runs: &[MouthRun],
        draw: impl Fn(&mut dyn LipSync, &[MouthRun]) -> Result<Vec<Vec<Mouth>>, LipSyncError>,
    ) -> Result<Vec<Vec<Mouth>>, LipSyncError> {
        let whose = runs.iter().map(|run| self.whose(run)).collect::<Result<Vec<_>, _>>()?;
        let mut drawn = vec![Vec::new(); runs.len()];
        for (at, (_, network)) in self.loaded.iter_mut().enumerate() {
            let its = || whose.iter().enumerate().filter(|(_, (of, _))| *of == at);
            let own: Vec<MouthRun> =
                its().map(|(run, (_, avatar))| MouthRun { avatar: *avatar, ..runs[run].clone() }).collect();
            if own.is_empty() {
                continue;
            }
            for ((run, _), mouths) in its().zip(draw(network.as_mut(), &own)?) {
                drawn[run] = mouths;
            }
        }
        Ok(drawn)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kit::{self, network::FakeNetwork};

    /// Draws pixels of its model's colour, and says which of its avatars they are of.
    fn load(model: &str) -> Result<Box<dyn LipSync>, LipSyncError> {
        let colour = match model {
            "red" => 1,
            "blue" => 2,
            _ => return Err(kit::network::libtorch_error("there is no such model")),
        };
        let network = FakeNetwork::of_frames(move |run, _| kit::network::pixel([colour, run.avatar.0 as u8, 0]));
        Ok(Box::new(network))
    }

    fn assets(model: &str) -> AvatarAssets {
        let mut avatar = kit::avatar::tiny();
        model.clone_into(&mut avatar.manifest.model);
        AvatarAssets { avatar: Arc::new(avatar), decoder: None }
    }

    fn colours(drawn: &[Vec<Mouth>]) -> Vec<Vec<[u8; 2]>> {
        let pixel = |mouth: &Mouth| mouth.clone().into_crop().map(|crop| [crop.rgb[0], crop.rgb[1]]);
        drawn.iter().map(|mouths| mouths.iter().filter_map(pixel).collect()).collect()
    }

    #[test]
    fn each_avatar_is_drawn_by_the_network_that_it_was_prepared_for() {
        let mut networks = Networks::new(Box::new(load));
        let handles = ["red", "blue", "red"].map(|model| networks.add_avatar(&assets(model)).unwrap());
        let run = |avatar, frames| MouthRun { avatar, poses: vec![0; frames], audio: Arc::from([]), first_frame_at: 0 };
        let drawn = networks.draw(&[run(handles[2], 1), run(handles[1], 2), run(handles[0], 1)]).unwrap();
        assert_eq!(colours(&drawn), [vec![[1, 1]], vec![[2, 0], [2, 0]], vec![[1, 0]]]);
        assert_eq!(handles.map(|avatar| networks.network_of(avatar)), [0, 1, 0]);

        networks.remove_avatar(handles[1]);
        assert!(networks.draw(&[run(handles[1], 1)]).is_err());
        assert_ne!(networks.add_avatar(&assets("blue")).unwrap(), handles[1], "no handle is given twice");
    }

    #[test]
    fn a_model_that_cannot_be_loaded_harms_no_other() {
        let mut networks = Networks::new(Box::new(load));
        let red = networks.add_avatar(&assets("red")).unwrap();
        assert!(networks.add_avatar(&assets("green")).unwrap_err().to_string().contains("no such model"));
        let run = MouthRun { avatar: red, poses: vec![0], audio: Arc::from([]), first_frame_at: 0 };
        assert_eq!(colours(&networks.draw(&[run]).unwrap()), [vec![[1, 0]]]);
    }
}
