//! Which layout each network of a model is quicker in on its device, found by trying both when it is loaded.
//!
//! On a CPU there is nothing to try: channels innermost are quicker for all networks on all processors that were measured. On
//! a GPU it depends on the network, on the card, and on whether there are kernels of our own for the norms. Runs on: the
//! thread that loads the model.

use std::time::Duration;

use tch::{Device, Tensor, nn};

use super::model::Model;
use crate::musetalk::Result;
use crate::musetalk::measuring::Stopwatch;
use crate::musetalk::network::layout::Layout;
use crate::musetalk::weights::set_layout_of;

/// Frames that are tried: as many as make the device work for longer than asking for it takes, since nothing is captured yet.
const FRAMES: i64 = 16;
/// How often; the quickest counts. Before it once, since kernels are loaded at the first call.
const ROUNDS: usize = 3;

/// The layouts of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layouts {
    pub unet: Layout,
    pub decoder: Layout,
}

impl Default for Layouts {
    fn default() -> Self {
        Self { unet: Layout::ChannelsLast, decoder: Layout::ChannelsLast }
    }
}

/// The quicker layout of each network, in which the weights of `store` are from now on. The model's have to be those.
pub(super) fn choose(model: &mut Model, store: &nn::VarStore) -> Result<()> {
    if model.device == Device::Cpu {
        return Ok(());
    }
    let Err(error) = try_both(model, store) else { return Ok(()) };
    // Memory may be too short for so many frames, and serves for fewer.
    tracing::warn!(%error, "layouts could not be tried: channels are innermost");
    model.layouts = Layouts::default();
    set_layout_of(store, "", Layout::ChannelsLast)
}

fn try_both(model: &mut Model, store: &nn::VarStore) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let (config, options) = (&model.config, (model.kind, model.device));
    let side = config.latent_size();
    let sample = Tensor::f_zeros([FRAMES, config.unet.in_channels, side, side], options)?;
    let latent = Tensor::f_zeros([FRAMES, config.unet.out_channels, side, side], options)?;
    let tokens = model.audio.no_tokens(FRAMES)?;

    model.layouts.unet = quicker("unet", |layout| {
        set_layout_of(store, "unet.", layout)?;
        let sample = layout.of(&sample)?;
        time(model.device, &|| model.generate(&sample, &tokens))
    })?;
    set_layout_of(store, "unet.", model.layouts.unet)?;
    model.layouts.decoder = quicker("decoder", |layout| {
        set_layout_of(store, "autoencoder.", layout)?;
        let latent = layout.of(&latent)?;
        time(model.device, &|| model.decode(&latent, 0, side))
    })?;
    set_layout_of(store, "autoencoder.", model.layouts.decoder)
}

fn quicker(network: &str, mut takes: impl FnMut(Layout) -> Result<Duration>) -> Result<Layout> {
    let (first, last) = (takes(Layout::ChannelsFirst)?, takes(Layout::ChannelsLast)?);
    let layout = if first < last { Layout::ChannelsFirst } else { Layout::ChannelsLast };
    tracing::info!(network, channels_first = ?first, channels_last = ?last, chosen = ?layout, "a layout by measurement");
    Ok(layout)
}

fn time(device: Device, work: &dyn Fn() -> Result<Tensor>) -> Result<Duration> {
    drop(work()?);
    let mut watch = Stopwatch::start(device);
    let mut quickest = Duration::MAX;
    for _ in 0..ROUNDS {
        drop(work()?);
        quickest = quickest.min(watch.lap());
    }
    Ok(quickest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quicker_is_chosen_and_channels_last_where_it_makes_no_difference() {
        let choose = |first, last| {
            quicker("a", |layout| Ok(if layout == Layout::ChannelsFirst { first } else { last })).unwrap()
        };
        let [fast, slow] = [1, 2].map(Duration::from_millis);
        assert_eq!(choose(fast, slow), Layout::ChannelsFirst);
        assert_eq!([choose(slow, fast), choose(fast, fast)], [Layout::ChannelsLast; 2]);
    }
}
