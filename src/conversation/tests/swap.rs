//! Another avatar takes over, and what an avatar attends to.

use super::*;
use crate::still::Attention;

/// Sentences of four frames, whatever they are.
struct Brief;

const BRIEF: usize = 4;

impl Tts for Brief {
    fn speak(&self, _: &str, _: &Voice) -> Result<PcmStream, SpeechError> {
        let sound = PcmChunk::new(vec![0.3; BRIEF * LIPSYNC_SAMPLES_PER_FRAME], LIPSYNC_RATE);
        let (sender, stream) = mpsc::channel(1);
        sender.try_send(Ok(sound)).unwrap();
        Ok(pcm::received(stream))
    }
}

/// Answers everything with the same words.
struct Parrot;

impl Responder for Parrot {
    fn reply(&self, _: Vec<Message>) -> Reply {
        Box::pin(stream::iter([Ok("Other words.".to_owned())]))
    }
}

fn is_started(notice: &Notice) -> bool {
    matches!(notice, Notice::SpeechStarted { .. })
}

#[test]
fn what_is_said_is_said_to_its_end_and_the_next_turn_is_the_other_avatars() {
    scene(async |mut play| {
        let three = "Fine words. Fine words. Fine words.";
        play.submit(Command::Speak { text: three.into(), id: Some("one".into()) }).unwrap();
        play.until(is_started).await;
        let tall = OwnFrames::of(Arc::new(kit::avatar::tall()));
        let character = Character { tts: Arc::new(Brief), voice: Voice::plain("en-us"), responder: Arc::new(Parrot) };
        play.conversation.swap(tall, AvatarHandle(1), character).await.unwrap();
        let Notice::SpeechEnded { interrupted: false, spoken_ms, text_spoken, .. } = play.end_of("one").await else {
            panic!("it was not said to its end")
        };
        let ms = |frames: usize| frames as u64 * 1000 / u64::from(FPS);
        assert_eq!((spoken_ms, text_spoken.as_str()), (ms(3 * SENTENCE), three));
        play.says("good", "two");
        let Notice::SpeechEnded { spoken_ms, text_spoken, .. } = play.end_of("two").await else { panic!() };
        assert_eq!((spoken_ms, text_spoken.as_str()), (ms(BRIEF), "Other words."));
        assert_eq!(play.remembered(), [three, "good", "Other words."], "the conversation goes on");
        play
    });
}

#[test]
fn a_swap_in_a_session_that_closes_comes_to_an_end() {
    on_a_clock_of_its_own(async {
        let stage = Stage::set().await;
        let play = Play::begin(&stage);
        play.removed.cancel();
        let tall = OwnFrames::of(Arc::new(kit::avatar::tall()));
        let character = Character { tts: Arc::new(Brief), voice: Voice::plain("en-us"), responder: Arc::new(Parrot) };
        assert!(play.conversation.swap(tall, AvatarHandle(1), character).await.is_err());
        play.close().await;
        stage.strike();
    });
}

#[test]
fn the_avatar_attends_to_what_is_said_on_both_sides() {
    scene(async |mut play| {
        let attention = |play: &Play| play.conversation.performer.attention();
        assert_eq!(attention(&play), Attention::Idle);
        play.says("hang", "one");
        assert_eq!(attention(&play), Attention::Thinking);
        play.conversation.interrupt();
        play.end_of("one").await;
        assert_eq!(attention(&play), Attention::Idle);
        play.says("good", "two");
        play.until(is_started).await;
        assert_eq!(attention(&play), Attention::Speaking);
        play.end_of("two").await;
        assert_eq!(attention(&play), Attention::Idle);

        play.conversation.hears(true);
        assert_eq!(attention(&play), Attention::Listening);
        play.conversation.hears(false);
        let silent = tokio::time::Instant::now();
        assert_eq!(attention(&play), Attention::Listening, "whoever paused may go on");
        while attention(&play) == Attention::Listening {
            tokio::time::sleep(FRAME_DURATION).await;
        }
        assert_eq!(attention(&play), Attention::Idle);
        assert!((2000..2100).contains(&silent.elapsed().as_millis()), "{:?}", silent.elapsed());

        // Whoever takes over attends to the same.
        play.conversation.hears(true);
        let tall = OwnFrames::of(Arc::new(kit::avatar::tall()));
        let character = Character { tts: Arc::new(Brief), voice: Voice::plain("en-us"), responder: Arc::new(Parrot) };
        play.conversation.swap(tall, AvatarHandle(1), character).await.unwrap();
        assert_eq!(attention(&play), Attention::Listening);
        play
    });
}
