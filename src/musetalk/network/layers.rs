//! The layers that every part is built of: convolution, linear, the norms.
//!
//! They differ from `tch::nn`'s in that nothing panics: a bad shape comes back as an error and the engine lives on. Weights may
//! be kept in fewer bits than are computed in. And on a GPU, where `gpu::kernels` has what does several of libtorch's
//! operators in one pass over memory, that is taken.
//! Not in here: anything with a name of its own in the checkpoint beyond `weight` and `bias`.

use std::cell::Cell;

use tch::{Kind, Tensor, nn};

use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::musetalk::gpu::kernels::{self, GroupNormOf};

thread_local! {
    static BLANK: Cell<bool> = const { Cell::new(false) };
}

/// Builds a network that a file will fill: its weights take no memory until then, and no time. Drawing 900 million
/// random numbers takes longer than reading them.
pub fn blank<T>(build: impl FnOnce() -> T) -> T {
    let before = BLANK.replace(true);
    let built = build();
    BLANK.set(before);
    built
}

/// Weights start as PyTorch starts them, uniform within 1/sqrt(fan-in), unless [`blank`].
fn uniform(p: &nn::Path<'_>, name: &str, dims: &[i64], fan_in: i64) -> Result<Tensor> {
    if BLANK.get() {
        // One number, shown as many.
        let mut weights = p.f_zeros(name, &[1])?;
        let nothing = Tensor::f_zeros([1], (weights.kind(), weights.device()))?.f_expand(dims, false)?;
        weights.f_set_data(&nothing)?;
        return Ok(weights);
    }
    // Not cast: sizes are checked to be small, and this is exact.
    let bound = 1.0 / f64::from(i32::try_from(fan_in).unwrap_or(i32::MAX)).sqrt();
    Ok(p.f_var(name, dims, nn::Init::Uniform { lo: -bound, up: bound })?)
}

/// A copy of `weight` in the floats of `x`, if it is in others: a large model's weights stay in memory in the 16 bits that
/// the file has them in, and only the layer that is running has them in 32. Exact, and the layout stays.
fn cast_for(x: &Tensor, weight: &Tensor) -> Result<Option<Tensor>> {
    let kind = x.kind();
    if weight.kind() == kind { Ok(None) } else { Ok(Some(weight.f_to_kind(kind)?)) }
}

/// A 2-D convolution with a square kernel.
#[derive(Debug)]
pub(super) struct Conv2d {
    pub(super) weight: Tensor,
    pub(super) bias: Option<Tensor>,
    stride: i64,
    padding: i64,
}

impl Conv2d {
    /// Stride 1, keeping the size, with a bias.
    pub(super) fn new(p: nn::Path<'_>, inputs: i64, outputs: i64, kernel: i64) -> Result<Self> {
        Self::with(p, inputs, outputs, kernel, 1, kernel / 2, true)
    }

