//! Attention over pixels and audio: diffusers' `Attention`, `BasicTransformerBlock` and `Transformer2DModel`.
//!
//! Not in here: the audio encoder's attention, which has other names and biases (`whisper`).

use tch::{Tensor, nn};

use super::layers::{Conv2d, GroupNorm, LayerNorm, Linear};
use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::musetalk::gpu::kernels;

/// Softmax attention of `[batch, tokens, channels]` with the channels split among `heads`.
///
/// libtorch's fused operator, which picks its own kernel on a GPU. On a CPU it is up to five times as quick as the products
/// written out, at head sizes of 4, 40, 80 and 160, self and cross, batches of 1 and 4, in any floats; `bench throughput`
/// measures both.
pub(super) fn attend(query: &Tensor, key: &Tensor, value: &Tensor, heads: i64) -> Result<Tensor> {
    let (batch, tokens, channels) = query.size3()?;
    let split =
        |x: &Tensor| -> Result<Tensor> { Ok(x.f_view([batch, -1, heads, channels / heads])?.f_transpose(1, 2)?) };
    let out = fused(&split(query)?, &split(key)?, &split(value)?)?;
    Ok(out.f_transpose(1, 2)?.f_reshape([batch, tokens, channels])?)
}

/// Of `[batch, heads, tokens, head size]`.
pub(in crate::musetalk) fn fused(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
    Ok(Tensor::f_scaled_dot_product_attention::<Tensor>(query, key, value, None, 0.0, false, None, false)?)
}

/// The same, written out; only to be measured against.
pub(in crate::musetalk) fn written_out(query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
    #[allow(clippy::cast_precision_loss, reason = "heads have some hundred numbers")]
    let scale = (query.size4()?.3 as f64).sqrt().recip();
    let weights = query.f_matmul(&key.f_transpose(-2, -1)?)?.f_mul_scalar(scale)?.f_softmax(-1, None)?;
    Ok(weights.f_matmul(value)?)
}

/// The innermost dimension in equal parts, as views.
fn split<const PARTS: usize>(x: &Tensor) -> Result<[Tensor; PARTS]> {
    let parts = i64::try_from(PARTS).unwrap_or(1);
    let parts = x.f_chunk(parts, -1)?;
    parts.try_into().map_err(|_| LipSyncError::Config {
        field: "unet.block_out_channels".to_owned(),
        problem: format!("{:?} numbers cannot be split into {PARTS} parts", x.size()),
    })
}

/// Self-attention, or cross-attention when `context` is given.
#[derive(Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
    /// What makes queries, keys and values of the same tokens at once, or keys and values of other ones.
    joined: Option<Linear>,
}

impl Attention {
    fn new(p: &nn::Path<'_>, channels: i64, context: i64, heads: i64) -> Result<Self> {
        Ok(Self {
            to_q: Linear::without_bias(p / "to_q", channels, channels)?,
            to_k: Linear::without_bias(p / "to_k", context, channels)?,
            to_v: Linear::without_bias(p / "to_v", context, channels)?,
            to_out: Linear::new(p / "to_out" / 0, channels, channels)?,
            heads,
            joined: None,
        })
    }

    /// `context` is what is attended to: `None` if that is `x` itself.
    fn forward(&self, x: &Tensor, context: Option<&Tensor>) -> Result<Tensor> {
        let [query, key, value] = match (&self.joined, context) {
            (Some(joined), None) => split(&joined.forward(x)?)?,
            (Some(joined), Some(context)) => {
                let [key, value] = split(&joined.forward(context)?)?;
                [self.to_q.forward(x)?, key, value]
            }
            (None, _) => {
                let context = context.unwrap_or(x);
                [self.to_q.forward(x)?, self.to_k.forward(context)?, self.to_v.forward(context)?]
            }
        };
        self.to_out.forward(&attend(&query, &key, &value, self.heads)?)
    }

