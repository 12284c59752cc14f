//! What is done to each number by itself.

use tch::Tensor;

use super::{Argument, Kernel, Shape, channels_innermost, int, is_aligned, is_vector, launch, loaded_for, pack};
use crate::musetalk::Result;

/// Threads of a block, and how many packs each of those that add has.
const THREADS: u32 = 256;
const TURNS: u32 = 4;

fn shape(packs: u32, turns: u32) -> Shape {
    Shape { grid: (packs.div_ceil(THREADS * turns), 1), threads: THREADS, shared: 0 }
}

/// Adds to a map whose channels are innermost in memory, in its own place, another one like it and up to two biases, numbers for
/// each channel; ReLU follows if `relu`. `false` if nothing was done and another way has to be taken.
pub fn add(to: &Tensor, other: Option<&Tensor>, biases: [Option<&Tensor>; 2], relu: bool) -> Result<bool> {
    let Some(loaded) = loaded_for(to) else { return Ok(false) };
    let Some([samples, channels, height, width]) = channels_innermost(to) else { return Ok(false) };
    let pack = pack(to.f_kind()?);
    let alike = |other: &Tensor| {
        other.size() == to.size()
            && channels_innermost(other).is_some()
            && other.f_kind().ok() == to.f_kind().ok()
            && other.device() == to.device()
            && !other.requires_grad()
    };
    let count = int(samples * channels * height * width / pack);
    let (Some(count), Some(columns)) = (count, int(channels / pack)) else { return Ok(false) };
    let fit = biases.into_iter().flatten().all(|bias| is_vector(bias, channels, to));
    if channels % pack != 0 || !fit || !other.is_none_or(alike) {
        return Ok(false);
    }
    let [one, two] = biases.map(|bias| bias.map_or(Argument::Null, Argument::Memory));
    let other = other.map_or(Argument::Null, Argument::Memory);
    let (map, result) = (Argument::Memory(to), Argument::Memory(to));
    let numbers = [count, columns, u32::from(relu)].map(Argument::Int);
    let arguments: Vec<Argument<'_>> = [map, other, one, two, result].into_iter().chain(numbers).collect();
    Ok(launch(loaded, Kernel::Add, shape(count, TURNS), &arguments))
}

/// `[.., 2 n]` to `[.., n]`: the first half times GELU, by the error function, of the second. `None` if another way has to be
/// taken.
pub fn geglu(x: &Tensor) -> Result<Option<Tensor>> {
    let Some(loaded) = loaded_for(x) else { return Ok(None) };
    let pack = pack(x.f_kind()?);
    let mut size = x.size();
    let Some(last) = size.last_mut() else { return Ok(None) };
    if *last % (2 * pack) != 0 || *last == 0 || !x.is_contiguous() || !is_aligned(x) {
        return Ok(None);
    }
    *last /= 2;
    let numbers: i64 = size.iter().product();
    let columns = size.last().map_or(0, |last| last / pack);
    let (Some(count), Some(columns)) = (int(numbers / pack), int(columns)) else { return Ok(None) };
    let out = Tensor::f_empty(&size, (x.f_kind()?, x.device()))?;
    if count == 0 {
        return Ok(Some(out));
    }
    let arguments = [Argument::Memory(x), Argument::Memory(&out), Argument::Int(count), Argument::Int(columns)];
    Ok(launch(loaded, Kernel::Geglu, shape(count, 1), &arguments).then_some(out))
}
