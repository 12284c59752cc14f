//! diffusers' `UNet2DConditionModel` at time step 0: two latents and audio tokens in, the talking face's latent out.
//!
//! Names and order of the modules are the checkpoint's. Not in here: adding the result to the reference latent, and
//! the scaling of latents (`latent_scale`).

use tch::{Device, Kind, Tensor, nn};

use super::attention::Transformer2d;
use super::config::UnetConfig;
use super::layers::{Conv2d, GroupNorm, Linear};
use super::resnet::{Downsample2d, Norm, ResnetBlock2d, Upsample2d};
use crate::musetalk::Result;

#[derive(Debug)]
struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    /// The sinusoid of time step 0, `[1, channels]`.
    sinusoid: Tensor,
}

impl TimeEmbedding {
    fn new(p: &nn::Path<'_>, channels: i64, flip_sin_to_cos: bool) -> Result<Self> {
        let half = channels / 2;
        let options = (Kind::Float, Device::Cpu);
        let (sin, cos) = (Tensor::f_zeros([1, half], options)?, Tensor::f_ones([1, half], options)?);
        let halves = if flip_sin_to_cos { [cos, sin] } else { [sin, cos] };
        Ok(Self {
            linear_1: Linear::new(p / "linear_1", channels, 4 * channels)?,
            linear_2: Linear::new(p / "linear_2", 4 * channels, 4 * channels)?,
            sinusoid: Tensor::f_cat(&halves, 1)?.f_to_device(p.device())?,
        })
    }

    fn forward(&self) -> Result<Tensor> {
        let sinusoid = self.sinusoid.f_to_kind(self.linear_1.kind())?;
        self.linear_2.forward(&self.linear_1.forward(&sinusoid)?.f_silu()?)
    }
}

/// What is the same for all blocks.
struct Common {
    time: i64,
    context: i64,
    heads: i64,
    norm: Norm,
}

impl Common {
    fn resnet(&self, p: nn::Path<'_>, inputs: i64, outputs: i64) -> Result<ResnetBlock2d> {
        ResnetBlock2d::new(&p, inputs, outputs, Some(self.time), self.norm)
    }

    fn attention(&self, p: nn::Path<'_>, channels: i64) -> Result<Transformer2d> {
        Transformer2d::new(&p, channels, self.context, self.heads, self.norm.groups)
    }
}

/// Both kinds of down block; `DownBlock2D` has no attentions.
#[derive(Debug)]
struct DownBlock {
    resnets: Vec<ResnetBlock2d>,
    attentions: Vec<Transformer2d>,
    downsampler: Option<Downsample2d>,
}

impl DownBlock {
    fn forward(&self, x: Tensor, context: &Tensor, time: Option<&Tensor>, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for (index, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(&x, time)?;
            if let Some(attention) = self.attentions.get(index) {
                x = attention.forward(&x, context)?;
            }
            skips.push(x.shallow_clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x)?;
            skips.push(x.shallow_clone());
        }
        Ok(x)
    }
}

#[derive(Debug)]
struct UpBlock {
    resnets: Vec<ResnetBlock2d>,
    attentions: Vec<Transformer2d>,
    upsampler: Option<Upsample2d>,
}

impl UpBlock {
    fn forward(&self, x: Tensor, context: &Tensor, time: Option<&Tensor>, skips: &mut Vec<Tensor>) -> Result<Tensor> {
        let mut x = x;
        for (index, resnet) in self.resnets.iter().enumerate() {
            if let Some(skip) = skips.pop() {
                x = Tensor::f_cat(&[x, skip], 1)?;
            }
            x = resnet.forward(&x, time)?;
            if let Some(attention) = self.attentions.get(index) {
                x = attention.forward(&x, context)?;
            }
        }
        match &self.upsampler {
            Some(upsampler) => upsampler.forward(&x),
            None => Ok(x),
        }
    }
}

