//! The rules of the scheduler, one by one and under random arrivals.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The demo model on a laptop: 16, 26, 44, 84 and 160 ms for 1, 2, 4, 8 and 16 frames.
fn laptop() -> Capacity {
    of([16, 26, 44, 84, 160])
}

/// As a GPU has it: 16 frames in hardly more than one takes.
fn gpu() -> Capacity {
    of([8, 9, 11, 16, 26])
}

fn of(times: [u64; BATCH_SIZES.len()]) -> Capacity {
    let mut capacity = Capacity::default();
    BATCH_SIZES.into_iter().zip(times).for_each(|(size, took)| capacity.learn(size, 1, ms(took)));
    capacity
}

/// Of a session of its own.
fn run(item: u32, frames: usize, deadline: Instant) -> Pending<u32> {
    Pending { session: u64::from(item), deadline: Some(deadline), frames, awaited: false, item }
}

fn drawn(next: Next<u32>) -> Vec<u32> {
    match next {
        Next::Draw(chosen) => chosen.into_iter().map(|chosen| chosen.item).collect(),
        other => panic!("{other:?}"),
    }
}

fn of_runs(runs: impl IntoIterator<Item = Pending<u32>>, now: Instant) -> Scheduler<u32> {
    let mut scheduler = Scheduler::default();
    runs.into_iter().for_each(|run| scheduler.push(run, now));
    scheduler
}

#[test]
fn the_earliest_deadline_is_drawn_first_whoever_came_first() {
    let now = Instant::now();
    let film = Pending { deadline: None, ..run(3, 4, now) };
    let mut scheduler = of_runs([run(1, 4, now + ms(200)), run(2, 4, now + ms(100)), film], now);
    let order: Vec<u32> = (0..3).flat_map(|_| drawn(scheduler.next(now, &laptop()))).collect();
    assert_eq!(order, [2, 1, 3]);
    assert_eq!(scheduler.next(now, &laptop()), Next::Nothing);
}

#[test]
fn an_hour_of_queued_text_does_not_delay_anothers_first_word() {
    let now = Instant::now();
    let text = (0..22_500).map(|at| Pending { session: 1, ..run(at, 4, now + ms(160 * u64::from(at) + 200)) });
    let mut scheduler = of_runs(text, now);
    scheduler.push(Pending { awaited: true, ..run(99_999, 1, now + ms(30)) }, now);
    assert_eq!(drawn(scheduler.next(now, &laptop()))[0], 99_999);
}

#[test]
fn runs_of_several_sessions_are_drawn_together_where_that_is_cheap() {
    let now = Instant::now();
    let mut scheduler = of_runs((0..5).map(|session| run(session, 4, now + ms(100 + u64::from(session)))), now);
    assert_eq!(drawn(scheduler.next(now, &gpu())), [0, 1, 2, 3]);
    // Alone, and further from its deadline than is comfortable to wait.
    assert_eq!(drawn(scheduler.next(now, &gpu())), [4]);
}

#[test]
fn a_batch_is_not_so_large_that_its_first_frame_comes_late() {
    let now = Instant::now();
    let mut scheduler = of_runs((2..6).map(|session| run(session, 4, now + ms(400))), now);
    scheduler.push(Pending { awaited: true, ..run(1, 1, now + ms(10)) }, now);
    assert_eq!(drawn(scheduler.next(now, &gpu())), [1]);
    assert_eq!(drawn(scheduler.next(now, &gpu())), [2, 3, 4, 5]);
}

#[test]
fn a_run_with_time_to_spare_waits_for_company_but_not_into_danger() {
    let now = Instant::now();
    let mut scheduler = of_runs([run(1, 4, now + ms(500))], now);
    let Next::Wait(until) = scheduler.next(now, &gpu()) else { panic!("it is alone and has time") };
    assert_eq!(until, now + ms(500) - ms(11) - SAFE_DISTANCE);
    assert_eq!(drawn(scheduler.next(until, &gpu())), [1]);
    // On a laptop four frames are as many as it draws in one go.
    scheduler.push(run(1, 4, now + ms(500)), now);
    assert_eq!(drawn(scheduler.next(now, &laptop())), [1]);
}

#[test]
fn a_film_is_drawn_while_live_runs_wait_for_company() {
    let now = Instant::now();
    let mut scheduler = of_runs([run(1, 1, now + ms(500)), Pending { deadline: None, ..run(2, 2, now) }], now);
    let drawn: Vec<u32> = (0..2).flat_map(|_| drawn(scheduler.next(now, &gpu()))).collect();
    assert_eq!(drawn, [1, 2]);
}

