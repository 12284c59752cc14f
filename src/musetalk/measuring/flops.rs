//! The arithmetic of one frame, counted from a configuration: what measured times are compared with. Pure.
//!
//! One FLOP is one multiplication or one addition, so a multiply-add is two. Convolutions, linear layers and the two
//! products of attention count; norms, activations and sums do not, nor does the folded time path, and the audio encoder
//! is left out because frames share its windows.

use crate::musetalk::network::audio_rows::FRAME_ROWS;
use crate::musetalk::network::config::{AutoencoderConfig, KlConfig, ModelConfig, TinyConfig, UnetConfig};

/// FLOP of one frame, by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arithmetic {
    /// The UNet.
    pub unet: i64,
    /// The decoder, of the rows that are decoded.
    pub decode: i64,
}

impl Arithmetic {
    /// Of a frame of which latent rows `[first, end)` are decoded.
    pub fn of_frame(config: &ModelConfig, decode_rows: [i64; 2]) -> Self {
        let size = config.latent_size();
        let tokens = FRAME_ROWS * (config.audio_encoder.encoder_layers + 1);
        let decode = match &config.autoencoder {
            AutoencoderConfig::Kl(kl) => kl_decoder(kl, size),
            AutoencoderConfig::Tiny(tiny) => tiny_decoder(tiny, size, decode_rows),
        };
        Self { unet: 2 * unet(&config.unet, size, tokens), decode: 2 * decode }
    }
}

// From here on in multiply-adds. `pixels` are those of the layer's output.

fn conv3(inputs: i64, outputs: i64, pixels: i64) -> i64 {
    9 * inputs * outputs * pixels
}

/// A linear layer on every token, or a 1x1 convolution on every pixel.
fn linear(inputs: i64, outputs: i64, tokens: i64) -> i64 {
    inputs * outputs * tokens
}

/// Queries times keys, and their softmax times the values; the number of heads makes no difference.
fn attend(queries: i64, keys: i64, channels: i64) -> i64 {
    2 * queries * keys * channels
}

fn resnet(inputs: i64, outputs: i64, pixels: i64) -> i64 {
    let shortcut = if inputs == outputs { 0 } else { linear(inputs, outputs, pixels) };
    conv3(inputs, outputs, pixels) + conv3(outputs, outputs, pixels) + shortcut
}

/// What the UNet's attention hears: how many tokens, and how wide they are.
#[derive(Clone, Copy)]
struct Context {
    tokens: i64,
    size: i64,
}

fn transformer(channels: i64, pixels: i64, context: Context) -> i64 {
    let square = linear(channels, channels, pixels);
    let projections = 2 * square;
    let own = 4 * square + attend(pixels, pixels, channels);
    let keys_and_values = 2 * linear(context.size, channels, context.tokens);
    let cross = 2 * square + keys_and_values + attend(pixels, context.tokens, channels);
    // GEGLU: eight times as wide, of which one half gates the other.
    let feed_forward = (8 + 4) * square;
    projections + own + cross + feed_forward
}

fn unet(config: &UnetConfig, size: i64, tokens: i64) -> i64 {
    let context = Context { tokens, size: config.cross_attention_dim };
    let channels = &config.block_out_channels;
    let levels = channels.len();
    let pixels = |level: usize| (size >> level) * (size >> level);
    let (first, last) = (channels[0], channels[levels - 1]);
    let mut total = conv3(config.in_channels, first, pixels(0));
    let mut inputs = first;
    for (level, (&outputs, kind)) in channels.iter().zip(&config.down_block_types).enumerate() {
        for layer in 0..config.layers_per_block {
            total += resnet(if layer == 0 { inputs } else { outputs }, outputs, pixels(level));
            if kind == "CrossAttnDownBlock2D" {
                total += transformer(outputs, pixels(level), context);
            }
        }
        if level + 1 < levels {
            total += conv3(outputs, outputs, pixels(level + 1));
        }
        inputs = outputs;
    }
    let lowest = pixels(levels - 1);
    total += 2 * resnet(last, last, lowest) + transformer(last, lowest, context);
    let mut previous = last;
    for (kind, level) in config.up_block_types.iter().zip((0..levels).rev()) {
        let outputs = channels[level];
        let above = channels[level.saturating_sub(1)];
        for layer in 0..=config.layers_per_block {
            let from = if layer == 0 { previous } else { outputs };
            let skip = if layer == config.layers_per_block { above } else { outputs };
            total += resnet(from + skip, outputs, pixels(level));
            if kind == "CrossAttnUpBlock2D" {
                total += transformer(outputs, pixels(level), context);
            }
        }
        if level > 0 {
            total += conv3(outputs, outputs, pixels(level - 1));
        }
        previous = outputs;
    }
    total + conv3(first, config.out_channels, pixels(0))
}

fn kl_decoder(config: &KlConfig, size: i64) -> i64 {
    let channels = &config.block_out_channels;
    let (narrowest, widest) = (channels[0], channels[channels.len() - 1]);
    let mut pixels = size * size;
    let attention = 4 * linear(widest, widest, pixels) + attend(pixels, pixels, widest);
    let mut total = linear(config.latent_channels, config.latent_channels, pixels);
    total += conv3(config.latent_channels, widest, pixels) + 2 * resnet(widest, widest, pixels) + attention;
    let mut inputs = widest;
    for (above, &outputs) in channels.iter().enumerate().rev() {
        for layer in 0..=config.layers_per_block {
            total += resnet(if layer == 0 { inputs } else { outputs }, outputs, pixels);
        }
        if above > 0 {
            pixels *= 4;
            total += conv3(outputs, outputs, pixels);
        }
        inputs = outputs;
    }
    total + conv3(narrowest, config.out_channels, pixels)
}