/// The whole network; diffusers' `unet_2d_condition.py`.
#[derive(Debug)]
pub struct Unet {
    conv_in: Conv2d,
    time_embedding: Option<TimeEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_resnets: [ResnetBlock2d; 2],
    mid_attention: Transformer2d,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Unet {
    /// `p` is the path of `unet`.
    pub fn new(p: &nn::Path<'_>, config: &UnetConfig) -> Result<Self> {
        config.validate()?;
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let common = Common {
            time: 4 * first,
            context: config.cross_attention_dim,
            heads: config.attention_head_dim,
            norm: Norm { groups: config.norm_num_groups, eps: config.norm_eps },
        };
        let mid = p / "mid_block";
        Ok(Self {
            conv_in: Conv2d::new(p / "conv_in", config.in_channels, first, 3)?,
            time_embedding: Some(TimeEmbedding::new(&(p / "time_embedding"), first, config.flip_sin_to_cos)?),
            down_blocks: down_blocks(&(p / "down_blocks"), config, &common)?,
            mid_resnets: [
                common.resnet(&mid / "resnets" / 0, last, last)?,
                common.resnet(&mid / "resnets" / 1, last, last)?,
            ],
            mid_attention: common.attention(&mid / "attentions" / 0, last)?,
            up_blocks: up_blocks(&(p / "up_blocks"), config, &common)?,
            conv_norm_out: GroupNorm::new(p / "conv_norm_out", config.norm_num_groups, first, config.norm_eps)?,
            conv_out: Conv2d::new(p / "conv_out", first, config.out_channels, 3)?,
        })
    }

    /// `sample` is `[batch, in_channels, height, width]`, `context` the audio, `[batch, tokens, cross_attention_dim]`.
    pub fn forward(&self, sample: &Tensor, context: &Tensor) -> Result<Tensor> {
        self.forward_probed(sample, context, &mut |_, _| ())
    }

    /// [`Unet::forward`], showing what comes out of each top-level module to `probe`, by the module's name: the first one
    /// that differs from another implementation's is where to look.
    pub fn forward_probed(
        &self,
        sample: &Tensor,
        context: &Tensor,
        probe: &mut dyn FnMut(&str, &Tensor),
    ) -> Result<Tensor> {
        // Every resnet applies SiLU to the embedding first, so it is applied once here.
        let time = self.time_embedding.as_ref().map(TimeEmbedding::forward).transpose()?;
        let time = time.map(|time| time.f_silu()).transpose()?;
        let time = time.as_ref();
        let mut x = self.conv_in.forward(sample)?;
        probe("conv_in", &x);
        let mut skips = vec![x.shallow_clone()];
        for (index, block) in self.down_blocks.iter().enumerate() {
            x = block.forward(x, context, time, &mut skips)?;
            probe(&format!("down_blocks.{index}"), &x);
        }
        x = self.mid_resnets[0].forward(&x, time)?;
        x = self.mid_attention.forward(&x, context)?;
        x = self.mid_resnets[1].forward(&x, time)?;
        probe("mid_block", &x);
        for (index, block) in self.up_blocks.iter().enumerate() {
            x = block.forward(x, context, time, &mut skips)?;
            probe(&format!("up_blocks.{index}"), &x);
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }

    /// Puts what never changes into the weights, exact up to rounding: the projected embedding of time step 0 into the
    /// biases of the resnets' first convolutions, so that the whole time path disappears, and the projections of each
    /// attention that have the same input into one. To serve only: what was folded is no longer the store's variables.
    pub fn fold(&mut self) -> Result<()> {
        let attentions = self.down_blocks.iter_mut().flat_map(|block| &mut block.attentions);
        let attentions = attentions.chain(self.up_blocks.iter_mut().flat_map(|block| &mut block.attentions));
        attentions.chain([&mut self.mid_attention]).try_for_each(Transformer2d::join_projections)?;
        let Some(embedding) = self.time_embedding.take() else { return Ok(()) };
        tch::no_grad(|| {
            let time = embedding.forward()?.f_silu()?;
            let down = self.down_blocks.iter_mut().flat_map(|block| &mut block.resnets);
            let up = self.up_blocks.iter_mut().flat_map(|block| &mut block.resnets);
            down.chain(&mut self.mid_resnets).chain(up).try_for_each(|resnet| resnet.fold_time(&time))
        })
    }

    /// Sets the last convolution to zero, so that a residual model starts by giving back the reference latent.
    pub fn zero_output(&mut self) -> Result<()> {
        tch::no_grad(|| {
            let mut weight = self.conv_out.weight.shallow_clone();
            let _ = weight.f_zero_()?;
            if let Some(bias) = &self.conv_out.bias {
                let _ = bias.shallow_clone().f_zero_()?;
            }
            Ok(())
        })
    }
}

fn down_blocks(p: &nn::Path<'_>, config: &UnetConfig, common: &Common) -> Result<Vec<DownBlock>> {
    let mut blocks = Vec::new();
    let mut inputs = config.block_out_channels[0];
    for (index, (&outputs, kind)) in (0i64..).zip(config.block_out_channels.iter().zip(&config.down_block_types)) {
        let p = p / index;
        let mut block = DownBlock { resnets: Vec::new(), attentions: Vec::new(), downsampler: None };
        for layer in 0..config.layers_per_block {
            let from = if layer == 0 { inputs } else { outputs };
            block.resnets.push(common.resnet(&p / "resnets" / layer, from, outputs)?);
            if kind == "CrossAttnDownBlock2D" {
                block.attentions.push(common.attention(&p / "attentions" / layer, outputs)?);
            }
        }
        if blocks.len() + 1 < config.block_out_channels.len() {
            block.downsampler = Some(Downsample2d::new(&(&p / "downsamplers" / 0), outputs, false)?);
        }
        inputs = outputs;
        blocks.push(block);
    }
    Ok(blocks)
}

fn up_blocks(p: &nn::Path<'_>, config: &UnetConfig, common: &Common) -> Result<Vec<UpBlock>> {
    let channels: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
    let mut blocks = Vec::new();
    let mut previous = channels[0];
    for (index, kind) in config.up_block_types.iter().enumerate() {
        let outputs = channels[index];
        // The skips come from the level's own down block, but the last of them from the one above it.
        let above = channels[(index + 1).min(channels.len() - 1)];
        let p = p / blocks.len();
        let mut block = UpBlock { resnets: Vec::new(), attentions: Vec::new(), upsampler: None };
        for layer in 0..=config.layers_per_block {
            let from = if layer == 0 { previous } else { outputs };
            let skip = if layer == config.layers_per_block { above } else { outputs };
            block.resnets.push(common.resnet(&p / "resnets" / layer, from + skip, outputs)?);
            if kind == "CrossAttnUpBlock2D" {
                block.attentions.push(common.attention(&p / "attentions" / layer, outputs)?);
            }
        }
        if index + 1 < channels.len() {
            block.upsampler = Some(Upsample2d::new(&(&p / "upsamplers" / 0), outputs)?);
        }
        previous = outputs;
        blocks.push(block);
    }
    Ok(blocks)
}
