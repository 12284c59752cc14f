//! The endless order of an avatar's own frames, for idle and speech alike.

/// How the last frame is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CycleKind {
    /// By the first: the material was made as a true loop.
    Loop,
    /// By itself, then backwards, as MuseTalk's `list + reversed(list)`: any video becomes a loop without a jump.
    PingPong,
}

/// Maps an ever growing pose to one of `len` frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cycle {
    kind: CycleKind,
    len: u64,
}

impl Cycle {
    /// `len` is the number of frames; at least one is assumed.
    pub fn new(kind: CycleKind, len: usize) -> Self {
        Self { kind, len: (len as u64).max(1) }
    }

    /// Which frame is shown at a place in the endless cycle: an index below `len`.
    pub fn frame(&self, pose: u64) -> usize {
        let index = match self.kind {
            CycleKind::Loop => pose % self.len,
            CycleKind::PingPong => {
                let at = pose % (2 * self.len);
                if at < self.len { at } else { 2 * self.len - 1 - at }
            }
        };
        // Below `len`, which came from a usize.
        usize::try_from(index).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_starts_over_and_a_ping_pong_turns_round() {
        let order = |kind| (0..9).map(|pose| Cycle::new(kind, 3).frame(pose)).collect::<Vec<_>>();
        assert_eq!(order(CycleKind::Loop), [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(order(CycleKind::PingPong), [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }

    #[test]
    fn a_ping_pong_never_moves_by_more_than_one_frame() {
        let cycle = Cycle::new(CycleKind::PingPong, 7);
        for pose in 0..100 {
            assert!(cycle.frame(pose).abs_diff(cycle.frame(pose + 1)) <= 1);
        }
    }
}
