//! How many frames are drawn in one go: the sizes that batches have, and the next one's of a sentence. Pure.

/// Sizes of batches. Fixed, so that every one is warmed once and no new shape appears while somebody speaks.
pub const BATCH_SIZES: [usize; 5] = [1, 2, 4, 8, 16];

/// Rounds in which each size is drawn before it counts: the first calls of a shape are many times slower than the rest, while
/// buffers grow and kernels are chosen.
pub const WARM_UP_ROUNDS: usize = 2;

/// Size of the next batch: the first mouths of a sentence come alone so that they come soon, later ones in larger
/// batches because those are cheaper for each frame. `drawn` frames of a sentence are drawn and the first `drawable` can be; 0 if
/// there is none to draw.
pub fn batch_size(drawn: usize, drawable: usize) -> usize {
    let wish = match drawn {
        0..=1 => 1,
        2..=3 => 2,
        _ => 4,
    };
    BATCH_SIZES.into_iter().rev().find(|size| *size <= wish.min(drawable.saturating_sub(drawn))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mouths_come_alone_and_batches_grow() {
        let mut drawn = 0;
        let mut sizes = Vec::new();
        while drawn < 21 {
            let size = batch_size(drawn, 21);
            sizes.push(size);
            drawn += size;
        }
        assert_eq!(sizes, [1, 1, 2, 4, 4, 4, 4, 1]);
        assert_eq!(batch_size(4, 7), 2);
        assert_eq!(batch_size(5, 5), 0);
    }
}
