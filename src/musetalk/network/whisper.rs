//! Whisper's encoder with all of its hidden states, as transformers' `WhisperEncoder` gives them.
//!
//! Not in here: the mel spectrogram (`mel`) and which rows a video frame gets (`audio_rows`).

use tch::{Kind, Tensor, nn};

use super::attention::attend;
use super::config::WhisperConfig;
use super::layers::{Conv1d, LayerNorm, Linear};
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;

#[derive(Debug)]
struct SelfAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
    heads: i64,
}

impl SelfAttention {
    fn new(p: &nn::Path<'_>, size: i64, heads: i64) -> Result<Self> {
        Ok(Self {
            k_proj: Linear::without_bias(p / "k_proj", size, size)?,
            v_proj: Linear::new(p / "v_proj", size, size)?,
            q_proj: Linear::new(p / "q_proj", size, size)?,
            out_proj: Linear::new(p / "out_proj", size, size)?,
            heads,
        })
    }

    /// Of the rows from `first` on, which attend to all.
    fn forward(&self, x: &Tensor, first: i64) -> Result<Tensor> {
        let query = self.q_proj.forward(&rows_from(x, first)?)?;
        let (key, value) = (self.k_proj.forward(x)?, self.v_proj.forward(x)?);
        self.out_proj.forward(&attend(&query, &key, &value, self.heads)?)
    }
}

#[derive(Debug)]
struct EncoderLayer {
    self_attn: SelfAttention,
    self_attn_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    final_layer_norm: LayerNorm,
}

impl EncoderLayer {
    fn new(p: &nn::Path<'_>, config: &WhisperConfig) -> Result<Self> {
        let (size, inner) = (config.d_model, config.encoder_ffn_dim);
        Ok(Self {
            self_attn: SelfAttention::new(&(p / "self_attn"), size, config.encoder_attention_heads)?,
            self_attn_layer_norm: LayerNorm::new(p / "self_attn_layer_norm", size)?,
            fc1: Linear::new(p / "fc1", size, inner)?,
            fc2: Linear::new(p / "fc2", inner, size)?,
            final_layer_norm: LayerNorm::new(p / "final_layer_norm", size)?,
        })
    }

    /// What it makes of the rows from `first` on.
    fn forward(&self, x: &Tensor, first: i64) -> Result<Tensor> {
        let attended = self.self_attn.forward(&self.self_attn_layer_norm.forward(x)?, first)?;
        let x = attended.f_add(&rows_from(x, first)?)?;
        let hidden = self.fc1.forward(&self.final_layer_norm.forward(&x)?)?.f_gelu("none")?;
        Ok(self.fc2.forward(&hidden)?.f_add(&x)?)
    }
}

/// The whole encoder; transformers' `modeling_whisper.py`.
#[derive(Debug)]
pub struct WhisperEncoder {
    conv1: Conv1d,
    conv2: Conv1d,
    embed_positions: Tensor,
    layers: Vec<EncoderLayer>,
    layer_norm: LayerNorm,
    final_norm: bool,
}

impl WhisperEncoder {
    /// `p` is the path of `audio_encoder`. An error if the configuration cannot be.
    pub fn new(p: &nn::Path<'_>, config: &WhisperConfig) -> Result<Self> {
        config.validate()?;
        let size = config.d_model;
        let positions = (p / "embed_positions").f_zeros_no_train("weight", &[config.max_source_positions, size])?;
        let start = sinusoids(config.max_source_positions, size)?;
        tch::no_grad(|| positions.shallow_clone().f_copy_(&start))?;
        Ok(Self {
            conv1: Conv1d::new(p / "conv1", config.n_mels, size, 3, 1)?,
            conv2: Conv1d::new(p / "conv2", size, size, 3, 2)?,
            embed_positions: positions,
            layers: (0..config.encoder_layers)
                .map(|index| EncoderLayer::new(&(p / "layers" / index), config))
                .collect::<Result<_>>()?,
            layer_norm: LayerNorm::new(p / "layer_norm", size)?,
            final_norm: config.final_norm,
        })
    }

