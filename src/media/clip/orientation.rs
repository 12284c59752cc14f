//! Turning pictures upright: the eight ways in which a camera can have been held.
//!
//! In here: the ways by EXIF's numbers (EXIF 2.32, tag 0x0112) and GStreamer's names (`image-orientation`), and moving
//! pixels. Not in here: where a file says it.

/// How stored pixels must be turned to be seen upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::media) struct Orientation {
    /// Rows and columns change places first.
    transposed: bool,
    /// Then left and right.
    mirrored: bool,
    /// Then top and bottom.
    flipped: bool,
}

impl Orientation {
    const fn new(transposed: bool, mirrored: bool, flipped: bool) -> Self {
        Self { transposed, mirrored, flipped }
    }

    /// By EXIF's number; what is none is upright.
    pub fn from_exif(number: u8) -> Self {
        match number {
            2 => Self::new(false, true, false),
            3 => Self::new(false, true, true),
            4 => Self::new(false, false, true),
            5 => Self::new(true, false, false),
            6 => Self::new(true, true, false),
            7 => Self::new(true, true, true),
            8 => Self::new(true, false, true),
            _ => Self::default(),
        }
    }

    /// By the value of GStreamer's tag; what is none is upright.
    pub fn from_tag(tag: &str) -> Self {
        Self::from_exif(match tag {
            "flip-rotate-0" => 2,
            "rotate-180" => 3,
            "flip-rotate-180" => 4,
            "flip-rotate-270" => 5,
            "rotate-90" => 6,
            "flip-rotate-90" => 7,
            "rotate-270" => 8,
            _ => 1,
        })
    }

    /// Turned so and then seen in a mirror.
    pub fn then_mirrored(self) -> Self {
        Self { mirrored: !self.mirrored, ..self }
    }

    pub fn is_upright(self) -> bool {
        self == Self::default()
    }

    /// Whether width and height change places.
    pub fn is_transposed(self) -> bool {
        self.transposed
    }

    /// The pixels of `rows`, each `width` pixels of three bytes and perhaps more, as they are seen upright.
    pub fn turn(self, rows: &[&[u8]], width: usize) -> Vec<u8> {
        let height = rows.len();
        let (to_width, to_height) = if self.transposed { (height, width) } else { (width, height) };
        let mut turned = Vec::with_capacity(width * height * 3);
        for y in 0..to_height {
            let y = if self.flipped { to_height - 1 - y } else { y };
            if !self.transposed && !self.mirrored {
                turned.extend_from_slice(&rows[y][..width * 3]);
                continue;
            }
            for x in 0..to_width {
                let x = if self.mirrored { to_width - 1 - x } else { x };
                let (row, column) = if self.transposed { (x, y) } else { (y, x) };
                turned.extend_from_slice(&rows[row][column * 3..column * 3 + 3]);
            }
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 3 x 2 pixels, each its letter thrice, turned, and read row by row.
    fn turned(orientation: Orientation) -> String {
        let rows: Vec<Vec<u8>> = ["abc", "def"].map(|row| row.bytes().flat_map(|byte| [byte; 3]).collect()).to_vec();
        let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
        orientation.turn(&rows, 3).chunks(3).map(|pixel| char::from(pixel[0])).collect()
    }

    #[test]
    fn each_of_the_eight_ways_is_undone() {
        let expected = ["abcdef", "cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda", "cfbead"];
        for (number, expected) in (1..).zip(expected) {
            assert_eq!(turned(Orientation::from_exif(number)), expected, "EXIF {number}");
        }
        assert_eq!(turned(Orientation::from_exif(0)), "abcdef");
        assert_eq!(turned(Orientation::from_exif(6).then_mirrored()), "adbecf");
    }

    #[test]
    fn rows_may_be_longer_than_their_pixels() {
        assert_eq!(Orientation::default().turn(&[&[1, 2, 3, 0], &[4, 5, 6, 0]], 1), [1, 2, 3, 4, 5, 6]);
    }
}
