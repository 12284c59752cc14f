//! `bench viewers`: what each further viewer of one session costs the server.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::watch::{self, Reception, Watcher};
use super::{Bed, CpuMeter, SENTENCES, WARM_UP, rounded, sentence, speech_of};
use crate::cli::BenchViewers;

const SESSION: &str = "viewers";
/// Until a new viewer's key frame is sent, or what was still drawn for interrupted speech is done.
const SETTLING: Duration = Duration::from_secs(1);

/// What the server used with 1, 2, 3, ... viewers, in percent of a core.
#[derive(Default)]
struct Round {
    idle: Vec<f64>,
    speaking: Vec<f64>,
    received_fps: Vec<f64>,
}

pub(super) async fn measure(bed: &Bed, arguments: &BenchViewers) -> anyhow::Result<Value> {
    let url = bed.url(SESSION);
    let mut client = Client::connect(&url).await?;
    for at in 0..WARM_UP {
        client.speak(sentence(at)).await?;
    }
    // Whole rounds, so that a machine that slows down meanwhile does so for every number of viewers.
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds {
        rounds.push(Round::play(&mut client, &url, arguments).await?);
    }
    client.close().await?;
    let rows = (0..arguments.viewers as usize).map(|at| {
        json!({
            "viewers": at + 1,
            "cpu_percent_idle": median(rounds.iter().map(|round| round.idle[at]).collect()),
            "cpu_percent_speaking": median(rounds.iter().map(|round| round.speaking[at]).collect()),
            "received_fps": rounds.iter().map(|round| round.received_fps[at]).fold(f64::INFINITY, f64::min),
        })
    });
    Ok(json!({
        "viewers": rows.collect::<Vec<_>>(),
        "each_further_viewer_cpu_percent": {
            "idle": each_further(rounds.iter().map(|round| round.idle.as_slice())),
            "speaking": each_further(rounds.iter().map(|round| round.speaking.as_slice())),
        },
        "rounds": arguments.rounds,
        "seconds": arguments.seconds,
    }))
}

impl Round {
    async fn play(client: &mut Client, url: &str, arguments: &BenchViewers) -> anyhow::Result<Self> {
        let time = Duration::from_secs(arguments.seconds.into());
        let (mut round, mut watchers) = (Self::default(), Vec::new());
        for _ in 0..arguments.viewers {
            watchers.push(Watcher::start(url).await?);
            client.listen(SETTLING).await?;
            let reception = Reception::begin(&mut watchers).await?;
            round.idle.push(cpu(client, time).await?);
            // The same words from the beginning each time, so that only the viewers differ.
            client.start_speaking(&speech_of(time, SENTENCES)).await?;
            round.speaking.push(cpu(client, time).await?);
            client.interrupt().await?;
            round.received_fps.push(reception.least_frames_per_second(&mut watchers).await?);
        }
        watch::stop_all(watchers).await?;
        Ok(round)
    }
}

async fn cpu(client: &mut Client, time: Duration) -> anyhow::Result<f64> {
    let meter = CpuMeter::start()?;
    client.listen(time).await?;
    meter.percent_of_a_core()
}

/// The middle one; of an even number the lower of the two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// The median over the rounds of what one more viewer cost. `None` if there never was more than one.
fn each_further<'a>(rounds: impl Iterator<Item = &'a [f64]>) -> Option<f64> {
    rounds.map(slope).collect::<Option<Vec<_>>>().map(median)
}

/// What one more costs: the slope of the least-squares line through what 1, 2, 3, ... cost.
fn slope(costs: &[f64]) -> Option<f64> {
    let count = u32::try_from(costs.len()).ok().filter(|count| *count > 1)?;
    let (middle, mean) = (f64::from(count + 1) / 2.0, costs.iter().sum::<f64>() / f64::from(count));
    let from_middle = (1..=count).map(|viewers| f64::from(viewers) - middle);
    let covariance: f64 = from_middle.clone().zip(costs).map(|(from, cost)| from * (cost - mean)).sum();
    Some(rounded(covariance / from_middle.map(|from| from * from).sum::<f64>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_odd_window() {
        assert_eq!(median(vec![9.0, 1.0, 2.0, 3.0, 100.0]), 3.0);
        assert_eq!(median(vec![4.0, 1.0]), 1.0);
    }

    #[test]
    fn one_more_costs_the_slope_of_the_line() {
        assert_eq!(slope(&[10.0, 12.0, 14.0, 16.0]), Some(2.0));
        assert_eq!(slope(&[10.0, 13.0, 13.0, 16.0]), Some(1.8));
        assert_eq!(each_further([[10.0, 12.0], [9.0, 12.0], [10.0, 90.0]].iter().map(<[f64; 2]>::as_slice)), Some(3.0));
        assert_eq!(each_further([[10.0], [11.0]].iter().map(<[f64; 1]>::as_slice)), None);
    }
}