/// Convolutions that follow each other without a change of size, and the enlargement before them.
struct Level {
    upsampling: i64,
    /// Inputs and outputs.
    convolutions: Vec<[i64; 2]>,
}

fn tiny_levels(config: &TinyConfig) -> Vec<Level> {
    let channels = &config.decoder_block_out_channels;
    let mut levels = vec![Level { upsampling: 1, convolutions: vec![[config.latent_channels, channels[0]]] }];
    for (index, (&inside, &blocks)) in channels.iter().zip(&config.num_decoder_blocks).enumerate() {
        let in_blocks = (0..3 * blocks).map(|_| [inside; 2]);
        if let Some(level) = levels.last_mut() {
            level.convolutions.extend(in_blocks);
        }
        match channels.get(index + 1) {
            Some(&outputs) => levels
                .push(Level { upsampling: config.upsampling_scaling_factor, convolutions: vec![[inside, outputs]] }),
            None => {
                let outputs = config.out_channels * config.pixel_shuffle * config.pixel_shuffle;
                if let Some(level) = levels.last_mut() {
                    level.convolutions.push([inside, outputs]);
                }
            }
        }
    }
    levels
}

/// Counted from the last layer back, as the decoder plans it: each convolution is run on the rows that those behind it
/// need. A block's three run on the same rows, which the first needs.
fn tiny_decoder(config: &TinyConfig, size: i64, decode_rows: [i64; 2]) -> i64 {
    let levels = tiny_levels(config);
    let mut side = levels.iter().fold(size, |side, level| side * level.upsampling);
    let scale = side / size;
    let [mut first, mut end] = decode_rows.map(|row| row * scale);
    let mut total = 0;
    for (at, level) in levels.iter().enumerate().rev() {
        // Before the blocks: the convolution that leads to this level. Behind them: at most the last of all.
        let (lead, rest) = level.convolutions.split_at(1);
        let (blocks, tail) = rest.split_at(rest.len() - rest.len() % 3);
        for group in tail.chunks(1).chain(blocks.chunks(3)).chain([lead]) {
            let margin = i64::try_from(group.len()).unwrap_or(0);
            (first, end) = ((first - margin).max(0), (end + margin).min(side));
            total += group.iter().map(|[inputs, outputs]| conv3(*inputs, *outputs, (end - first) * side)).sum::<i64>();
        }
        if at > 0 {
            (first, end) = (first / level.upsampling, (end + level.upsampling - 1) / level.upsampling);
            side /= level.upsampling;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MuseTalk's, with either decoder.
    fn full(autoencoder: &str) -> ModelConfig {
        let text = format!(
            r#"{{
            "name": "full", "mel": {{"n_mels": 80}}, "audio_window": "utterance", "crop_size": 256,
            "audio_encoder": {{"n_mels": 80, "d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6,
                "encoder_ffn_dim": 1536, "max_source_positions": 1500}},
            "unet": {{"in_channels": 8, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
                "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
                "attention_head_dim": 8, "cross_attention_dim": 384}},
            "autoencoder": {autoencoder}
        }}"#
        );
        let config: ModelConfig = serde_json::from_str(&text).unwrap();
        config.validate().unwrap();
        config
    }

    const KL: &str = r#"{"kind": "kl", "block_out_channels": [128, 256, 512, 512]}"#;
    const TAESD: &str = r#"{"kind": "tiny", "encoder_block_out_channels": [64, 64, 64, 64], "num_encoder_blocks": [1, 3, 3, 3],
        "decoder_block_out_channels": [64, 64, 64, 64], "num_decoder_blocks": [3, 3, 3, 1]}"#;

    fn gflop(flop: i64) -> f64 {
        flop as f64 / 1e9
    }

    #[test]
    fn musetalk_takes_as_much_as_is_known_of_it() {
        let kl = Arithmetic::of_frame(&full(KL), [0, 32]);
        let tiny = Arithmetic::of_frame(&full(TAESD), [0, 32]);
        assert!((gflop(kl.unet) - 178.0).abs() < 1.0, "{}", gflop(kl.unet));
        assert!((gflop(kl.decode) - 622.0).abs() < 1.0, "{}", gflop(kl.decode));
        assert!((gflop(tiny.decode) - 35.0).abs() < 0.6, "{}", gflop(tiny.decode));
        assert_eq!(kl.unet, tiny.unet);
    }

    #[test]
    fn each_layer_counts_its_products() {
        // 4 x 4 pixels of 2 channels become 3 channels by a 3x3 kernel: 9 * 2 products for each of 48 numbers.
        assert_eq!(conv3(2, 3, 16), 18 * 48);
        assert_eq!(resnet(2, 2, 1), 2 * 9 * 4);
        assert_eq!(resnet(2, 3, 1), 9 * 6 + 9 * 9 + 6);
        assert_eq!(attend(5, 7, 3), 5 * 7 * 3 + 5 * 7 * 3);
    }

    #[test]
    fn rows_that_are_not_decoded_are_not_counted() {
        let config = full(TAESD);
        let decode = |rows| Arithmetic::of_frame(&config, rows).decode;
        let (whole, half, row) = (decode([0, 32]), decode([8, 24]), decode([16, 17]));
        // A row of the latent costs more than its share: the rows around it that it depends on.
        assert!(whole / 2 < half && half < whole * 3 / 4, "{half} of {whole}");
        assert!(whole / 32 < row && row < half, "{row} of {whole}");
        // The KL decoder always decodes everything.
        let config = full(KL);
        assert_eq!(Arithmetic::of_frame(&config, [16, 17]), Arithmetic::of_frame(&config, [0, 32]));
    }
}
