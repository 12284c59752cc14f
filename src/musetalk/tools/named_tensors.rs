//! Named tensors in safetensors files: what a network is given and what comes out of it.
//!
//! In here: finding a tensor by its name and refusing one of another shape or kind. Not in here: the networks
//! (`run_network`).

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::lipsync::LipSyncError;
use crate::musetalk::Result;
use crate::musetalk::weights::read_safetensors;
use crate::picture::RgbPicture;

/// Writes tensors into a safetensors file, as 32-bit floats.
pub(super) fn write_outputs(output: &Path, outputs: Vec<(&'static str, Tensor)>) -> Result<()> {
    let finish = |(name, tensor): (&'static str, Tensor)| {
        Ok((name, tensor.f_to_kind(Kind::Float)?.f_to_device(Device::Cpu)?.f_contiguous()?))
    };
    let outputs = outputs.into_iter().map(finish).collect::<Result<Vec<_>>>()?;
    Tensor::write_safetensors(&outputs, output)
        .map_err(|error| LipSyncError::Model { path: output.display().to_string(), problem: error.to_string() })
}

/// The named tensors that a network is given.
pub(super) struct Inputs<'a> {
    path: &'a Path,
    tensors: Vec<(String, Tensor)>,
    device: Device,
    kind: Kind,
}

impl<'a> Inputs<'a> {
    pub(super) fn read(path: &'a Path, device: Device, kind: Kind) -> Result<Self> {
        Ok(Self { path, tensors: read_safetensors(path)?, device, kind })
    }

    /// The tensor of that name, on the device and of the network's kind. A size of 0 in `shape` may be any.
    pub(super) fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        self.get_as(name, shape, self.kind)
    }

    /// The same in another kind than the network's.
    pub(super) fn get_as(&self, name: &str, shape: &[i64], kind: Kind) -> Result<Tensor> {
        let tensor = self.find(name, shape)?;
        if !tensor.is_floating_point() {
            return Err(self.wrong(format!("tensor {name:?} is of type {:?}, floats are wanted", tensor.kind())));
        }
        Ok(tensor.f_to_kind(kind)?.f_to_device(self.device)?)
    }

    /// Pictures, `[n, height, width, 3]`.
    pub(super) fn rgb8(&self, name: &str) -> Result<Vec<RgbPicture>> {
        let tensor = self.find(name, &[0, 0, 0, 3])?;
        if tensor.kind() != Kind::Uint8 {
            return Err(self.wrong(format!("tensor {name:?} is of type {:?}, bytes are wanted", tensor.kind())));
        }
        let (pictures, height, width, _) = tensor.size4()?;
        let too_large = || self.wrong(format!("tensor {name:?} has pictures of {width} x {height}"));
        let side = |length: i64| u32::try_from(length).map_err(|_| too_large());
        let (width, height) = (side(width)?, side(height)?);
        let picture = |index| {
            let bytes = Vec::<u8>::try_from(tensor.f_get(index)?.f_contiguous()?.f_view([-1])?)?;
            RgbPicture::new(width, height, bytes).ok_or_else(too_large)
        };
        (0..pictures).map(picture).collect()
    }

    fn wrong(&self, problem: String) -> LipSyncError {
        LipSyncError::Model { path: self.path.display().to_string(), problem }
    }

    fn find(&self, name: &str, shape: &[i64]) -> Result<&Tensor> {
        let Some((_, tensor)) = self.tensors.iter().find(|(given, _)| given == name) else {
            let given: Vec<&str> = self.tensors.iter().map(|(name, _)| name.as_str()).collect();
            return Err(self.wrong(format!("has no tensor {name:?}, only {given:?}")));
        };
        let given = tensor.size();
        let fits =
            given.len() == shape.len() && given.iter().zip(shape).all(|(given, size)| *size == 0 || given == size);
        if !fits || given.contains(&0) {
            let wanted: Vec<String> =
                shape.iter().map(|size| if *size == 0 { "any".to_owned() } else { size.to_string() }).collect();
            return Err(self.wrong(format!("tensor {name:?} is {given:?} where [{}] is wanted", wanted.join(", "))));
        }
        Ok(tensor)
    }
}
