//! What is known of a mouth at rest in one picture: the *mouth plate*, from which every other shape of it is made.
//!
//! In here: plain data and the mouth's own coordinates. Not in here: how a plate is found (`analysis`), kept (`file`) and
//! used (`field`, `inside`).

/// Columns at which the line between the lips is known, from one corner to the other.
pub const COLUMNS: usize = 65;

/// Numbers of a plate that are one each.
const SINGLE: usize = 13;
/// Numbers of a plate in a file: those, then the upper and the lower edge.
pub(super) const NUMBERS: usize = SINGLE + 2 * COLUMNS;
/// Numbers of a complexion in a file.
pub(super) const COMPLEXION: usize = 9;
/// The least pixels to the unit: the mouth is 20 pixels wide then.
pub(super) const LEAST_SCALE: f32 = 0.3;
/// Where a mouth may be in a picture.
const MOST_PIXELS: f32 = 16_384.0;

/// A mouth at rest. Lengths are in units of the mouth: the face of the drawn character of this project, 512 pixels wide
/// as a picture, has one pixel to the unit. From `origin`, u runs along the line of the eyes, to the right as seen, and v
/// down the face.
#[derive(Clone, Debug, PartialEq)]
pub struct MouthPlate {
    /// The middle between the corners, in pixels of the picture.
    pub origin: [f32; 2],
    /// The direction of u in the picture, of length 1.
    pub along: [f32; 2],
    /// Pixels to the unit.
    pub scale: f32,
    /// How far the corners are from the middle.
    pub half: f32,
    /// 0 where the lips meet, 1 where the mouth is open.
    pub open: f32,
    /// Thickness of the upper and of the lower lip.
    pub lips: [f32; 2],
    /// How far the base of the nose is above the corners.
    pub nose: f32,
    /// How far the end of the chin is below them.
    pub chin: f32,
    /// Half the width of the jaw at its angles.
    pub side: f32,
    /// Half the width of the face at the height of the mouth.
    pub contour: f32,
    /// The upper lip's lower edge: v at [`COLUMNS`] places from `-half` to `half`.
    pub upper: [f32; COLUMNS],
    /// The lower lip's upper edge there; the same line where the lips meet.
    pub lower: [f32; COLUMNS],
}

/// The light and the colours of a face, for all frames of an avatar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Complexion {
    /// Of the lips; red, green and blue, 0 to 255.
    pub lip: [f32; 3],
    /// Of teeth in this light.
    pub teeth: [f32; 3],
    /// How much brighter the skin is for each unit to the right, as a share of its brightness.
    pub slope: f32,
    /// How soft the picture's sharpest edges are: the deviation of a Gaussian, in pixels.
    pub softness: f32,
    /// Whether teeth are seen in an open mouth: 0 or 1.
    pub own_teeth: f32,
}

impl MouthPlate {
    /// A place in the picture as u and v.
    pub fn to_units(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let (dx, dy) = ((x - self.origin[0]) / self.scale, (y - self.origin[1]) / self.scale);
        let [along, down] = self.along;
        [dx * along + dy * down, dy * along - dx * down]
    }

    /// u and v as a place in the picture.
    pub fn to_pixels(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let [along, down] = self.along;
        [self.origin[0] + self.scale * (u * along - v * down), self.origin[1] + self.scale * (u * down + v * along)]
    }

    /// v of the line on which the lips meet when they are shut, at each column: nearer to the upper lip, which moves less.
    pub(super) fn meeting(&self) -> [f32; COLUMNS] {
        std::array::from_fn(|column| 0.42f32.mul_add(self.lower[column] - self.upper[column], self.upper[column]))
    }

    /// Over how much of the cheek a change of the mouth's width ends: before the contour of the face, or it would be dented.
    pub(super) fn room(&self) -> f32 {
        (0.93 * self.contour - self.half).max(14.0)
    }

    /// The parabola that is nearest to [`MouthPlate::meeting`]: its arc without its waves.
    pub(super) fn arc(&self) -> [f32; COLUMNS] {
        let line = self.meeting();
        let place = |column: usize| column as f32 / (COLUMNS / 2) as f32 - 1.0;
        // Legendre's polynomials are orthogonal over -1 to 1, so each share is a sum of its own.
        let shapes: [fn(f32) -> f32; 3] = [|_| 1.0, |x| x, |x| 1.5 * x * x - 0.5];
        let shares = shapes.map(|shape| {
            let (mut both, mut own) = (0.0, 0.0);
            for (column, v) in line.iter().enumerate() {
                both += v * shape(place(column));
                own += shape(place(column)).powi(2);
            }
            both / own
        });
        std::array::from_fn(|column| shapes.iter().zip(shares).map(|(shape, share)| share * shape(place(column))).sum())
    }

    /// All its numbers, in the order in which a file has them.
    pub(super) fn numbers(&self) -> [f32; NUMBERS] {
        let ([x, y], [along, down], [upper_lip, lower_lip]) = (self.origin, self.along, self.lips);
        let single = [
            x,
            y,
            along,
            down,
            self.scale,
            self.half,
            self.open,
            upper_lip,
            lower_lip,
            self.nose,
            self.chin,
            self.side,
            self.contour,
        ];
        let mut all = single.iter().chain(&self.upper).chain(&self.lower);
        std::array::from_fn(|_| all.next().copied().unwrap_or_default())
    }

