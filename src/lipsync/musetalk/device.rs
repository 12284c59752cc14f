//! Where inference runs, from what was asked for and what this libtorch and this machine have.

use tch::Device;

use super::libtorch::Libtorch;
use crate::lipsync::LipSyncError;

/// Where inference is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Cuda(usize),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("device {0:?} is not known: use auto, cpu, cuda or cuda:N")]
pub struct UnknownDevice(String);

impl std::str::FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(given: &str) -> Result<Self, UnknownDevice> {
        match given {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => given
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| UnknownDevice(given.to_owned())),
        }
    }
}

/// `auto` takes the first GPU that libtorch can use, else the CPU; a named GPU that is not there is an error.
pub fn find_device(choice: DeviceChoice) -> Result<Device, LipSyncError> {
    if choice == DeviceChoice::Cpu {
        return Ok(Device::Cpu);
    }
    match (choice, Libtorch::in_use().gpus) {
        (DeviceChoice::Cuda(index), Ok(present)) if index < present => Ok(Device::Cuda(index)),
        (DeviceChoice::Cuda(index), found) => {
            let problem = match found {
                Ok(present) => format!("there are {present} GPUs, numbered from 0"),
                Err(reason) => format!("is not there: {reason}; see `mouthpiece doctor`, or take --device cpu or auto"),
            };
            Err(LipSyncError::Config { field: format!("device cuda:{index}"), problem })
        }
        (_, Ok(_)) => Ok(Device::Cuda(0)),
        (_, Err(_)) => Ok(Device::Cpu),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_finds_a_device_and_a_gpu_that_is_not_there_is_named() {
        assert!(find_device(DeviceChoice::Auto).is_ok());
        let error = find_device(DeviceChoice::Cuda(99)).unwrap_err().to_string();
        assert!(error.contains("cuda:99"), "{error}");
    }
}
