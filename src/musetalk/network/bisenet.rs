//! BiSeNet as face-parsing.PyTorch has it: which of nineteen parts of a head each pixel shows.
//!
//! A ResNet-18 gives maps of an eighth, a sixteenth and a thirty-second of the picture; the two coarser ones are weighed by
//! what they see on average and added up to the finest one's size, then both are fused. The spatial path of the paper is
//! not there, the trunk's finest map stands in for it. Two more heads, which only training uses, are left out.
//! After zllrunning/face-parsing.PyTorch, `model.py` and `resnet.py` (MIT); the paper is Yu et al., ECCV 2018.

use tch::{Tensor, nn};

use super::layers::Conv2d;
use crate::musetalk::Result;

/// What each pixel is told apart into.
pub const CLASSES: i64 = 19;
/// Tensors of a checkpoint that only training needs, by how they begin.
pub const TRAINING: [&str; 2] = ["conv_out16.", "conv_out32."];
/// How a norm's count of the batches it saw ends, which only training needs.
pub const COUNTS: &str = ".num_batches_tracked";

/// A batch norm that has learnt: by the mean and the variance that it kept.
#[derive(Debug)]
struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl BatchNorm {
    fn new(p: &nn::Path<'_>, channels: i64) -> Result<Self> {
        Ok(Self {
            weight: p.f_ones("weight", &[channels])?,
            bias: p.f_zeros("bias", &[channels])?,
            mean: p.f_zeros_no_train("running_mean", &[channels])?,
            variance: p.f_ones_no_train("running_var", &[channels])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let Self { weight, bias, mean, variance } = self;
        Ok(x.f_batch_norm(Some(weight), Some(bias), Some(mean), Some(variance), false, 0.1, 1e-5, true)?)
    }
}

/// A convolution that keeps the size but for its stride, and a norm behind it.
#[derive(Debug)]
struct ConvNorm {
    conv: Conv2d,
    norm: BatchNorm,
}

/// Kernel and stride.
type Window = (i64, i64);

impl ConvNorm {
    fn new(conv: nn::Path<'_>, norm: nn::Path<'_>, inputs: i64, outputs: i64, window: Window) -> Result<Self> {
        let (kernel, stride) = window;
        let conv = Conv2d::with(conv, inputs, outputs, kernel, stride, kernel / 2, false)?;
        Ok(Self { conv, norm: BatchNorm::new(&norm, outputs)? })
    }

    /// Upstream's `ConvBNReLU`, by its names.
    fn named(p: &nn::Path<'_>, inputs: i64, outputs: i64, kernel: i64) -> Result<Self> {
        Self::new(p / "conv", p / "bn", inputs, outputs, (kernel, 1))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.conv.forward(x)?)
    }

    fn forward_relu(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.forward(x)?.f_relu_()?)
    }
}

/// ResNet's `BasicBlock`.
#[derive(Debug)]
struct Block {
    first: ConvNorm,
    second: ConvNorm,
    shortcut: Option<ConvNorm>,
}