    /// The plate of these numbers; what cannot be is named.
    pub(super) fn from_numbers(numbers: &[f32]) -> Result<Self, String> {
        let wrong = || format!("a mouth has {} numbers, it must have {NUMBERS}", numbers.len());
        let (single, edges) = numbers.split_first_chunk::<SINGLE>().ok_or_else(wrong)?;
        let (upper, edges) = edges.split_first_chunk::<COLUMNS>().ok_or_else(wrong)?;
        let lower: [f32; COLUMNS] = edges.try_into().map_err(|_| wrong())?;
        let [x, y, along, down, scale, half, open, upper_lip, lower_lip, nose, chin, side, contour] = *single;
        let within = |name: &str, value: f32, least: f32, most: f32| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(format!("its {name} is {value}, it must be {least} to {most}")),
        };
        within("origin", x, -MOST_PIXELS, MOST_PIXELS)?;
        within("origin", y, -MOST_PIXELS, MOST_PIXELS)?;
        within("direction", along.hypot(down), 0.99, 1.01)?;
        within("scale", scale, LEAST_SCALE, 100.0)?;
        within("half width", half, 8.0, 120.0)?;
        within("openness", open, 0.0, 1.0)?;
        within("upper lip", upper_lip, 1.0, 60.0)?;
        within("lower lip", lower_lip, 1.0, 60.0)?;
        within("nose", nose, 4.0, 200.0)?;
        within("chin", chin, 8.0, 300.0)?;
        within("jaw", side, 15.0, 400.0)?;
        within("contour", contour, 15.0, 400.0)?;
        upper.iter().chain(&lower).try_for_each(|v| within("line between the lips", *v, -120.0, 120.0))?;
        Ok(Self {
            origin: [x, y],
            along: [along, down],
            scale,
            half,
            open,
            lips: [upper_lip, lower_lip],
            nose,
            chin,
            side,
            contour,
            upper: *upper,
            lower,
        })
    }
}

impl Complexion {
    /// All its numbers, in the order in which a file has them.
    pub(super) fn numbers(&self) -> [f32; COMPLEXION] {
        let ([r, g, b], [red, green, blue]) = (self.lip, self.teeth);
        [r, g, b, red, green, blue, self.slope, self.softness, self.own_teeth]
    }

    /// The complexion of these numbers; what cannot be is named.
    pub(super) fn from_numbers(numbers: &[f32]) -> Result<Self, String> {
        let wrong = || format!("a complexion has {} numbers, it must have {COMPLEXION}", numbers.len());
        let [r, g, b, red, green, blue, slope, softness, own_teeth]: [f32; COMPLEXION] =
            numbers.try_into().map_err(|_| wrong())?;
        let colours = [r, g, b, red, green, blue].iter().all(|level| (0.0..=255.0).contains(level));
        let rest =
            (-0.05..=0.05).contains(&slope) && (0.0..=50.0).contains(&softness) && (0.0..=1.0).contains(&own_teeth);
        match colours && rest {
            true => Ok(Self { lip: [r, g, b], teeth: [red, green, blue], slope, softness, own_teeth }),
            false => Err(format!("its complexion {numbers:?} cannot be")),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A straight shut mouth of this half width, in the middle of a picture of 200 by 160 pixels.
    pub fn plate(half: f32) -> MouthPlate {
        MouthPlate {
            origin: [100.0, 70.0],
            along: [1.0, 0.0],
            scale: 1.0,
            half,
            open: 0.0,
            lips: [9.8, 10.4],
            nose: 24.0,
            chin: 50.0,
            side: 60.0,
            contour: 66.0,
            upper: [0.0; COLUMNS],
            lower: [0.0; COLUMNS],
        }
    }

    #[test]
    fn units_and_pixels_are_each_others_inverse() {
        let plate = MouthPlate { along: [0.8, 0.6], scale: 1.7, ..plate(30.0) };
        let there = plate.to_pixels([12.0, -7.0]);
        let back = plate.to_units(there);
        assert!((back[0] - 12.0).abs() < 1e-4 && (back[1] + 7.0).abs() < 1e-4, "{back:?}");
        // v is down the face: to the left of u's direction on a picture whose y is down.
        let down = plate.to_pixels([0.0, 10.0]);
        assert!(down[1] > plate.origin[1] && down[0] < plate.origin[0]);
    }

    #[test]
    fn a_plate_is_its_numbers_and_impossible_numbers_are_named() {
        let plate = plate(30.0);
        let mut numbers = plate.numbers();
        assert_eq!(MouthPlate::from_numbers(&numbers), Ok(plate));
        assert!(MouthPlate::from_numbers(&numbers[1..]).unwrap_err().contains("143"));
        numbers[4] = f32::NAN;
        assert!(MouthPlate::from_numbers(&numbers).unwrap_err().contains("scale"));
    }
}
