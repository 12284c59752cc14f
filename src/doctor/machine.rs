//! What the processor of this machine calculates with, and how many speakers it carries.
//!
//! In here: the class of a processor by what the system tells of it, and an estimate from a short measurement. Not in here:
//! what a GPU carries, which `mouthpiece bench sessions` measures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lipsync::{AvatarHandle, LipSync, LipSyncError, MouthRun};
use crate::timeline::{FRAME_DURATION, LIPSYNC_RATE};

/// What most frames of a sentence are drawn in.
const FRAMES: usize = 4;
/// Their median counts.
const ROUNDS: usize = 5;
/// Before them, since the first calls of a shape are slower.
const WARM_UP: usize = 2;
/// A quarter of the time is left for what comes unevenly.
const USABLE: f64 = 0.75;
/// Of a core, for a speaker with one viewer: the voice, pasting, H.264 of 512x512 and the connection. It is what is left of the
/// 143 % of a core that a whole server with 8 speakers takes on an EPYC with AVX2 without the 12 % that drawing each takes there
/// (`FIGURES.md`), rounded up.
const REST: f64 = 0.06;

/// The class of the processor, with its name, from the text of `/proc/cpuinfo`.
pub(super) fn processor(cpuinfo: &str) -> String {
    let field = |names: &[&str]| {
        let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
        fields.find(|(name, _)| names.contains(&name.trim())).map(|(_, value)| value.trim())
    };
    let flags: Vec<&str> = field(&["flags", "Features"]).unwrap_or_default().split_whitespace().collect();
    let name = field(&["model name"]).unwrap_or("a processor that says no name");
    format!("{name}, {}", class(&flags))
}

/// What oneDNN and libtorch take of a processor's abilities, the best first.
fn class(flags: &[&str]) -> &'static str {
    let classes = [
        ("amx_tile", "AMX"),
        ("avx512_fp16", "AVX-512 FP16"),
        ("avx512f", "AVX-512 without FP16"),
        ("avx2", "AVX2"),
        ("sve", "ARM SVE"),
        ("asimd", "ARM NEON"),
    ];
    let found = classes.iter().find(|(flag, _)| flags.contains(flag));
    found.map_or("none of AVX2, AVX-512 and NEON, so it will be slow", |(_, class)| class)
}

/// How long a frame takes with the network as it is loaded, in batches of [`FRAMES`].
pub(super) fn time_of_frame(network: &mut dyn LipSync, avatar: AvatarHandle) -> Result<Duration, LipSyncError> {
    let sound: Arc<[f32]> = vec![0.01; LIPSYNC_RATE as usize].into();
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let run = MouthRun { avatar, poses: vec![0; FRAMES], audio: Arc::clone(&sound), first_frame_at: 0 };
        let started = Instant::now();
        network.draw(&[run])?;
        if round >= WARM_UP {
            times.push(started.elapsed());
        }
    }
    times.sort();
    let frames = u32::try_from(FRAMES).unwrap_or(1);
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default() / frames)
}

/// Speakers, each with a viewer, that have all their mouths in time: the cores draw them and do the rest.
#[allow(clippy::cast_precision_loss, reason = "cores are counted in hundreds")]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number above 0")]
pub(super) fn speakers(time_of_frame: Duration, cores: usize) -> usize {
    let drawing = time_of_frame.as_secs_f64() / FRAME_DURATION.as_secs_f64();
    (USABLE * cores as f64 / (drawing + REST)).floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_is_named_by_the_best_that_it_has() {
        let cpuinfo = |flags: &str| format!("processor\t: 0\nmodel name\t: Acme One\nflags\t\t: fpu {flags} x\n");
        for (flags, class) in [
            ("avx2", "AVX2"),
            ("avx2 avx512f avx512_bf16", "AVX-512 without FP16"),
            ("avx2 avx512f avx512_fp16", "AVX-512 FP16"),
            ("avx2 avx512f avx512_fp16 amx_tile", "AMX"),
        ] {
            assert_eq!(processor(&cpuinfo(flags)), format!("Acme One, {class}"));
        }
        assert!(processor("Features\t: fp asimd evtstrm\n").ends_with("no name, ARM NEON"));
        assert!(processor("").contains("slow"));
    }

    #[test]
    fn speakers_are_as_many_as_all_cores_carry() {
        let speakers = |ms: u64, cores| super::speakers(Duration::from_millis(ms), cores);
        assert_eq!((speakers(20, 1), speakers(20, 2), speakers(20, 64)), (1, 2, 85));
        assert_eq!((speakers(5, 2), speakers(5, 16)), (8, 64));
        // One core has the rest to do, too.
        assert!(speakers(5, 1) < speakers(5, 2));
        assert_eq!(speakers(60, 2), 0);
        assert!(speakers(0, 2) > 0);
    }
}
