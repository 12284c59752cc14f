//! Where inference runs, from what was asked for and what this libtorch and this machine have.

use std::fmt;

use tch::Device;

use super::libtorch::Libtorch;
use crate::lipsync::LipSyncError;

/// Where inference is asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU that libtorch can use, else the CPU. A server takes all ([`DeviceChoices::of_this_machine`]).
    Auto,
    /// The CPU, GPUs or not.
    Cpu,
    /// The GPU of this number, from 0.
    Cuda(usize),
}

/// Engines that a server's CPU gets. One thread that draws waits behind encoders for half of its time while another core has
/// nothing to do; two on two cores draw for twice as many speakers. Each has a copy of small models' weights.
const MOST_CPU_ENGINES: usize = 16;

/// One device or several, each of which gets an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChoices {
    choices: Vec<DeviceChoice>,
    /// They were found and not asked for.
    found: bool,
}

/// What was typed is no device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// A word that is none of them.
    #[error("device {0:?} is not known: use auto, cpu, cuda, cuda:N, or several like cuda:0,cuda:1")]
    Unknown(String),
    /// The same GPU two times.
    #[error("device {0:?} names a GPU twice")]
    Twice(String),
}

impl Default for DeviceChoices {
    fn default() -> Self {
        Self { choices: vec![DeviceChoice::Auto], found: false }
    }
}

impl DeviceChoices {
    /// The one that is used where one is enough.
    pub fn first(&self) -> DeviceChoice {
        self.choices.first().copied().unwrap_or(DeviceChoice::Auto)
    }

    /// All of them, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = DeviceChoice> + '_ {
        self.choices.iter().copied()
    }

    /// What a server draws on, which has work for every GPU and every core: `auto` is all GPUs of this machine that libtorch
    /// can use, if there are any; else, as with `cpu`, an engine for each core. Blocks while libtorch's CUDA half is loaded.
    pub fn of_this_machine(&self) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let gpus = || Libtorch::in_use().gpus.unwrap_or(0);
        self.with(if self.first() == DeviceChoice::Auto { gpus() } else { 0 }, cores)
    }

    /// The same of a machine with so many GPUs and cores.
    fn with(&self, gpus: usize, cores: usize) -> Self {
        match (self.choices.as_slice(), gpus) {
            ([DeviceChoice::Auto], 1..) => Self { choices: (0..gpus).map(DeviceChoice::Cuda).collect(), found: true },
            ([DeviceChoice::Auto | DeviceChoice::Cpu], _) => {
                Self { choices: vec![DeviceChoice::Cpu; cores.clamp(1, MOST_CPU_ENGINES)], found: true }
            }
            _ => self.clone(),
        }
    }

    /// Whether one of them that does not work may be left out: nobody asked for it.
    pub fn may_be_fewer(&self) -> bool {
        self.found
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => formatter.write_str("auto"),
            Self::Cpu => formatter.write_str("cpu"),
            Self::Cuda(index) => write!(formatter, "cuda:{index}"),
        }
    }
}

impl fmt::Display for DeviceChoices {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|choice| choice.to_string()).collect();
        formatter.write_str(&names.join(","))
    }
}

impl std::str::FromStr for DeviceChoices {
    type Err = DeviceError;

    fn from_str(given: &str) -> Result<Self, DeviceError> {
        let choices = given.split(',').map(str::parse).collect::<Result<Vec<DeviceChoice>, _>>()?;
        let twice =
            |choice| matches!(choice, DeviceChoice::Cuda(_)) && choices.iter().filter(|&&c| c == choice).count() > 1;
        if choices.iter().any(|&choice| twice(choice)) {
            return Err(DeviceError::Twice(given.to_owned()));
        }
        // Which it is may be any of the others.
        if choices.len() > 1 && choices.contains(&DeviceChoice::Auto) {
            return Err(DeviceError::Unknown(given.to_owned()));
        }
        Ok(Self { choices, found: false })
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = DeviceError;

    fn from_str(given: &str) -> Result<Self, DeviceError> {
        match given {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => given
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| DeviceError::Unknown(given.to_owned())),
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

    #[test]
    fn a_server_that_may_choose_draws_on_all_gpus_or_all_cores_and_otherwise_on_what_was_named() {
        let on = |text: &str, gpus, cores| {
            let choices = text.parse::<DeviceChoices>().unwrap().with(gpus, cores);
            (choices.to_string(), choices.may_be_fewer())
        };
        assert_eq!(on("auto", 0, 1), ("cpu".to_owned(), true));
        assert_eq!(on("auto", 0, 3), ("cpu,cpu,cpu".to_owned(), true));
        assert_eq!(on("auto", 0, 500).0.split(',').count(), MOST_CPU_ENGINES);
        assert_eq!(on("cpu", 3, 2), ("cpu,cpu".to_owned(), true));
        assert_eq!(on("auto", 1, 2), ("cuda:0".to_owned(), true));
        assert_eq!(on("auto", 3, 2), ("cuda:0,cuda:1,cuda:2".to_owned(), true));
        for named in ["cpu,cpu,cpu", "cuda:1", "cuda:2,cuda:0"] {
            assert_eq!(on(named, 3, 2), (named.to_owned(), false));
        }
    }

    #[test]
    fn several_devices_are_named_with_commas_and_no_gpu_twice() {
        let choices = |text: &str| text.parse::<DeviceChoices>();
        assert_eq!(choices("cpu,cpu").unwrap().iter().collect::<Vec<_>>(), [DeviceChoice::Cpu; 2]);
        assert_eq!(choices("cuda,cuda:1").unwrap().to_string(), "cuda:0,cuda:1");
        assert_eq!(choices("cuda,cuda:0"), Err(DeviceError::Twice("cuda,cuda:0".into())));
        assert!(choices("auto,cpu").is_err() && choices("cpu,").is_err() && choices("gpu").is_err());
    }
}