    /// As given, where [`Conv2d::new`] guesses.
    pub(super) fn with(
        p: nn::Path<'_>,
        inputs: i64,
        outputs: i64,
        kernel: i64,
        stride: i64,
        padding: i64,
        bias: bool,
    ) -> Result<Self> {
        let fan_in = inputs * kernel * kernel;
        let weight = uniform(&p, "weight", &[outputs, inputs, kernel, kernel], fan_in)?;
        let bias = if bias { Some(uniform(&p, "bias", &[outputs], fan_in)?) } else { None };
        Ok(Self { weight, bias, stride, padding })
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, ..]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Some(bias) = self.own_bias(x) else { return self.convolved(x, self.bias.as_ref()) };
        let y = self.convolved(x, None)?;
        if kernels::add(&y, None, [Some(bias), None], false)? { Ok(y) } else { Ok(y.f_add(&spread(bias)?)?) }
    }

    /// [`Conv2d::forward`] and ReLU.
    pub(super) fn forward_relu(&self, x: &Tensor) -> Result<Tensor> {
        // In place on what the convolution has just made; it does not need its result again to find gradients.
        let Some(bias) = self.own_bias(x) else { return Ok(self.convolved(x, self.bias.as_ref())?.f_relu_()?) };
        let y = self.convolved(x, None)?;
        if kernels::add(&y, None, [Some(bias), None], true)? { Ok(y) } else { Ok(y.f_add(&spread(bias)?)?.f_relu_()?) }
    }

    /// [`Conv2d::forward`] with `other`, `[batch, outputs, ..]`, added, and ReLU.
    pub(super) fn forward_adding_relu(&self, x: &Tensor, other: &Tensor) -> Result<Tensor> {
        let Some(bias) = self.own_bias(x) else {
            return Ok(self.convolved(x, self.bias.as_ref())?.f_add_(other)?.f_relu_()?);
        };
        let y = self.convolved(x, None)?;
        if kernels::add(&y, Some(other), [Some(bias), None], true)? {
            return Ok(y);
        }
        Ok(y.f_add(&spread(bias)?)?.f_add_(other)?.f_relu_()?)
    }

    /// [`Conv2d::forward`] with `other`, `[batch, outputs, ..]`, added, and `also`, a number for each channel.
    pub(super) fn forward_adding(&self, x: &Tensor, other: &Tensor, also: Option<&Tensor>) -> Result<Tensor> {
        let own = self.own_bias(x);
        let y = self.convolved(x, if own.is_some() { None } else { self.bias.as_ref() })?;
        if own.is_some() && kernels::add(&y, Some(other), [own, also], false)? {
            return Ok(y);
        }
        let biases = [own, also].into_iter().flatten();
        let y = biases.map(spread).try_fold(y, |y, bias| Ok::<_, LipSyncError>(y.f_add(&bias?)?))?;
        Ok(y.f_add(other)?)
    }

    /// The bias, if it is one that a kernel of ours adds better than the convolution does: cuDNN's have none, so libtorch
    /// adds it in a pass of its own.
    pub(super) fn own_bias(&self, x: &Tensor) -> Option<&Tensor> {
        let outputs = self.weight.size().first().copied().unwrap_or(0);
        let taken =
            |bias: &&Tensor| kernels::take(bias) && kernels::take_map(x, outputs) && !self.weight.requires_grad();
        self.bias.as_ref().filter(taken)
    }

    /// Without a bias.
    pub(super) fn forward_without_bias(&self, x: &Tensor) -> Result<Tensor> {
        self.convolved(x, None)
    }

    fn convolved(&self, x: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let cast = cast_for(x, &self.weight)?;
        let weight = cast.as_ref().unwrap_or(&self.weight);
        Ok(x.f_conv2d(weight, bias, stride, padding, [1, 1], 1)?)
    }
}

/// A number for each channel as a map of one pixel.
fn spread(numbers: &Tensor) -> Result<Tensor> {
    Ok(numbers.f_view([1, -1, 1, 1])?)
}

/// A convolution along time that keeps the length but for its stride.
#[derive(Debug)]
pub(super) struct Conv1d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv1d {
    /// Channels in and out, size of the kernel, and its stride.
    pub(super) fn new(p: nn::Path<'_>, inputs: i64, outputs: i64, kernel: i64, stride: i64) -> Result<Self> {
        let fan_in = inputs * kernel;
        let weight = uniform(&p, "weight", &[outputs, inputs, kernel], fan_in)?;
        Ok(Self { weight, bias: uniform(&p, "bias", &[outputs], fan_in)?, stride, padding: kernel / 2 })
    }

    /// `[batch, inputs, length]` to `[batch, outputs, length / stride]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let cast = cast_for(x, &self.weight)?;
        let weight = cast.as_ref().unwrap_or(&self.weight);
        Ok(x.f_conv1d(weight, Some(&self.bias), [self.stride], [self.padding], [1], 1)?)
    }
}