    /// Makes one product of those that have the same input; `itself` says whether tokens attend to each other.
    fn join(&mut self, itself: bool) -> Result<()> {
        let (query, others) = (&mut self.to_q, [&mut self.to_k, &mut self.to_v]);
        let [key, value] = others;
        self.joined =
            Some(if itself { Linear::join(&mut [query, key, value])? } else { Linear::join(&mut [key, value])? });
        Ok(())
    }
}

/// `GEGLU` and the linear layer behind it; the first half of the projection is the value, the second the gate.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(p: &nn::Path<'_>, channels: i64) -> Result<Self> {
        let net = p / "net";
        Ok(Self {
            proj: Linear::new(&net / 0 / "proj", channels, 8 * channels)?,
            out: Linear::new(&net / 2, 4 * channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let both = self.proj.forward(x)?;
        if let Some(gated) = kernels::geglu(&both)? {
            return self.out.forward(&gated);
        }
        let half = both.size3()?.2 / 2;
        let (value, gate) = (both.f_narrow(-1, 0, half)?, both.f_narrow(-1, half, half)?);
        self.out.forward(&value.f_mul(&gate.f_gelu("none")?)?)
    }
}

#[derive(Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl BasicTransformerBlock {
    fn new(p: &nn::Path<'_>, channels: i64, context: i64, heads: i64) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(p / "norm1", channels)?,
            attn1: Attention::new(&(p / "attn1"), channels, channels, heads)?,
            norm2: LayerNorm::new(p / "norm2", channels)?,
            attn2: Attention::new(&(p / "attn2"), channels, context, heads)?,
            norm3: LayerNorm::new(p / "norm3", channels)?,
            ff: FeedForward::new(&(p / "ff"), channels)?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let own = self.norm1.forward(x)?;
        let x = self.attn1.forward(&own, None)?.f_add(x)?;
        let x = self.attn2.forward(&self.norm2.forward(&x)?, Some(context))?.f_add(&x)?;
        Ok(self.ff.forward(&self.norm3.forward(&x)?)?.f_add(&x)?)
    }
}

/// A transformer block over the pixels of a feature map, with 1x1 convolutions around it.
#[derive(Debug)]
pub(super) struct Transformer2d {
    norm: GroupNorm,
    proj_in: Conv2d,
    block: BasicTransformerBlock,
    proj_out: Conv2d,
}

impl Transformer2d {
    /// `channels` of the map, width of the `context`, number of heads, groups of the norm.
    pub(super) fn new(p: &nn::Path<'_>, channels: i64, context: i64, heads: i64, groups: i64) -> Result<Self> {
        Ok(Self {
            // 1e-6 here while the resnets around it have 1e-5: so it is in diffusers, whatever `norm_eps` says.
            norm: GroupNorm::new(p / "norm", groups, channels, 1e-6)?,
            proj_in: Conv2d::new(p / "proj_in", channels, channels, 1)?,
            block: BasicTransformerBlock::new(&(p / "transformer_blocks" / 0), channels, context, heads)?,
            proj_out: Conv2d::new(p / "proj_out", channels, channels, 1)?,
        })
    }

    /// Has queries, keys and values made by as few products as can be: the same numbers by fewer calls.
    pub(super) fn join_projections(&mut self) -> Result<()> {
        self.block.attn1.join(true)?;
        self.block.attn2.join(false)
    }

    /// Of a map, `[batch, channels, height, width]`, and `context`, `[batch, tokens, width]`.
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.size4()?;
        let hidden = self.proj_in.forward(&self.norm.forward(x)?)?;
        // Free when the map is channels-last already.
        let tokens = hidden.f_permute([0, 2, 3, 1])?.f_reshape([batch, height * width, channels])?;
        let tokens = self.block.forward(&tokens, context)?;
        let hidden = tokens.f_view([batch, height, width, channels])?.f_permute([0, 3, 1, 2])?;
        self.proj_out.forward_adding(&hidden, x, None)
    }
}
