//! The cache with avatars that come from nowhere: who waits, what is tried again and when, what is let go.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::sync::Notify;

use super::*;
use crate::kit;

/// Loads `slow` when it is told to, `broken` never, and anything else at once; there is no `nobody`.
#[derive(Default)]
struct Fake {
    loads: AtomicUsize,
    release: Notify,
    let_go: Mutex<Vec<usize>>,
    mended: std::sync::atomic::AtomicBool,
}

impl AvatarSource for Fake {
    fn knows(&self, id: AvatarId) -> BoxFuture<'_, anyhow::Result<()>> {
        Box::pin(async move {
            if id.as_str() == "nobody" {
                let (id, folder, available) = (id.to_string(), "/secret".to_owned(), "demo".to_owned());
                return Err(AvatarError::Unknown { id, folder, available }.into());
            }
            Ok(())
        })
    }

    fn load(&self, id: AvatarId) -> BoxFuture<'_, anyhow::Result<LoadedAvatar>> {
        Box::pin(async move {
            let number = self.loads.fetch_add(1, Ordering::SeqCst);
            if id.as_str() == "slow" {
                self.release.notified().await;
            }
            let mended = self.mended.load(Ordering::SeqCst);
            anyhow::ensure!(id.as_str() != "broken" || mended, "/secret/mask.png: Input/output error");
            Ok(LoadedAvatar { avatar: Arc::new(kit::avatar::tiny()), handle: AvatarHandle(number) })
        })
    }

    fn let_go(&self, avatar: Arc<LoadedAvatar>) -> BoxFuture<'_, ()> {
        self.let_go.lock().unwrap().push(avatar.handle.0);
        Box::pin(async {})
    }
}

fn id(name: &str) -> AvatarId {
    name.parse().unwrap()
}

async fn avatars() -> (Arc<AvatarCache>, Arc<Fake>) {
    let fake = Arc::new(Fake::default());
    let source = Arc::clone(&fake) as Arc<dyn AvatarSource>;
    let avatars = Arc::new(AvatarCache::new(source, id("own"), TaskTracker::new(), CancellationToken::new()));
    avatars.preload(avatars.source.load(id("own"))).await.unwrap();
    (avatars, fake)
}

#[tokio::test]
async fn an_avatar_is_loaded_once_for_all_who_wait_and_nobody_else_waits() {
    let (avatars, fake) = avatars().await;
    let (slow, own) = (id("slow"), id("own"));
    let waiting = join_all((0..50).map(|_| avatars.get(&slow)));
    let other = async {
        avatars.get(&own).await.unwrap();
        let quick = avatars.get(&id("quick")).await.unwrap();
        fake.release.notify_one();
        quick
    };
    let (all, _) = tokio::join!(waiting, other);
    assert_eq!(fake.loads.load(Ordering::SeqCst), 3);
    let first = all[0].as_ref().unwrap();
    assert!(all.iter().all(|avatar| Arc::ptr_eq(avatar.as_ref().unwrap(), first)));
}

#[tokio::test]
async fn loading_goes_on_when_whoever_asked_is_gone() {
    let (avatars, fake) = avatars().await;
    let slow = id("slow");
    tokio::select! {
        biased;
        _ = avatars.get(&slow) => panic!("it is not loaded yet"),
        () = tokio::task::yield_now() => {}
    }
    fake.release.notify_one();
    avatars.get(&slow).await.unwrap();
    assert_eq!(fake.loads.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failure_passes_and_is_not_tried_again_at_once() {
    let (avatars, fake) = avatars().await;
    let broken = id("broken");
    let loads = || fake.loads.load(Ordering::SeqCst) - 1;
    let Err(told) = avatars.get(&broken).await else { panic!("it is broken") };
    assert_eq!((told.code, told.code.retry_after()), (ErrorCode::AvatarUnavailable, Some(Duration::from_secs(5))));
    assert!(told.message.contains("broken") && !told.message.contains("secret"), "{}", told.message);
    for _ in 0..100 {
        assert_eq!(avatars.get(&broken).await.err(), Some(told.clone()));
    }
    assert_eq!(loads(), 1);
    // It rests for longer each time.
    for (rest, tried) in [(2, 2), (2, 2), (2, 3), (60, 4), (60, 5), (59, 6), (60, 7), (60, 8), (59, 8), (1, 9)] {
        tokio::time::advance(Duration::from_secs(rest)).await;
        avatars.get(&broken).await.err().unwrap();
        assert_eq!(loads(), tried, "after {rest} s more");
    }
    fake.mended.store(true, Ordering::SeqCst);
    tokio::time::advance(LONGEST_REST).await;
    avatars.get(&broken).await.unwrap();
}

#[tokio::test]
async fn names_of_nobody_are_told_where_the_list_is_and_not_remembered() {
    let (avatars, fake) = avatars().await;
    let Err(Refusal { code: ErrorCode::UnknownAvatar, message }) = avatars.get(&id("nobody")).await else {
        panic!("there is none")
    };
    assert!(message.contains("nobody") && message.contains("GET /api/avatars"), "{message}");
    assert!(!message.contains("demo") && !message.contains("secret"), "others are not listed: {message}");
    assert_eq!((avatars.cache().len(), fake.loads.load(Ordering::SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn of_avatars_that_nobody_uses_only_the_last_used_are_kept_and_the_servers_own() {
    let (avatars, fake) = avatars().await;
    let used = avatars.get(&id("used")).await.unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    // Whatever still draws an avatar holds its frames.
    let drawn = Arc::clone(&avatars.get(&id("drawn")).await.unwrap().avatar);
    for name in ["a", "b", "c", "a", "d"] {
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(avatars.get(&id(name)).await.unwrap());
    }
    avatars.tidy_up().await;
    // Loaded in the order own, used, drawn, a, b, c, d.
    assert_eq!(*fake.let_go.lock().unwrap(), [4, 5]);
    drop((used, drawn));
    avatars.tidy_up().await;
    assert_eq!(*fake.let_go.lock().unwrap(), [4, 5, 1, 2]);
    let left: std::collections::BTreeSet<AvatarId> = avatars.cache().keys().cloned().collect();
    assert_eq!(left, ["a", "d", "own"].map(id).into());
}

#[tokio::test]
async fn an_avatar_that_was_replaced_is_loaded_anew_and_the_old_one_goes_with_its_last_user() {
    let (avatars, fake) = avatars().await;
    let old = avatars.get(&id("anna")).await.unwrap();
    avatars.forget(&id("anna")).await;
    assert!(fake.let_go.lock().unwrap().is_empty(), "it is still used");
    let new = avatars.get(&id("anna")).await.unwrap();
    assert_ne!(old.handle.0, new.handle.0);
    let number = old.handle.0;
    drop(old);
    avatars.tidy_up().await;
    assert_eq!(*fake.let_go.lock().unwrap(), [number]);
}

#[tokio::test]
async fn an_avatar_that_is_replaced_while_it_is_loaded_is_loaded_once_more_for_whoever_asks_next() {
    let (avatars, fake) = avatars().await;
    let asking = tokio::spawn({
        let avatars = Arc::clone(&avatars);
        async move { avatars.get(&id("slow")).await.map(|avatar| avatar.handle.0) }
    });
    while fake.loads.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    avatars.forget(&id("slow")).await;
    fake.release.notify_one();
    let first = asking.await.unwrap().unwrap();
    fake.release.notify_one();
    let second = avatars.get(&id("slow")).await.unwrap().handle.0;
    assert_ne!(first, second);
}