/// A matrix and, mostly, a bias.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// With a bias. An error if libtorch refuses the sizes.
    pub fn new(p: nn::Path<'_>, inputs: i64, outputs: i64) -> Result<Self> {
        let bias = Some(uniform(&p, "bias", &[outputs], inputs)?);
        Ok(Self { bias, ..Self::without_bias(p, inputs, outputs)? })
    }

    /// Of weights alone.
    pub(super) fn without_bias(p: nn::Path<'_>, inputs: i64, outputs: i64) -> Result<Self> {
        Ok(Self { weight: uniform(&p, "weight", &[outputs, inputs], inputs)?, bias: None })
    }

    /// One that gives what these give, one behind the other, of the same input. They have no bias. Their weights become
    /// parts of the new one's, so no number is in memory twice.
    pub(super) fn join(parts: &mut [&mut Self]) -> Result<Self> {
        tch::no_grad(|| {
            let weight = Tensor::f_cat(&parts.iter().map(|part| &part.weight).collect::<Vec<_>>(), 0)?;
            let mut at = 0;
            for part in parts {
                let outputs = part.weight.size2()?.0;
                part.weight.f_set_data(&weight.f_narrow(0, at, outputs)?)?;
                at += outputs;
            }
            Ok(Self { weight, bias: None })
        })
    }

    /// `[.., inputs]` to `[.., outputs]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let cast = cast_for(x, &self.weight)?;
        Ok(x.f_linear(cast.as_ref().unwrap_or(&self.weight), self.bias.as_ref())?)
    }

    /// What it computes in: its bias is in that, even where its weights are kept in fewer bits.
    pub fn kind(&self) -> Kind {
        self.bias.as_ref().unwrap_or(&self.weight).kind()
    }
}

/// A norm over groups of channels.
#[derive(Debug)]
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// `groups` must divide `channels`.
    pub(super) fn new(p: nn::Path<'_>, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        let (weight, bias) = (p.f_ones("weight", &[channels])?, p.f_zeros("bias", &[channels])?);
        Ok(Self { weight, bias, groups, eps })
    }

    /// Of `[batch, channels, height, width]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None, false)
    }

    /// The same and SiLU.
    pub(super) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.apply(x, None, true)
    }

    /// [`GroupNorm::forward_silu`] of `x` with `shift` added, a number for each channel.
    pub(super) fn forward_shifted_silu(&self, x: &Tensor, shift: &Tensor) -> Result<Tensor> {
        self.apply(x, Some(shift), true)
    }

    fn apply(&self, x: &Tensor, shift: Option<&Tensor>, silu: bool) -> Result<Tensor> {
        let (weight, bias, groups, eps) = (&self.weight, &self.bias, self.groups, self.eps);
        if let Some(y) = kernels::group_norm(x, GroupNormOf { weight, bias, groups, eps, shift, silu })? {
            return Ok(y);
        }
        let shifted = shift.map(|shift| -> Result<Tensor> { Ok(x.f_add(&spread(shift)?)?) }).transpose()?;
        let x = shifted.as_ref().unwrap_or(x);
        let y = x.f_group_norm(groups, Some(weight), Some(bias), eps, false)?;
        if silu { Ok(y.f_silu()?) } else { Ok(y) }
    }
}

/// A norm over the innermost dimension.
#[derive(Debug)]
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    size: i64,
}

impl LayerNorm {
    /// All of this network's layer norms have epsilon 1e-5.
    pub(super) fn new(p: nn::Path<'_>, size: i64) -> Result<Self> {
        Ok(Self { weight: p.f_ones("weight", &[size])?, bias: p.f_zeros("bias", &[size])?, size })
    }

    /// Of `[.., size]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_layer_norm([self.size], Some(&self.weight), Some(&self.bias), 1e-5, false)?)
    }
}

/// Nearest-neighbour doubling, the only upsampling these networks have.
pub(super) fn upsample_nearest(x: &Tensor, factor: i64) -> Result<Tensor> {
    let (_, _, height, width) = x.size4()?;
    Ok(x.f_upsample_nearest2d([height * factor, width * factor], None, None)?)
}

/// The same values with channels innermost in memory, which is what the CPU's convolutions are quick on.
pub fn channels_last(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}