impl Block {
    fn new(p: &nn::Path<'_>, inputs: i64, outputs: i64, stride: i64) -> Result<Self> {
        let changes = inputs != outputs || stride != 1;
        let shortcut = p / "downsample";
        let shortcut = changes.then(|| ConvNorm::new(&shortcut / 0, &shortcut / 1, inputs, outputs, (1, stride)));
        Ok(Self {
            first: ConvNorm::new(p / "conv1", p / "bn1", inputs, outputs, (3, stride))?,
            second: ConvNorm::new(p / "conv2", p / "bn2", outputs, outputs, (3, 1))?,
            shortcut: shortcut.transpose()?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut changed = self.second.forward(&self.first.forward_relu(x)?)?;
        let kept = self.shortcut.as_ref().map(|shortcut| shortcut.forward(x)).transpose()?;
        Ok(changed.f_add_(kept.as_ref().unwrap_or(x))?.f_relu_()?)
    }
}

/// ResNet-18 without its classifier.
#[derive(Debug)]
struct Trunk {
    stem: ConvNorm,
    layers: [[Block; 2]; 4],
}

impl Trunk {
    fn new(p: &nn::Path<'_>) -> Result<Self> {
        let layer = |name: &str, inputs: i64, outputs: i64, stride: i64| -> Result<[Block; 2]> {
            let p = p / name;
            Ok([Block::new(&(&p / 0), inputs, outputs, stride)?, Block::new(&(&p / 1), outputs, outputs, 1)?])
        };
        Ok(Self {
            stem: ConvNorm::new(p / "conv1", p / "bn1", 3, 64, (7, 2))?,
            layers: [
                layer("layer1", 64, 64, 1)?,
                layer("layer2", 64, 128, 2)?,
                layer("layer3", 128, 256, 2)?,
                layer("layer4", 256, 512, 2)?,
            ],
        })
    }

    /// Maps of an eighth, a sixteenth and a thirty-second.
    fn forward(&self, x: &Tensor) -> Result<[Tensor; 3]> {
        let pooled = self.stem.forward_relu(x)?.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        let through = |x: &Tensor, [first, second]: &[Block; 2]| second.forward(&first.forward(x)?);
        let [one, two, three, four] = &self.layers;
        let eighth = through(&through(&pooled, one)?, two)?;
        let sixteenth = through(&eighth, three)?;
        let thirty_second = through(&sixteenth, four)?;
        Ok([eighth, sixteenth, thirty_second])
    }
}

/// The mean of each channel, as a map of one pixel.
fn average(x: &Tensor) -> Result<Tensor> {
    Ok(x.f_adaptive_avg_pool2d([1, 1])?)
}

/// Scaled up to the size of another map, each pixel the nearest one.
fn as_large_as(x: &Tensor, other: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = other.size4()?;
    Ok(x.f_upsample_nearest2d([height, width], None, None)?)
}

/// Upstream's `AttentionRefinementModule`: each channel weighed by all channels' means.
#[derive(Debug)]
struct Attention {
    conv: ConvNorm,
    weighing: ConvNorm,
}

impl Attention {
    fn new(p: &nn::Path<'_>, inputs: i64, outputs: i64) -> Result<Self> {
        let weighing = ConvNorm::new(p / "conv_atten", p / "bn_atten", outputs, outputs, (1, 1))?;
        Ok(Self { conv: ConvNorm::named(&(p / "conv"), inputs, outputs, 3)?, weighing })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let map = self.conv.forward_relu(x)?;
        let weights = self.weighing.forward(&average(&map)?)?.f_sigmoid()?;
        Ok(map.f_mul(&weights)?)
    }
}

/// Upstream's `FeatureFusionModule`.
#[derive(Debug)]
struct Fusion {
    conv: ConvNorm,
    weighing: [Conv2d; 2],
}

impl Fusion {
    fn new(p: &nn::Path<'_>, channels: i64) -> Result<Self> {
        let plain = |name: &str, inputs: i64, outputs: i64| Conv2d::with(p / name, inputs, outputs, 1, 1, 0, false);
        let between = channels / 4;
        Ok(Self {
            conv: ConvNorm::named(&(p / "convblk"), channels, channels, 1)?,
            weighing: [plain("conv1", channels, between)?, plain("conv2", between, channels)?],
        })
    }

    fn forward(&self, fine: &Tensor, context: &Tensor) -> Result<Tensor> {
        let map = self.conv.forward_relu(&Tensor::f_cat(&[fine, context], 1)?)?;
        let [first, second] = &self.weighing;
        let weights = second.forward(&first.forward_relu(&average(&map)?)?)?.f_sigmoid()?;
        Ok(map.f_mul(&weights)?.f_add_(&map)?)
    }
}

/// The network, for pictures of any size of 32 pixels or more.
#[derive(Debug)]
pub struct BiSeNet {
    trunk: Trunk,
    attention_16: Attention,
    attention_32: Attention,
    head_16: ConvNorm,
    head_32: ConvNorm,
    overall: ConvNorm,
    fusion: Fusion,
    out: ConvNorm,
    classes: Conv2d,
}

impl BiSeNet {
    /// By the names of upstream's checkpoint.
    pub fn new(p: &nn::Path<'_>) -> Result<Self> {
        let (context, out) = (p / "cp", p / "conv_out");
        Ok(Self {
            trunk: Trunk::new(&(&context / "resnet"))?,
            attention_16: Attention::new(&(&context / "arm16"), 256, 128)?,
            attention_32: Attention::new(&(&context / "arm32"), 512, 128)?,
            head_16: ConvNorm::named(&(&context / "conv_head16"), 128, 128, 3)?,
            head_32: ConvNorm::named(&(&context / "conv_head32"), 128, 128, 3)?,
            overall: ConvNorm::named(&(&context / "conv_avg"), 512, 128, 1)?,
            fusion: Fusion::new(&(p / "ffm"), 256)?,
            out: ConvNorm::named(&(&out / "conv"), 256, 256, 3)?,
            classes: Conv2d::with(&out / "conv_out", 256, CLASSES, 1, 1, 0, false)?,
        })
    }

    /// `[batch, 3, height, width]`, RGB as ImageNet's pictures are normalised, to how much each class is seen,
    /// `[batch, CLASSES, height, width]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.size4()?;
        let [eighth, sixteenth, thirty_second] = self.trunk.forward(x)?;
        let overall = self.overall.forward_relu(&average(&thirty_second)?)?;
        let coarse = self.attention_32.forward(&thirty_second)?.f_add_(&overall)?;
        let coarse = self.head_32.forward_relu(&as_large_as(&coarse, &sixteenth)?)?;
        let context = self.attention_16.forward(&sixteenth)?.f_add_(&coarse)?;
        let context = self.head_16.forward_relu(&as_large_as(&context, &eighth)?)?;
        let fused = self.fusion.forward(&eighth, &context)?;
        let seen = self.classes.forward(&self.out.forward_relu(&fused)?)?;
        Ok(seen.f_upsample_bilinear2d([height, width], true, None, None)?)
    }
}
