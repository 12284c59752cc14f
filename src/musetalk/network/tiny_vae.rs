//! diffusers' `AutoencoderTiny` (TAESD): convolutions, ReLU and nearest upsampling, no norm and no attention.
//!
//! That makes it quick, and makes a strip of the picture depend on a strip of the latent only, so that rows which are
//! never pasted need not be decoded. Pictures are `[batch, 3, height, width]` with -1 for black and 1 for white;
//! decoding does not clamp them.

use tch::{Tensor, nn};

use super::config::TinyConfig;
use super::layers::{Conv2d, upsample_nearest};
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;

/// `AutoencoderTinyBlock`: three convolutions and the input around them.
#[derive(Debug)]
struct Block {
    conv: [Conv2d; 3],
}

impl Block {
    fn new(p: &nn::Path<'_>, channels: i64) -> Result<Self> {
        let conv = |index: i64| Conv2d::new(p / "conv" / index, channels, channels, 3);
        // 1 and 3 are the activations.
        Ok(Self { conv: [conv(0)?, conv(2)?, conv(4)?] })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let hidden = self.conv[1].forward_relu(&self.conv[0].forward_relu(x)?)?;
        self.conv[2].forward_adding_relu(&hidden, x)
    }
}

#[derive(Debug)]
enum Layer {
    Conv(Conv2d),
    Relu,
    Block(Block),
    Upsample(i64),
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Conv(conv) => conv.forward(x),
            Self::Relu => Ok(x.f_relu()?),
            Self::Block(block) => block.forward(x),
            Self::Upsample(factor) => upsample_nearest(x, *factor),
        }
    }

    /// The input rows, of `height`, that decide the output rows `[first, end)`.
    fn rows_needed(&self, [first, end]: [i64; 2], height: i64) -> [i64; 2] {
        let margin = match self {
            Self::Upsample(factor) => return [first / factor, (end + factor - 1) / factor],
            Self::Relu => 0,
            Self::Conv(_) => 1,
            Self::Block(_) => 3,
        };
        [(first - margin).max(0), (end + margin).min(height)]
    }

    fn factor(&self) -> i64 {
        if let Self::Upsample(factor) = self { *factor } else { 1 }
    }
}

/// From pictures to latents: diffusers' `EncoderTiny`.
#[derive(Debug)]
pub struct TinyVaeEncoder {
    layers: Vec<Layer>,
    pixel_unshuffle: i64,
}

impl TinyVaeEncoder {
    /// `p` is the path of `encoder` itself.
    pub fn new(p: &nn::Path<'_>, config: &TinyConfig) -> Result<Self> {
        config.validate()?;
        let p = p / "layers";
        let mut layers = Vec::new();
        let mut inputs = config.in_channels * config.pixel_unshuffle * config.pixel_unshuffle;
        for (&channels, &blocks) in config.encoder_block_out_channels.iter().zip(&config.num_encoder_blocks) {
            let at = &p / layers.len();
            layers.push(Layer::Conv(if layers.is_empty() {
                Conv2d::new(at, inputs, channels, 3)?
            } else {
                Conv2d::with(at, inputs, channels, 3, 2, 1, false)?
            }));
            for _ in 0..blocks {
                layers.push(Layer::Block(Block::new(&(&p / layers.len()), channels)?));
            }
            inputs = channels;
        }
        layers.push(Layer::Conv(Conv2d::new(&p / layers.len(), inputs, config.latent_channels, 3)?));
        Ok(Self { layers, pixel_unshuffle: config.pixel_unshuffle })
    }

