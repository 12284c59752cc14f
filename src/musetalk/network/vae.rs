//! diffusers' `AutoencoderKL`: the autoencoder of Stable Diffusion, which MuseTalk's latents come from.
//!
//! Pictures are `[batch, 3, height, width]` with -1 for black and 1 for white; decoding does not clamp them.
//! Latents are the autoencoder's own; the scaling factor is applied by the caller (`latent_scale`).

use tch::{Tensor, nn};

use super::attention::attend;
use super::config::KlConfig;
use super::layers::{Conv2d, GroupNorm, Linear};
use super::resnet::{Downsample2d, Norm, ResnetBlock2d, Upsample2d};
use crate::musetalk::Result;

/// All of this autoencoder's norms have this, whatever the UNet's have.
const EPS: f64 = 1e-6;

/// One head of all channels, with biases and a group norm of its own.
#[derive(Debug)]
struct MidAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl MidAttention {
    fn new(p: &nn::Path<'_>, channels: i64, groups: i64) -> Result<Self> {
        Ok(Self {
            group_norm: GroupNorm::new(p / "group_norm", groups, channels, EPS)?,
            to_q: Linear::new(p / "to_q", channels, channels)?,
            to_k: Linear::new(p / "to_k", channels, channels)?,
            to_v: Linear::new(p / "to_v", channels, channels)?,
            to_out: Linear::new(p / "to_out" / 0, channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.size4()?;
        let normed = self.group_norm.forward(x)?;
        let tokens = normed.f_permute([0, 2, 3, 1])?.f_reshape([batch, height * width, channels])?;
        let (query, key) = (self.to_q.forward(&tokens)?, self.to_k.forward(&tokens)?);
        let seen = self.to_out.forward(&attend(&query, &key, &self.to_v.forward(&tokens)?, 1)?)?;
        Ok(seen.f_view([batch, height, width, channels])?.f_permute([0, 3, 1, 2])?.f_add(x)?)
    }
}

#[derive(Debug)]
struct MidBlock {
    resnets: [ResnetBlock2d; 2],
    attention: MidAttention,
}

impl MidBlock {
    fn new(p: &nn::Path<'_>, channels: i64, norm: Norm) -> Result<Self> {
        let resnet = |index: i64| ResnetBlock2d::new(&(p / "resnets" / index), channels, channels, None, norm);
        Ok(Self {
            resnets: [resnet(0)?, resnet(1)?],
            attention: MidAttention::new(&(p / "attentions" / 0), channels, norm.groups)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.attention.forward(&self.resnets[0].forward(x, None)?)?;
        self.resnets[1].forward(&x, None)
    }
}

fn resnets(p: &nn::Path<'_>, count: i64, inputs: i64, outputs: i64, norm: Norm) -> Result<Vec<ResnetBlock2d>> {
    let inputs = |layer| if layer == 0 { inputs } else { outputs };
    (0..count).map(|layer| ResnetBlock2d::new(&(p / "resnets" / layer), inputs(layer), outputs, None, norm)).collect()
}

#[derive(Debug)]
struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<(Vec<ResnetBlock2d>, Option<Downsample2d>)>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn new(p: &nn::Path<'_>, config: &KlConfig, norm: Norm) -> Result<Self> {
        let channels = &config.block_out_channels;
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let mut down_blocks = Vec::new();
        let mut inputs = first;
        for (index, &outputs) in channels.iter().enumerate() {
            let p = p / "down_blocks" / index;
            let block = resnets(&p, config.layers_per_block, inputs, outputs, norm)?;
            let down = (index + 1 < channels.len())
                .then(|| Downsample2d::new(&(&p / "downsamplers" / 0), outputs, true))
                .transpose()?;
            down_blocks.push((block, down));
            inputs = outputs;
        }
        Ok(Self {
            conv_in: Conv2d::new(p / "conv_in", config.in_channels, first, 3)?,
            down_blocks,
            mid_block: MidBlock::new(&(p / "mid_block"), last, norm)?,
            conv_norm_out: GroupNorm::new(p / "conv_norm_out", norm.groups, last, norm.eps)?,
            conv_out: Conv2d::new(p / "conv_out", last, 2 * config.latent_channels, 3)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = self.conv_in.forward(x)?;
        for (resnets, downsampler) in &self.down_blocks {
            for resnet in resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(downsampler) = downsampler {
                x = downsampler.forward(&x)?;
            }
        }
        let x = self.mid_block.forward(&x)?;
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

#[derive(Debug)]
struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<(Vec<ResnetBlock2d>, Option<Upsample2d>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn new(p: &nn::Path<'_>, config: &KlConfig, norm: Norm) -> Result<Self> {
        let channels: Vec<i64> = config.block_out_channels.iter().rev().copied().collect();
        let (widest, narrowest) = (channels[0], channels[channels.len() - 1]);
        let mut up_blocks = Vec::new();
        let mut inputs = widest;
        for (index, &outputs) in channels.iter().enumerate() {
            let p = p / "up_blocks" / index;
            let block = resnets(&p, config.layers_per_block + 1, inputs, outputs, norm)?;
            let up =
                (index + 1 < channels.len()).then(|| Upsample2d::new(&(&p / "upsamplers" / 0), outputs)).transpose()?;
            up_blocks.push((block, up));
            inputs = outputs;
        }
        Ok(Self {
            conv_in: Conv2d::new(p / "conv_in", config.latent_channels, widest, 3)?,
            mid_block: MidBlock::new(&(p / "mid_block"), widest, norm)?,
            up_blocks,
            conv_norm_out: GroupNorm::new(p / "conv_norm_out", norm.groups, narrowest, norm.eps)?,
            conv_out: Conv2d::new(p / "conv_out", narrowest, config.out_channels, 3)?,
        })
    }

    fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let mut x = self.mid_block.forward(&self.conv_in.forward(z)?)?;
        for (resnets, upsampler) in &self.up_blocks {
            for resnet in resnets {
                x = resnet.forward(&x, None)?;
            }
            if let Some(upsampler) = upsampler {
                x = upsampler.forward(&x)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)
    }
}

/// From pictures to latents: to prepare avatars.
#[derive(Debug)]
pub struct AutoencoderKlEncoder {
    encoder: Encoder,
    quant_conv: Conv2d,
}

/// From latents to pictures.
#[derive(Debug)]
pub struct AutoencoderKlDecoder {
    post_quant_conv: Conv2d,
    decoder: Decoder,
}

fn norm(config: &KlConfig) -> Norm {
    Norm { groups: config.norm_num_groups, eps: EPS }
}

impl AutoencoderKlEncoder {
    /// `p` is the autoencoder's path, of which `encoder` and `quant_conv` are made.
    pub fn new(p: &nn::Path<'_>, config: &KlConfig) -> Result<Self> {
        config.validate()?;
        let both = 2 * config.latent_channels;
        Ok(Self {
            encoder: Encoder::new(&(p / "encoder"), config, norm(config))?,
            quant_conv: Conv2d::new(p / "quant_conv", both, both, 1)?,
        })
    }

    /// As [`AutoencoderKl::encode`].
    pub fn encode(&self, image: &Tensor) -> Result<(Tensor, Tensor)> {
        let moments = self.quant_conv.forward(&self.encoder.forward(image)?)?;
        let half = moments.size4()?.1 / 2;
        Ok((moments.f_narrow(1, 0, half)?, moments.f_narrow(1, half, half)?.f_clamp(-30.0, 20.0)?))
    }
}

impl AutoencoderKlDecoder {
    /// `p` is the autoencoder's path, of which `post_quant_conv` and `decoder` are made.
    pub fn new(p: &nn::Path<'_>, config: &KlConfig) -> Result<Self> {
        config.validate()?;
        let channels = config.latent_channels;
        Ok(Self {
            post_quant_conv: Conv2d::new(p / "post_quant_conv", channels, channels, 1)?,
            decoder: Decoder::new(&(p / "decoder"), config, norm(config))?,
        })
    }

    /// A latent, `[batch, latent_channels, ..]`, to pictures, `[batch, 3, height, width]`.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.decoder.forward(&self.post_quant_conv.forward(latent)?)
    }
}

/// Both halves, to train; serving needs the decoder only.
#[derive(Debug)]
pub struct AutoencoderKl {
    encoder: AutoencoderKlEncoder,
    decoder: AutoencoderKlDecoder,
}

impl AutoencoderKl {
    /// `p` is the path of `autoencoder`.
    pub fn new(p: &nn::Path<'_>, config: &KlConfig) -> Result<Self> {
        Ok(Self { encoder: AutoencoderKlEncoder::new(p, config)?, decoder: AutoencoderKlDecoder::new(p, config)? })
    }

    /// Mean and log variance of the latents, each `[batch, latent_channels, ..]`, of pictures `[batch, 3, height, width]`.
    pub fn encode(&self, image: &Tensor) -> Result<(Tensor, Tensor)> {
        self.encoder.encode(image)
    }

    /// As [`AutoencoderKlDecoder::decode`].
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        self.decoder.decode(latent)
    }
}
