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
    BATCH_SIZES.into_iter().zip(times).for_each(|(size, took)| capacity.learn(size, ms(took)));
    capacity
}

fn run(item: u32, frames: usize, deadline: Instant) -> Pending<u32> {
    Pending { deadline: Some(deadline), frames, awaited: false, item }
}

fn drawn(next: Next<u32>) -> Vec<u32> {
    match next {
        Next::Draw(chosen) => chosen.into_iter().map(|chosen| chosen.item).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_earliest_deadline_is_drawn_first_whoever_came_first() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    scheduler.push(run(1, 4, now + ms(200)));
    scheduler.push(run(2, 4, now + ms(100)));
    scheduler.push(Pending { deadline: None, ..run(3, 4, now) });
    let order: Vec<u32> = (0..3).flat_map(|_| drawn(scheduler.next(now, &laptop()))).collect();
    assert_eq!(order, [2, 1, 3]);
    assert_eq!(scheduler.next(now, &laptop()), Next::Nothing);
}

#[test]
fn an_hour_of_queued_text_does_not_delay_anothers_first_word() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    for at in 0..22_500 {
        scheduler.push(run(at, 4, now + ms(160 * u64::from(at) + 200)));
    }
    scheduler.push(Pending { awaited: true, ..run(99_999, 1, now + ms(30)) });
    assert_eq!(drawn(scheduler.next(now, &laptop()))[0], 99_999);
}

#[test]
fn runs_of_several_sessions_are_drawn_together_where_that_is_cheap() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    (0..5).for_each(|session| scheduler.push(run(session, 4, now + ms(100 + u64::from(session)))));
    assert_eq!(drawn(scheduler.next(now, &gpu())), [0, 1, 2, 3]);
    // Alone, and further from its deadline than is comfortable to wait.
    assert_eq!(drawn(scheduler.next(now, &gpu())), [4]);
}

#[test]
fn a_batch_is_not_so_large_that_its_first_frame_comes_late() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    scheduler.push(Pending { awaited: true, ..run(1, 1, now + ms(10)) });
    (2..6).for_each(|session| scheduler.push(run(session, 4, now + ms(400))));
    assert_eq!(drawn(scheduler.next(now, &gpu())), [1]);
    assert_eq!(drawn(scheduler.next(now, &gpu())), [2, 3, 4, 5]);
}

#[test]
fn a_run_with_time_to_spare_waits_for_company_but_not_into_danger() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    scheduler.push(run(1, 4, now + ms(500)));
    let Next::Wait(until) = scheduler.next(now, &gpu()) else { panic!("it is alone and has time") };
    assert_eq!(until, now + ms(500) - ms(11) - SAFE_DISTANCE);
    assert_eq!(drawn(scheduler.next(until, &gpu())), [1]);
    // On a laptop four frames are as many as it draws in one go.
    scheduler.push(run(1, 4, now + ms(500)));
    assert_eq!(drawn(scheduler.next(now, &laptop())), [1]);
}

#[test]
fn a_film_is_drawn_while_live_runs_wait_for_company() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    scheduler.push(run(1, 1, now + ms(500)));
    scheduler.push(Pending { deadline: None, ..run(2, 2, now) });
    let drawn: Vec<u32> = (0..2).flat_map(|_| drawn(scheduler.next(now, &gpu()))).collect();
    assert_eq!(drawn, [1, 2]);
}

#[test]
fn too_much_to_draw_leaves_out_every_second_frame_but_never_the_awaited_first() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    scheduler.push(Pending { awaited: true, ..run(0, 1, now + ms(10)) });
    (1..6).for_each(|session| scheduler.push(run(session, 4, now + ms(120))));
    let mut thin = Vec::new();
    while let Next::Draw(chosen) = scheduler.next(now, &laptop()) {
        thin.extend(chosen.into_iter().filter(|chosen| chosen.every_second).map(|chosen| chosen.item));
    }
    // Twenty frames take 200 ms, and two runs of every second frame are drawn together; the last one is in time whole.
    assert_eq!(thin, [1, 2, 3, 4]);
}

#[test]
fn what_would_mostly_come_too_late_is_given_up_unless_playout_waits_for_it() {
    let (mut scheduler, now) = (Scheduler::default(), Instant::now());
    scheduler.push(run(1, 4, now));
    scheduler.push(Pending { awaited: true, ..run(2, 1, now) });
    // Four frames take 44 ms, and the third is due after 80.
    assert_eq!(scheduler.remove_late(now + ms(36), &laptop()), [0; 0]);
    assert_eq!(scheduler.remove_late(now + ms(37), &laptop()), [1]);
    assert_eq!(drawn(scheduler.next(now + ms(37), &laptop())), [2]);
}

/// Eight sessions of 25 frames a second, which is twice what a laptop draws.
#[test]
fn overloaded_for_long_it_still_draws_nearly_as_much_as_it_can_and_in_time() {
    let (capacity, start) = (laptop(), Instant::now());
    let (mut scheduler, mut now) = (Scheduler::default(), start);
    let (mut coming, mut in_time, mut due) = (0, 0, 0);
    while now < start + ms(10_000) {
        // Each run of four is asked for 640 ms before it is due.
        while start + ms(160 * (coming / 8)) <= now {
            scheduler.push(run(u32::try_from(coming).unwrap(), 4, start + ms(160 * (coming / 8) + 640)));
            coming += 1;
            due += 4;
        }
        scheduler.remove_late(now, &capacity);
        match scheduler.next(now, &capacity) {
            Next::Draw(chosen) => {
                let frames = chosen.iter().map(|chosen| if chosen.every_second { 2 } else { 4 }).sum();
                now += capacity.time_of(frames);
                for chosen in chosen {
                    let first = start + ms(160 * (u64::from(chosen.item) / 8) + 640);
                    let step = if chosen.every_second { 2 } else { 1 };
                    in_time += (0..4_u32).step_by(step).filter(|frame| now <= first + FRAME_DURATION * *frame).count();
                }
            }
            Next::Wait(until) => now = until.min(now + ms(40)),
            Next::Nothing => now += ms(1),
        }
    }
    // 91 frames a second can be drawn, 200 are due.
    assert!(in_time * 100 > due * 36, "{in_time} of {due}");
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
                (at, Pending { deadline, frames: BATCH_SIZES[size], awaited, item }, withdrawn.map(|after| start + ms(at + after)))
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
                scheduler.push(run);
            }
            let gone = |item: usize| runs[item].3.is_some_and(|gone| gone <= now);
            for item in scheduler.remove_if(|item| gone(*item)) {
                prop_assert!(gone(item) && seen.insert(item) && waiting.remove(&item));
            }
            for item in scheduler.remove_late(now, &capacity) {
                let (_, deadline, awaited, _) = runs[item];
                prop_assert!(!awaited && deadline < Some(now + LONGEST_BATCH.max(capacity.time_of(4))));
                prop_assert!(seen.insert(item) && waiting.remove(&item));
            }
            prop_assert_eq!(scheduler.len(), waiting.len());
            let earliest = waiting.iter().filter_map(|item| runs[*item].1).min();
            match scheduler.next(now, &capacity) {
                Next::Draw(chosen) => {
                    prop_assert_eq!(runs[chosen[0].item].1, earliest);
                    prop_assert!(chosen.windows(2).all(|pair| runs[pair[0].item].1 <= runs[pair[1].item].1));
                    for chosen in &chosen {
                        prop_assert!(!gone(chosen.item) && seen.insert(chosen.item) && waiting.remove(&chosen.item));
                    }
                    now += capacity.time_of(chosen.len());
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