    /// `[batch, 3, height, width]` to `[batch, latent_channels, height / scale, width / scale]`.
    pub fn encode(&self, image: &Tensor) -> Result<Tensor> {
        let mut x = image.f_add_scalar(1.0)?.f_div_scalar(2.0)?;
        if self.pixel_unshuffle > 1 {
            x = x.f_pixel_unshuffle(self.pixel_unshuffle)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

/// From latents to pictures: diffusers' `DecoderTiny`.
#[derive(Debug)]
pub struct TinyVaeDecoder {
    layers: Vec<Layer>,
    pixel_shuffle: i64,
}

impl TinyVaeDecoder {
    /// `p` is the path of `decoder` itself.
    pub fn new(p: &nn::Path<'_>, config: &TinyConfig) -> Result<Self> {
        config.validate()?;
        let p = p / "layers";
        let channels = &config.decoder_block_out_channels;
        let mut layers = vec![Layer::Conv(Conv2d::new(&p / 0, config.latent_channels, channels[0], 3)?), Layer::Relu];
        for (level, (&inputs, &blocks)) in channels.iter().zip(&config.num_decoder_blocks).enumerate() {
            for _ in 0..blocks {
                layers.push(Layer::Block(Block::new(&(&p / layers.len()), inputs)?));
            }
            if let Some(&outputs) = channels.get(level + 1) {
                layers.push(Layer::Upsample(config.upsampling_scaling_factor));
                layers.push(Layer::Conv(Conv2d::with(&p / layers.len(), inputs, outputs, 3, 1, 1, false)?));
            } else {
                let outputs = config.out_channels * config.pixel_shuffle * config.pixel_shuffle;
                layers.push(Layer::Conv(Conv2d::new(&p / layers.len(), inputs, outputs, 3)?));
            }
        }
        Ok(Self { layers, pixel_shuffle: config.pixel_shuffle })
    }

    /// The whole picture, `[batch, 3, height, width]`, of a latent `[batch, latent_channels, ..]`.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let rows = latent.size4()?.2;
        self.decode_rows(latent, 0, rows)
    }

    /// The part of the whole picture that belongs to `rows` rows of the latent from `first` on.
    ///
    /// Each layer is run on the rows that it and those after it can see, so the result is the whole decode's.
    pub fn decode_rows(&self, latent: &Tensor, first: i64, rows: i64) -> Result<Tensor> {
        let height = latent.size4()?.2;
        if first < 0 || rows < 1 || first.saturating_add(rows) > height {
            let problem = format!("{rows} rows from {first} on are not in a latent of {height}");
            return Err(LipSyncError::Config { field: "decode_rows".to_owned(), problem });
        }
        let needed = self.plan(first, rows, height);
        // TAESD's clamp: latents are kept within about -3 to 3.
        let mut x = latent.f_div_scalar(3.0)?.f_tanh()?.f_mul_scalar(3.0)?;
        let mut start = 0;
        for (layer, [first, end]) in self.layers.iter().zip(&needed) {
            x = crop(x, start, *first, *end)?;
            x = layer.forward(&x)?;
            start = first * layer.factor();
        }
        let scale: i64 = self.layers.iter().map(Layer::factor).product();
        x = crop(x, start, first * scale, (first + rows) * scale)?;
        if self.pixel_shuffle > 1 {
            x = x.f_pixel_shuffle(self.pixel_shuffle)?;
        }
        Ok(x.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?)
    }

    /// The rows of its input that each layer needs, found from the last layer back.
    fn plan(&self, first: i64, rows: i64, height: i64) -> Vec<[i64; 2]> {
        let mut heights = vec![height];
        for layer in &self.layers {
            heights.push(heights[heights.len() - 1] * layer.factor());
        }
        let scale = heights[self.layers.len()] / height;
        let mut range = [first * scale, (first + rows) * scale];
        let mut needed = Vec::new();
        for (layer, height) in self.layers.iter().zip(heights).rev() {
            range = layer.rows_needed(range, height);
            needed.push(range);
        }
        needed.reverse();
        needed
    }
}

/// Rows `[first, end)` of a map whose first row is row `start`.
fn crop(x: Tensor, start: i64, first: i64, end: i64) -> Result<Tensor> {
    let rows = x.size4()?.2;
    if first == start && end - first == rows { Ok(x) } else { Ok(x.f_narrow(2, first - start, end - first)?) }
}
