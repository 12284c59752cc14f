//! Reads what `metrics` recorded in this process back as percentiles, for `render` and `bench`.

use std::collections::HashMap;

use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde::Serialize;

use crate::latency::Stage;

/// Keeps every value that is recorded, until asked.
pub(super) struct Recording(Snapshotter);

/// A distribution of durations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Percentiles {
    /// How many were recorded.
    pub count: usize,
    /// Milliseconds that half of them took at most.
    pub p50_ms: f64,
    /// Of 95 in a hundred.
    pub p95_ms: f64,
    /// Of 99 in a hundred.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// What was recorded since the last look: histograms in seconds and counters, by name and labels.
pub(super) struct Recorded {
    histograms: HashMap<(String, String), Vec<f64>>,
    counters: HashMap<(String, String), u64>,
    gauges: HashMap<String, f64>,
    /// Sizes of the engine's batches and what those of each size took, in seconds.
    batches: Vec<(usize, Vec<f64>)>,
}

impl Recording {
    /// Takes the place of the Prometheus recorder in a process that serves nobody.
    pub(super) fn install() -> anyhow::Result<Self> {
        let recorder = DebuggingRecorder::new();
        let snapshotter = recorder.snapshotter();
        recorder.install()?;
        Ok(Self(snapshotter))
    }

    pub(super) fn take(&self) -> Recorded {
        let (mut histograms, mut counters): (HashMap<_, Vec<f64>>, HashMap<_, _>) = Default::default();
        let (mut gauges, mut batches) = (HashMap::new(), Vec::new());
        for (key, _, _, value) in self.0.snapshot().into_vec() {
            let name = key.key().name().to_owned();
            let label: String = key.key().labels().map(|label| label.value()).collect();
            match (key.kind(), value) {
                (MetricKind::Histogram, DebugValue::Histogram(values)) => {
                    let values: Vec<f64> = values.into_iter().map(f64::from).collect();
                    if name == crate::metrics::INFER {
                        let size = key.key().labels().find_map(|label| label.value().parse().ok());
                        batches.extend(size.map(|size: usize| (size, values.clone())));
                    }
                    histograms.entry((name, label)).or_default().extend(values);
                }
                (MetricKind::Counter, DebugValue::Counter(count)) => {
                    counters.insert((name, label), count);
                }
                (MetricKind::Gauge, DebugValue::Gauge(value)) => {
                    gauges.insert(name, value.into_inner());
                }
                _ => {}
            }
        }
        Recorded { histograms, counters, gauges, batches }
    }
}

impl Recorded {
    /// `None` if nothing was recorded under the name.
    pub(super) fn percentiles(&self, name: &str) -> Option<Percentiles> {
        self.labelled(name, "")
    }

    fn labelled(&self, name: &str, label: &str) -> Option<Percentiles> {
        Percentiles::of_seconds(self.histograms.get(&(name.to_owned(), label.to_owned()))?)
    }

    /// From the beginning of a turn to a stage of it.
    pub(super) fn turn(&self, stage: Stage) -> Option<Percentiles> {
        self.labelled(crate::metrics::TURN_STAGE, stage.as_str())
    }

    /// A counter with one label, zero if it never counted.
    pub(super) fn count(&self, name: &str, label: &str) -> u64 {
        self.counters.get(&(name.to_owned(), label.to_owned())).copied().unwrap_or(0)
    }

    /// A counter without labels, zero if it never counted.
    pub(super) fn total(&self, name: &str) -> u64 {
        self.count(name, "")
    }

    /// Where a gauge without labels stood; `None` if nobody has moved it.
    pub(super) fn gauge(&self, name: &str) -> Option<f64> {
        self.gauges.get(name).copied()
    }

    /// Batches that the engine drew.
    pub(super) fn batch_count(&self) -> usize {
        self.batches.iter().map(|(_, took)| took.len()).sum()
    }

    /// What a batch of each size took in the engine, from its runs to its mouths, as `bench throughput` has it for that size
    /// alone.
    #[allow(clippy::cast_precision_loss, reason = "frames of minutes, not of centuries")]
    pub(super) fn batches(&self) -> serde_json::Value {
        let mut sizes: Vec<_> = self.batches.iter().filter(|(_, took)| !took.is_empty()).collect();
        sizes.sort_by_key(|(size, _)| *size);
        let row = |(size, took): &(usize, Vec<f64>)| {
            let mean = took.iter().sum::<f64>() / took.len() as f64 * 1e3;
            let median = Percentiles::of_seconds(took).map(|took| took.p50_ms);
            serde_json::json!({"batch": size, "count": took.len(), "mean_ms": super::rounded(mean), "p50_ms": median})
        };
        sizes.into_iter().map(row).collect()
    }

    /// Frames in a batch of the engine, of those that were drawn.
    #[allow(clippy::cast_precision_loss, reason = "frames of minutes, not of centuries")]
    pub(super) fn mean_batch(&self) -> Option<f64> {
        let batches = self.batch_count();
        let frames = self.batches.iter().map(|(frames, took)| frames * took.len()).sum::<usize>();
        (batches > 0).then(|| frames as f64 / batches as f64)
    }

    /// The stages of a frame's way, for reports.
    pub(super) fn stages(&self) -> serde_json::Value {
        let stage = |name| serde_json::json!(self.percentiles(name));
        serde_json::json!({
            "tts": stage(crate::metrics::TTS_FIRST),
            "features": stage(crate::metrics::FEATURES),
            "infer": stage(crate::metrics::INFER_FRAME),
            "compose": stage(crate::metrics::COMPOSE),
            "encode": stage(crate::metrics::ENCODE),
        })
    }
}

impl Percentiles {
    /// Nearest-rank percentiles.
    pub(super) fn of_seconds(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).clamp(1, sorted.len());
            (sorted[rank - 1] * 1e5).round() / 100.0
        };
        if sorted.is_empty() {
            return None;
        }
        Some(Self { count: sorted.len(), p50_ms: at(50), p95_ms: at(95), p99_ms: at(99), max_ms: at(100) })
    }
}

/// The most memory that this process had at once, where the system tells.
pub(super) fn peak_memory_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix(" kB")?.parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let values: Vec<f64> = (1..=100).rev().map(|value| f64::from(value) / 1000.0).collect();
        let found = Percentiles::of_seconds(&values).unwrap();
        assert_eq!((found.p50_ms, found.p95_ms, found.p99_ms, found.max_ms), (50.0, 95.0, 99.0, 100.0));
        assert_eq!(Percentiles::of_seconds(&[0.5]).unwrap().p50_ms, 500.0);
        assert_eq!(Percentiles::of_seconds(&[]), None);
    }
}