#[test]
fn too_much_to_draw_gives_each_session_the_same_share_evenly_spaced_and_an_awaited_first_all() {
    let now = Instant::now();
    let mut runs: Vec<Pending<u32>> = (1..6).map(|session| run(session, 8, now + ms(240))).collect();
    runs.push(Pending { awaited: true, ..run(0, 1, now + ms(10)) });
    let (mut scheduler, mut time) = (of_runs(runs, now), now);
    let mut decided = Vec::new();
    while let Next::Draw(batch) = scheduler.next(time, &laptop()) {
        time += laptop().time_of(batch.iter().map(|run| run.drawn.len()).sum(), 1);
        decided.extend(batch);
    }
    assert_eq!(decided[0], Scheduled { item: 0, drawn: vec![0] });
    // Forty frames take 440 ms, and they are due in 240 to 520.
    decided.sort_by_key(|run| run.item);
    assert_eq!(decided.iter().map(|run| run.item).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    for Scheduled { item, drawn } in &decided[1..] {
        assert!((3..=6).contains(&drawn.len()), "session {item}: {drawn:?}");
        assert!(drawn.windows(2).all(|pair| pair[1] - pair[0] <= 3), "session {item}: {drawn:?}");
    }
}

#[test]
fn frames_that_would_come_too_late_are_left_out_before_anything_is_done_for_them() {
    let now = Instant::now();
    let mut scheduler = of_runs([run(1, 4, now)], now);
    scheduler.push(Pending { awaited: true, ..run(2, 1, now) }, now);
    // One frame takes 16 ms, and the last is due after 120.
    assert_eq!(scheduler.remove_late(now + ms(104), &laptop()), [0; 0]);
    assert_eq!(scheduler.remove_late(now + ms(105), &laptop()), [1]);
    assert_eq!(drawn(scheduler.next(now + ms(105), &laptop())), [2], "playout waits for it");
    // Of a run that is half too late the other half is drawn: two frames are there after 44 ms, when two have left.
    scheduler.push(run(3, 4, now + ms(200)), now);
    let Next::Draw(batch) = scheduler.next(now + ms(236), &laptop()) else { panic!("it waits") };
    assert_eq!(batch, [Scheduled { item: 3, drawn: vec![2, 3] }]);
}

#[test]
fn a_batch_has_one_of_the_fixed_sizes_though_nothing_may_be_left_out_of_most_of_it() {
    let now = Instant::now();
    let awaited = |item: u32, frames: usize| Pending { awaited: true, ..run(item, frames, now + ms(100)) };
    // The first frame of the first run is late, so there are 3, 7, 9, 10 and 12, of which 9 are awaited.
    let runs = [run(0, 4, now), awaited(1, 4), awaited(2, 2), awaited(3, 1), awaited(4, 2)];
    let taken = |run: Pending<u32>| {
        let first = usize::from(!run.awaited);
        Taken { session: run.session, first, chosen: (0..run.frames).map(|at| at >= first).collect(), owed: 0.0, run }
    };
    let mut batch = runs.map(taken);
    assert_eq!(can_be_cut(&batch), 4);
    Scheduler::default().cut(&mut batch[..4]);
    assert_eq!(batch[..4].iter().map(Taken::count).collect::<Vec<_>>(), [1, 4, 2, 1]);
}

proptest! {
    /// Sessions that ask for runs at random times, take some back, and an engine that takes the time it is said to.
    #[test]
    fn no_run_is_lost_drawn_twice_or_drawn_after_it_was_withdrawn(
        arrivals in proptest::collection::vec((0..400_u64, 0..600_u64, 0..3_usize, any::<bool>(), proptest::option::of(0..500_u64)), 1..80),
        quick in any::<bool>(),
    ) {
        let capacity = if quick { gpu() } else { laptop() };
        let start = Instant::now();
        let mut coming: Vec<(u64, Pending<usize>, Option<Instant>)> = arrivals
            .into_iter()
            .enumerate()
            .map(|(item, (at, ahead, size, awaited, withdrawn))| {
                let deadline = Some(start + ms(at + ahead));
                let session = item as u64 % 7;
                (at, Pending { session, deadline, frames: BATCH_SIZES[size], awaited, item }, withdrawn.map(|after| start + ms(at + after)))
            })
            .collect();
        coming.sort_by_key(|(at, ..)| *at);
        let runs: Vec<(usize, Option<Instant>, bool, Option<Instant>)> = {
            let mut runs: Vec<_> =
                coming.iter().map(|(_, run, gone)| (run.item, run.deadline, run.awaited, *gone)).collect();
            runs.sort_by_key(|(item, ..)| *item);
            runs
        };
        let (total, mut coming) = (coming.len(), coming.into_iter().peekable());
        let (mut scheduler, mut now) = (Scheduler::default(), start);
        let (mut seen, mut waiting) = (HashSet::new(), HashSet::new());
        loop {
            while let Some((_, run, _)) = coming.next_if(|(at, ..)| start + ms(*at) <= now) {
                waiting.insert(run.item);
                scheduler.push(run, now);
            }
            let gone = |item: usize| runs[item].3.is_some_and(|gone| gone <= now);
            for item in scheduler.remove_if(|item| gone(*item)) {
                prop_assert!(gone(item) && seen.insert(item) && waiting.remove(&item));
            }
            for item in scheduler.remove_late(now, &capacity) {
                let (_, deadline, awaited, _) = runs[item];
                prop_assert!(!awaited && deadline < Some(now + capacity.time_of(1, 1)));
                prop_assert!(seen.insert(item) && waiting.remove(&item));
            }
            prop_assert_eq!(scheduler.len(), waiting.len());
            let earliest = waiting.iter().filter_map(|item| runs[*item].1).min();
            match scheduler.next(now, &capacity) {
                Next::Draw(chosen) => {
                    let frames: usize = chosen.iter().map(|chosen| chosen.drawn.len()).sum();
                    prop_assert!(frames == 0 || BATCH_SIZES.contains(&frames), "{} frames", frames);
                    for chosen in &chosen {
                        prop_assert!(!runs[chosen.item].2 || !chosen.drawn.is_empty(), "an awaited run is drawn");
                        prop_assert!(!gone(chosen.item) && seen.insert(chosen.item) && waiting.remove(&chosen.item));
                    }
                    now += capacity.time_of(frames.max(1), 1);
                }
                Next::Wait(until) => {
                    let safe = earliest.and_then(|deadline| deadline.checked_sub(SAFE_DISTANCE));
                    prop_assert!(until > now && Some(until) <= safe);
                    let arrival = coming.peek().map(|(at, ..)| start + ms(*at));
                    now = arrival.map_or(until, |arrival| arrival.min(until)).max(now);
                }
                Next::Nothing => match coming.peek() {
                    Some((at, ..)) => now = now.max(start + ms(*at)),
                    None => break,
                },
            }
        }
        prop_assert_eq!(seen.len(), total);
    }
}
