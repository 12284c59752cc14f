//! What of drawing has the same shapes again and again, so that it can be captured (`gpu::graphs`).

/// Work by its kind and shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Steady {
    /// The sound of so many windows to the audio encoder's rows.
    Hear {
        /// How many.
        windows: i64,
    },
    /// Latents of so many frames and what they hear to those of the talking face.
    Unet {
        /// How many.
        frames: i64,
    },
    /// Those latents to pictures.
    Decode {
        /// How many.
        frames: i64,
        /// Which small decoder, or the model's own.
        decoder: Option<usize>,
        /// First and one past the last row of the latent.
        rows: [i64; 2],
    },
}

impl Steady {
    /// How many frames are decoded, by which decoder, and which rows of the latent.
    pub fn decode(&self) -> Option<(i64, Option<usize>, [i64; 2])> {
        if let Self::Decode { frames, decoder, rows } = *self { Some((frames, decoder, rows)) } else { None }
    }
}