    /// Mel `[batch, n_mels, 2 * rows]` to `[batch, rows, layers + 1, d_model]`: the embedded input, then what each layer
    /// gives. `rows` may be less than the checkpoint's positions; the first of them are used.
    pub fn hidden_states(&self, mel: &Tensor) -> Result<Tensor> {
        self.hidden_states_from(mel, 0)
    }

    /// [`WhisperEncoder::hidden_states`] of the rows from `first` on, `[batch, rows - first, layers + 1, d_model]`: nothing
    /// attends to what the last layer would make of the others.
    pub fn hidden_states_from(&self, mel: &Tensor, first: i64) -> Result<Tensor> {
        let x = self.conv1.forward(mel)?.f_gelu("none")?;
        let x = self.conv2.forward(&x)?.f_gelu("none")?.f_transpose(1, 2)?;
        let (rows, most) = (x.size3()?.1, self.embed_positions.size2()?.0);
        if rows > most {
            let problem = format!("is {most}, but {rows} rows of audio were given at once");
            return Err(LipSyncError::Config { field: "audio_encoder.max_source_positions".to_owned(), problem });
        }
        let mut x = x.f_add(&self.embed_positions.f_narrow(0, 0, rows)?.f_to_kind(x.kind())?)?;
        let first = first.clamp(0, rows);
        let mut states = vec![rows_from(&x, first)?];
        for (index, layer) in self.layers.iter().enumerate() {
            let last = index + 1 == self.layers.len();
            x = layer.forward(&x, if last { first } else { 0 })?;
            states.push(match last {
                true if self.final_norm => self.layer_norm.forward(&x)?,
                true => x.shallow_clone(),
                false => rows_from(&x, first)?,
            });
        }
        Ok(Tensor::f_stack(&states, 2)?)
    }
}

/// Of `[batch, rows, d]`, as a view.
fn rows_from(x: &Tensor, first: i64) -> Result<Tensor> {
    Ok(x.f_narrow(1, first, x.size3()?.1 - first)?)
}

/// Whisper's positions, the start of a model that is trained here: the sines, then the cosines.
fn sinusoids(rows: i64, size: i64) -> Result<Tensor> {
    let options = (Kind::Float, tch::Device::Cpu);
    let half = size / 2;
    let last = f64::from(i32::try_from(half - 1).unwrap_or(i32::MAX)).max(1.0);
    let scales = Tensor::f_arange(half, options)?.f_mul_scalar(-(10_000_f64.ln()) / last)?.f_exp()?;
    let angles = Tensor::f_arange(rows, options)?.f_unsqueeze(1)?.f_mul(&scales)?;
    Ok(Tensor::f_cat(&[angles.f_sin()?, angles.f_cos()?], 1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_are_not_asked_for_change_nothing_of_the_others() {
        for final_norm in [true, false] {
            let config = WhisperConfig {
                n_mels: 6,
                d_model: 16,
                encoder_layers: 3,
                encoder_attention_heads: 2,
                encoder_ffn_dim: 32,
                max_source_positions: 20,
                final_norm,
            };
            let store = nn::VarStore::new(tch::Device::Cpu);
            let encoder = WhisperEncoder::new(&store.root(), &config).unwrap();
            let mel = Tensor::randn([2, 6, 40], (Kind::Float, tch::Device::Cpu));
            let all = encoder.hidden_states(&mel).unwrap();
            assert_eq!(all.size(), [2, 20, 4, 16]);
            for first in [0, 1, 13, 19] {
                let some = encoder.hidden_states_from(&mel, first).unwrap();
                let apart = (some - all.narrow(1, first, 20 - first)).abs().max().double_value(&[]);
                assert!(apart < 1e-5, "from {first}: {apart:e}");
            }
        }
    }
}
