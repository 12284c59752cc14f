//! Clients, models and voices that do whatever they like, in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Text(usize),
    Speak(usize),
    Interrupt,
    Start(usize),
    Sound(usize, usize),
    End(usize),
    Leave(usize),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (0..REPLIES.len()).prop_map(Act::Text),
        4 => (0..SPEECHES.len()).prop_map(Act::Speak),
        1 => Just(Act::Interrupt),
        2 => (0..2usize).prop_map(Act::Start),
        3 => ((0..2usize), (0..4usize)).prop_map(|(client, seconds)| Act::Sound(client, seconds)),
        1 => (0..2usize).prop_map(Act::End),
        1 => (0..2usize).prop_map(Act::Leave),
        5 => prop_oneof![Just(0), Just(40), Just(500), Just(3_000), Just(40_000)].prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..40)
}

/// Performs it, and gives the ids of the turns that were taken, everything that was told and everything that was heard.
async fn perform(stage: &Stage, acts: Vec<Act>, closes_early: bool) -> (Vec<String>, Vec<Notice>, Heard) {
    let play = Play::begin(stage);
    let mut clients = [ClientAudio::default(), ClientAudio::default()];
    let mut taken = Vec::new();
    for (number, act) in acts.into_iter().enumerate() {
        let id = Some(format!("turn {number}"));
        let (command, client) = match act {
            Act::Text(kind) => (Command::Text { text: format!("Be {}", REPLIES[kind]), id }, 0),
            Act::Speak(kind) => (Command::Speak { text: SPEECHES[kind].to_owned(), id }, 0),
            Act::Interrupt => (Command::Interrupt, 0),
            Act::Start(client) => (Command::AudioStart { sample_rate: 8_000, id }, client),
            Act::Sound(client, seconds) => (Command::Audio(vec![9000; 8_000 * seconds]), client),
            Act::End(client) => (Command::AudioEnd, client),
            Act::Leave(client) => {
                clients[client] = ClientAudio::default();
                continue;
            }
            Act::Wait(ms) => {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                continue;
            }
        };
        let turn = command.id().map(str::to_owned);
        match play.conversation.submit(command, &clients[client]) {
            Ok(()) => taken.extend(turn),
            Err(error) => assert!(matches!(error.code, ErrorCode::Busy | ErrorCode::AudioNotStarted), "{error}"),
        }
    }
    if !closes_early {
        drop(clients);
        play.conversation.interrupt();
        tokio::time::sleep(LONG).await;
        assert!(play.conversation.turns.is_idle(), "all has ended before the session closes");
    }
    let heard = Arc::clone(&play.heard);
    (taken, play.close().await, heard)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever clients, models and voices do in whatever order: each turn that is taken ends in one message that carries its
    /// id and says how much was heard, nothing is told of it after that, and nothing of a turn that was refused.
    #[test]
    fn every_turn_ends_once(acts in acts(), closes_early in any::<bool>()) {
        let (taken, told, heard) = on_a_clock_of_its_own(async {
            let stage = Stage::set().await;
            let performed = perform(&stage, acts, closes_early).await;
            stage.strike();
            performed
        });
        let mut ended: BTreeMap<UtteranceId, String> = BTreeMap::new();
        for notice in &told {
            let utterance = utterance_of(notice);
            prop_assert!(utterance.is_none_or(|utterance| !ended.contains_key(&utterance)), "after its end: {notice:?}");
            if let Notice::SpeechEnded { utterance, spoken_ms, text_spoken, .. }
            | Notice::Failed { utterance, spoken_ms, text_spoken, .. } = notice
            {
                let frames = heard.lock().unwrap().get(utterance).copied().unwrap_or(0);
                prop_assert_eq!(*spoken_ms, frames * 1000 / u64::from(FPS), "of what was heard: {:?}", notice);
                prop_assert!(frames > 0 || text_spoken.is_empty(), "spoken in no time: {notice:?}");
            }
            if let Some((utterance, id)) = end(notice) {
                ended.insert(utterance, id.expect("the client's own id"));
            }
        }
        // Utterances are numbered in the order in which turns were taken.
        prop_assert_eq!(ended.into_values().collect::<Vec<_>>(), taken);
    }
}
