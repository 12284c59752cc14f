//! The types that numbers have in checkpoints, and the changes from one float to another.

use half::{bf16, f16};

/// The type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 64-bit float.
    F64,
    /// 32-bit float.
    F32,
    /// 16-bit float, IEEE half.
    F16,
    /// 16-bit float with 8 bits of exponent.
    BF16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 16-bit signed integer.
    I16,
    /// 8-bit signed integer.
    I8,
    /// 8-bit unsigned integer.
    U8,
    /// A byte that is 0 or 1.
    Bool,
}

/// Each type with its name in safetensors and the one that PyTorch's storages have.
const NAMES: [(DType, &str, &str); 10] = [
    (DType::F64, "F64", "DoubleStorage"),
    (DType::F32, "F32", "FloatStorage"),
    (DType::F16, "F16", "HalfStorage"),
    (DType::BF16, "BF16", "BFloat16Storage"),
    (DType::I64, "I64", "LongStorage"),
    (DType::I32, "I32", "IntStorage"),
    (DType::I16, "I16", "ShortStorage"),
    (DType::I8, "I8", "CharStorage"),
    (DType::U8, "U8", "ByteStorage"),
    (DType::Bool, "BOOL", "BoolStorage"),
];

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl DType {
    /// As safetensors calls it.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(dtype, ..)| *dtype == self).map_or("", |(_, name, _)| name)
    }

    pub(super) fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known, _)| *known == name).map(|(dtype, ..)| *dtype)
    }

    pub(super) fn from_storage(name: &str) -> Option<Self> {
        NAMES.iter().find(|(.., storage)| *storage == name).map(|(dtype, ..)| *dtype)
    }

    /// Bytes of one number.
    pub fn size(self) -> u64 {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Whether it is a type of floats.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }

    /// The first of some numbers of this type that is infinite or NaN, and its place.
    pub(super) fn first_not_finite(self, bytes: &[u8]) -> Option<(usize, f64)> {
        // All bits of the exponent are set. On integers, since that is several times quicker than on values.
        let place = match self {
            Self::F64 => find(bytes, |number| u64::from_le_bytes(number) & 0x7ff0 << 48 == 0x7ff0 << 48),
            Self::F32 => find(bytes, |number| u32::from_le_bytes(number) & 0x7f80 << 16 == 0x7f80 << 16),
            Self::F16 => find(bytes, |number| u16::from_le_bytes(number) & 0x7c00 == 0x7c00),
            Self::BF16 => find(bytes, |number| u16::from_le_bytes(number) & 0x7f80 == 0x7f80),
            _ => None,
        };
        place.map(|place| (place, self.floats(bytes).nth(place).unwrap_or(f64::NAN)))
    }

    /// Floats of this type as `wanted`; a number too large for it is an error.
    pub(super) fn convert(self, bytes: Vec<u8>, wanted: Self) -> Result<Vec<u8>, String> {
        if self == wanted {
            return Ok(bytes);
        }
        let count = bytes.len() / usize::try_from(self.size()).unwrap_or(1);
        let mut converted = Vec::with_capacity(count * usize::try_from(wanted.size()).unwrap_or(1));
        for value in self.floats(&bytes) {
            let holds = match wanted {
                Self::F16 => push(&mut converted, f16::from_f64(value).to_le_bytes(), f16::from_f64(value).is_finite()),
                Self::BF16 => {
                    push(&mut converted, bf16::from_f64(value).to_le_bytes(), bf16::from_f64(value).is_finite())
                }
                Self::F32 => {
                    #[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
                    let single = value as f32;
                    push(&mut converted, single.to_le_bytes(), single.is_finite())
                }
                _ => return Err(format!("weights are not stored as {wanted}")),
            };
            if !holds {
                return Err(format!("{value} is too large for {wanted}: keep 32-bit floats"));
            }
        }
        Ok(converted)
    }

    fn floats(self, bytes: &[u8]) -> Box<dyn Iterator<Item = f64> + '_> {
        match self {
            Self::F64 => Box::new(numbers(bytes).map(f64::from_le_bytes)),
            Self::F32 => Box::new(numbers(bytes).map(|number| f64::from(f32::from_le_bytes(number)))),
            Self::F16 => Box::new(numbers(bytes).map(|number| f16::from_le_bytes(number).to_f64())),
            Self::BF16 => Box::new(numbers(bytes).map(|number| bf16::from_le_bytes(number).to_f64())),
            _ => Box::new(std::iter::empty()),
        }
    }
}

fn numbers<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn find<const N: usize>(bytes: &[u8], is: impl Fn([u8; N]) -> bool) -> Option<usize> {
    // Whole blocks first: a plain "any" over few numbers becomes vector code, a search for the place does not.
    let numbers = bytes.as_chunks::<N>().0;
    let block = numbers.chunks(1024).position(|block| block.iter().fold(false, |any, number| any | is(*number)))?;
    let start = block * 1024;
    numbers[start..].iter().position(|number| is(*number)).map(|place| start + place)
}

fn push<const N: usize>(to: &mut Vec<u8>, number: [u8; N], finite: bool) -> bool {
    to.extend_from_slice(&number);
    finite
}
