//! Whose packets are whose, step by step and by chance.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::media::stun::Writer;

const DTLS: [u8; 14] = [22; 14];

fn inner(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn udp(port: u16) -> Source {
    Source::Udp { remote: SocketAddr::from(([192, 0, 2, 1], port)), local: None }
}

fn check(username: &str, password: &str) -> Vec<u8> {
    Writer::new(BINDING, [3; 12]).attribute(USERNAME, username.as_bytes()).signed(password.as_bytes()).bytes()
}

/// Viewers `a:x` and `b:y`, whose passwords are `A` and `B`.
fn two() -> (Demux, u64, u64) {
    let mut demux = Demux::default();
    let a = demux.enter("a:x".into(), "A".into(), inner(1000)).unwrap();
    let b = demux.enter("b:y".into(), "B".into(), inner(1001)).unwrap();
    (demux, a, b)
}

fn goes_to(verdict: Verdict) -> Option<u16> {
    match verdict {
        Verdict::Forward { to, .. } => Some(to.port()),
        Verdict::Drop(_) => None,
    }
}

#[test]
fn a_signed_check_makes_a_source_its_viewer_s_and_the_answers_find_it() {
    let (mut demux, _, _) = two();
    let now = Instant::now();
    assert_eq!(demux.inward(udp(1), &DTLS, now), Verdict::Drop(Stranger::Unknown));
    let Verdict::Forward { socket, to, evicted: None } = demux.inward(udp(1), &check("a:x", "A"), now) else {
        panic!("the check is not taken");
    };
    assert_eq!(to, inner(1000));
    assert_eq!(goes_to(demux.inward(udp(1), &DTLS, now)), Some(1000));
    assert_eq!(goes_to(demux.inward(udp(2), &DTLS, now)), None);
    assert_eq!(demux.outward(socket, inner(1000)), Some(udp(1)));
    // Nobody else on this machine speaks for a viewer, and no viewer for another.
    assert_eq!(demux.outward(socket, inner(999)), None);
    assert_eq!(demux.outward(socket, inner(1001)), None);
    assert_eq!(demux.outward((socket + 1) % SOCKETS, inner(1000)), None);
    assert_eq!(demux.outward(socket, "127.0.0.2:1000".parse().unwrap()), None);
}

#[test]
fn each_source_of_a_viewer_has_a_socket_of_its_own() {
    let (mut demux, _, _) = two();
    let now = Instant::now();
    let local = Source::Udp { remote: SocketAddr::from(([192, 0, 2, 1], 1)), local: Some([10, 0, 0, 1].into()) };
    for source in [udp(1), udp(2), Source::Tcp(1), local] {
        let Verdict::Forward { socket, .. } = demux.inward(source, &check("a:x", "A"), now) else {
            panic!("{source:?} is not taken");
        };
        assert_eq!(demux.outward(socket, inner(1000)), Some(source));
    }
    assert_eq!(demux.counts(), (2, 4));
}

#[test]
fn nobody_takes_over_a_viewer_or_a_source_without_its_password() {
    let (mut demux, _, _) = two();
    let now = Instant::now();
    for (username, password) in [("a:x", "B"), ("a:x", ""), ("a:z", "A"), ("a", "A"), ("", "A"), ("x:a", "A")] {
        let verdict = demux.inward(udp(1), &check(username, password), now);
        assert_eq!(verdict, Verdict::Drop(Stranger::Unsigned), "{username:?} {password:?}");
    }
    let unsigned = Writer::new(BINDING, [3; 12]).attribute(USERNAME, b"a:x").bytes();
    assert_eq!(demux.inward(udp(1), &unsigned, now), Verdict::Drop(Stranger::Unsigned));
    assert_eq!(demux.counts(), (2, 0));
    demux.inward(udp(1), &check("a:x", "A"), now);
    assert_eq!(demux.inward(udp(1), &check("b:y", "A"), now), Verdict::Drop(Stranger::Unsigned));
    assert_eq!(goes_to(demux.inward(udp(1), &DTLS, now)), Some(1000), "a forged check moved a source");
    // The same address with another connection, as behind a translator that gives a port anew.
    assert_eq!(goes_to(demux.inward(udp(1), &check("b:y", "B"), now)), Some(1001));
    assert_eq!(goes_to(demux.inward(udp(1), &DTLS, now)), Some(1001));
    assert_eq!(demux.counts(), (2, 1));
}

#[test]
fn nothing_is_left_of_a_viewer_that_left() {
    let (mut demux, a, b) = two();
    let now = Instant::now();
    demux.inward(udp(1), &check("a:x", "A"), now);
    demux.inward(Source::Tcp(7), &check("a:x", "A"), now);
    demux.inward(udp(2), &check("b:y", "B"), now);
    assert_eq!(demux.leave(a), [udp(1), Source::Tcp(7)]);
    assert_eq!(demux.counts(), (1, 1));
    assert_eq!(goes_to(demux.inward(udp(1), &DTLS, now)), None);
    assert_eq!(demux.inward(udp(1), &check("a:x", "A"), now), Verdict::Drop(Stranger::Unsigned));
    demux.close(udp(2));
    assert_eq!((demux.counts(), demux.leave(b), demux.leave(b)), ((1, 0), vec![], vec![]));
    assert_eq!(demux.counts(), (0, 0));
}

#[test]
fn two_viewers_have_neither_a_name_nor_a_libnice_in_common() {
    let (mut demux, _, _) = two();
    assert_eq!(demux.enter("a:x".into(), "C".into(), inner(1002)), Err(Taken));
    assert_eq!(demux.enter("c:z".into(), "C".into(), inner(1001)), Err(Taken));
    assert_eq!(demux.counts(), (2, 0));
}

#[test]
fn a_viewer_has_a_few_sources_and_only_a_silent_one_makes_place() {
    let (mut demux, _, _) = two();
    let begun = Instant::now();
    for port in 0..MOST_SOURCES {
        demux.inward(udp(port as u16), &check("a:x", "A"), begun);
    }
    let later = begun + SILENT / 2;
    assert_eq!(demux.inward(udp(100), &check("a:x", "A"), later), Verdict::Drop(Stranger::TooMany));
    for port in (0..MOST_SOURCES).filter(|port| *port != 3) {
        demux.inward(udp(port as u16), &DTLS, later);
    }
    let verdict = demux.inward(udp(100), &check("a:x", "A"), begun + SILENT);
    assert!(matches!(verdict, Verdict::Forward { evicted: Some(source), .. } if source == udp(3)), "{verdict:?}");
    assert_eq!(goes_to(demux.inward(udp(3), &DTLS, later)), None);
    assert_eq!(demux.counts(), (2, MOST_SOURCES));
}

#[test]
fn connections_of_a_viewer_are_fewer_and_make_place_for_each_other_alone() {
    let (mut demux, _, _) = two();
    let begun = Instant::now();
    demux.inward(udp(1), &check("a:x", "A"), begun);
    for number in 0..MOST_TCP_SOURCES {
        demux.inward(Source::Tcp(number as u64), &check("a:x", "A"), begun + Duration::from_millis(1));
    }
    let one_more = |demux: &mut Demux, at| demux.inward(Source::Tcp(100), &check("a:x", "A"), at);
    assert_eq!(one_more(&mut demux, begun), Verdict::Drop(Stranger::TooMany));
    let verdict = one_more(&mut demux, begun + SILENT * 2);
    assert!(matches!(verdict, Verdict::Forward { evicted: Some(Source::Tcp(_)), .. }), "{verdict:?}");
    assert_eq!(demux.counts(), (2, 1 + MOST_TCP_SOURCES));
}

#[test]
fn packets_that_are_none_of_webrtc_s_go_nowhere_even_from_a_known_source() {
    let (mut demux, _, _) = two();
    let now = Instant::now();
    demux.inward(udp(1), &check("a:x", "A"), now);
    let long = vec![128; LARGEST_PACKET + 1];
    for packet in [&[][..], b"GET / HTTP/1.1", &[0x40, 0, 0, 4], &[255], &long] {
        assert_eq!(demux.inward(udp(1), packet, now), Verdict::Drop(Stranger::Odd));
    }
}

/// What strangers, viewers and the two ends of viewers do.
#[derive(Clone, Debug)]
enum Step {
    Packet(u16, Vec<u8>),
    Check(u16, usize, bool),
    Tcp(u64, usize),
    Enter(usize),
    Leave(usize),
    Close(u16),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..40u16, proptest::collection::vec(any::<u8>(), 0..80)).prop_map(|(port, bytes)| Step::Packet(port, bytes)),
        (0..40u16, 0..6usize, any::<bool>()).prop_map(|(port, viewer, signed)| Step::Check(port, viewer, signed)),
        (0..20u64, 0..6usize).prop_map(|(number, viewer)| Step::Tcp(number, viewer)),
        (0..6usize).prop_map(Step::Enter),
        (0..6usize).prop_map(Step::Leave),
        (0..40u16).prop_map(Step::Close),
        (0..8u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_comes_each_source_is_one_viewer_s_and_all_are_bounded(steps in proptest::collection::vec(step(), 0..300)) {
        let mut demux = Demux::default();
        let mut numbers = [None; 6];
        let mut now = Instant::now();
        let password = |viewer: usize| format!("password {viewer}");
        for step in steps {
            match step {
                Step::Packet(port, bytes) => { demux.inward(udp(port), &bytes, now); }
                Step::Check(port, viewer, signed) => {
                    let key = if signed { password(viewer) } else { "guessed".to_owned() };
                    let verdict = demux.inward(udp(port), &check(&format!("{viewer}:c"), &key), now);
                    if let Verdict::Forward { to, socket, .. } = verdict {
                        prop_assert_eq!(to, inner(viewer as u16));
                        prop_assert!(numbers[viewer].is_some());
                        prop_assert_eq!(demux.outward(socket, to), Some(udp(port)));
                    }
                }
                Step::Tcp(number, viewer) => {
                    demux.inward(Source::Tcp(number), &check(&format!("{viewer}:c"), &password(viewer)), now);
                }
                Step::Enter(viewer) => {
                    let entered = demux.enter(format!("{viewer}:c"), password(viewer), inner(viewer as u16));
                    prop_assert_eq!(entered.is_err(), numbers[viewer].is_some());
                    numbers[viewer] = numbers[viewer].or(entered.ok());
                }
                Step::Leave(viewer) => {
                    if let Some(number) = numbers[viewer].take() {
                        demux.leave(number);
                    }
                }
                Step::Close(port) => demux.close(udp(port)),
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            let (viewers, sources) = demux.counts();
            prop_assert_eq!(viewers, numbers.iter().flatten().count());
            prop_assert!(sources <= viewers * MOST_SOURCES);
            let by_tcp = demux.by_source.keys().filter(|source| matches!(source, Source::Tcp(_))).count();
            prop_assert!(by_tcp <= viewers * MOST_TCP_SOURCES);
        }
        for number in numbers.into_iter().flatten() {
            demux.leave(number);
        }
        prop_assert_eq!(demux.counts(), (0, 0));
    }
}
