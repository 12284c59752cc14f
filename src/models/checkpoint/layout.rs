//! Where a tensor's numbers are in the file: a start and strides, as PyTorch has them.

use super::source::Source;
use super::{DType, Result, TensorEntry, tensor_problem};

/// More than any network's weights have; PyTorch itself allows 64.
pub(super) const MOST_DIMENSIONS: usize = 8;

#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Place of the first number in the file.
    start: u64,
    /// Numbers from one index to the next, for each dimension; none if they are one after the other.
    strides: Option<Vec<u64>>,
    /// Numbers from the first to one past the last.
    span: u64,
    /// Numbers of the tensor.
    pub(super) count: u64,
}

impl Layout {
    /// Numbers one after the other from `start` on. `None` if their count overflows.
    pub(super) fn contiguous(start: u64, shape: &[u64], dtype: DType) -> Option<Self> {
        let span = elements(shape)?;
        span.checked_mul(dtype.size())?;
        Some(Self { start, strides: None, span, count: span })
    }

    /// Place of the first number in the file, if all of them lie one after the other.
    pub(super) fn start(&self) -> Option<u64> {
        self.strides.is_none().then_some(self.start)
    }

    /// A view of a storage of `available` numbers that begins at `storage`: the number `offset` is its first.
    pub(super) fn strided(
        storage: u64,
        available: u64,
        offset: u64,
        (shape, strides): (&[u64], &[u64]),
        dtype: DType,
    ) -> std::result::Result<Self, String> {
        let beyond = || format!("a view of shape {shape:?} from {offset} on does not fit its storage of {available}");
        if shape.len() != strides.len() {
            return Err(format!("has {} dimensions but {} strides", shape.len(), strides.len()));
        }
        let count = elements(shape).ok_or_else(beyond)?;
        count.checked_mul(dtype.size()).ok_or_else(beyond)?;
        let mut span = u64::from(count > 0);
        let mut dense = 1;
        let mut is_contiguous = true;
        if count > 0 {
            for (&size, &stride) in shape.iter().zip(strides).rev() {
                let reach = (size - 1).checked_mul(stride).and_then(|reach| span.checked_add(reach));
                span = reach.ok_or_else(beyond)?;
                is_contiguous &= size == 1 || stride == dense;
                dense *= size;
            }
        }
        if offset.checked_add(span).is_none_or(|end| end > available) {
            return Err(beyond());
        }
        // The storage is in the file, so this is too.
        let start = storage + offset * dtype.size();
        Ok(Self { start, strides: (!is_contiguous).then(|| strides.to_vec()), span, count })
    }

    /// The numbers of some indices of the first dimension.
    pub(super) fn read_rows(&self, source: &Source, tensor: &TensorEntry, first: u64, rows: u64) -> Result<Vec<u8>> {
        let known = tensor.shape.first().copied().unwrap_or(0);
        let inside = first.checked_add(rows).is_some_and(|end| end <= known);
        let Some(start) = self.start().filter(|_| inside && known > 0) else {
            return Err(tensor_problem(&tensor.name, format!("has no rows {first} to {}", first.saturating_add(rows))));
        };
        let row = self.span / known * tensor.dtype.size();
        source.read_vec(start + first * row, rows * row)
    }

    /// The numbers, the last dimension innermost.
    pub(super) fn read(&self, source: &Source, tensor: &TensorEntry) -> Result<Vec<u8>> {
        let stored = source.read_vec(self.start, self.span * tensor.dtype.size())?;
        let Some(strides) = &self.strides else { return Ok(stored) };
        let size = usize::try_from(tensor.dtype.size()).unwrap_or(1);
        let mut gathered = Vec::with_capacity(usize::try_from(tensor.bytes()).unwrap_or(0));
        let mut index = vec![0; tensor.shape.len()];
        let mut place = 0_u64;
        while gathered.len() as u64 != tensor.bytes() {
            let from = usize::try_from(place).unwrap_or(usize::MAX) * size;
            gathered.extend_from_slice(&stored[from..from + size]);
            // The odometer's next reading, from the innermost wheel out.
            for (wheel, (&turns, &stride)) in tensor.shape.iter().zip(strides).enumerate().rev() {
                index[wheel] += 1;
                // Between two readings it may be anywhere: the stride of a dimension of one index is never looked at.
                place = place.wrapping_add(stride);
                if index[wheel] < turns {
                    break;
                }
                index[wheel] = 0;
                place = place.wrapping_sub(turns.wrapping_mul(stride));
            }
        }
        Ok(gathered)
    }
}

/// Product of the sizes.
fn elements(shape: &[u64]) -> Option<u64> {
    // Not try_fold over all: a zero anywhere makes the product zero, but what comes before it may overflow.
    if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1_u64, |product, &size| product.checked_mul(size)) }
}
