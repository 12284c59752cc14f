//! Which way a map lies in memory.
//!
//! In here: the two ways and turning one into the other. Not in here: which is quicker (`serving::layouts`).

use tch::Tensor;

use super::layers::channels_last;
use crate::musetalk::Result;

/// What is innermost in memory of `[batch, channels, height, width]`. The values are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A pixel's channels, which a CPU's convolutions and a GPU's tensor cores take.
    ChannelsLast,
    /// A row's pixels, which libtorch's own norms on a GPU are quicker on.
    ChannelsFirst,
}

impl Layout {
    /// The same values in this layout; no copy where they are in it.
    pub fn of(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::ChannelsLast => channels_last(x),
            Self::ChannelsFirst => Ok(x.f_contiguous()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn values_stay_and_strides_change() {
        let map = Tensor::arange(48, (Kind::Float, Device::Cpu)).view([2, 3, 4, 2]);
        let last = Layout::ChannelsLast.of(&map).unwrap();
        assert_eq!((last.stride(), last.size()), (vec![24, 1, 6, 3], map.size()));
        assert_eq!(last, map);
        let first = Layout::ChannelsFirst.of(&last).unwrap();
        assert_eq!((first.stride(), &first), (map.stride(), &map));
        assert_eq!(Layout::ChannelsLast.of(&last).unwrap().data_ptr(), last.data_ptr(), "nothing is copied twice");
    }
}
