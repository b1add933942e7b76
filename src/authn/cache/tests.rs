use super::*;
use crate::{authn::Method, identity::User};
use std::{
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
};
use tokio::sync::Notify;

const LONG: Duration = Duration::from_secs(600);

fn proven(name: &str, expires: Option<SystemTime>) -> Opinion {
    let user = User::new(name, "", Vec::new(), Default::default()).unwrap();
    Ok(Some(Authenticated::new(user, Method::Jwt, expires)))
}

/// The user's name, `nobody`, or the error.
fn said(opinion: Opinion) -> String {
    match opinion {
        Ok(Some(proven)) => proven.user().name().to_owned(),
        Ok(None) => "nobody".to_owned(),
        Err(why) => format!("error: {why}"),
    }
}

fn known(cache: &Cache, token: &str) -> String {
    cache.get(token).map_or("unknown".to_owned(), said)
}

fn put(cache: &Cache, token: &str, opinion: &Opinion, time: Duration) {
    cache.keep(cache.digest(token).unwrap(), opinion, time);
}

#[tokio::test]
async fn what_is_kept_and_for_how_long() {
    let rows = [
        (proven("alice", None), LONG, "alice", "alice"),
        (proven("alice", None), Duration::ZERO, "alice", "unknown"),
        (proven("alice", None), Duration::MAX, "alice", "unknown"),
        (proven("alice", Some(SystemTime::now() + LONG)), LONG, "alice", "alice"),
        (proven("alice", Some(SystemTime::now())), LONG, "alice", "unknown"),
        (Ok(None), LONG, "nobody", "nobody"),
        (Ok(None), Duration::ZERO, "nobody", "unknown"),
        (Err("broken".into()), LONG, "error: broken", "error: broken"),
        (Err("broken".into()), Duration::ZERO, "error: broken", "unknown"),
    ];
    for (opinion, time, at_once, afterwards) in rows {
        let cache = Cache::new(64);
        assert_eq!(known(&cache, "token"), "unknown");
        let row = format!("{opinion:?} {time:?}");
        assert_eq!(said(cache.get_or("token", ready((opinion, time))).await), at_once, "{row}");
        assert_eq!(known(&cache, "token"), afterwards, "{row}");
        assert_eq!(known(&cache, "token2"), "unknown");
        assert_eq!(cache.judged_now.len(), 0, "{row}");
    }
}

#[test]
fn judgements_end_by_either_clock() {
    let cache = Cache::new(64);
    let (now, wall) = (Instant::now(), SystemTime::now());
    let seconds = Duration::from_secs;
    put(&cache, "a", &proven("alice", Some(wall + seconds(30))), seconds(60));
    put(&cache, "b", &proven("bob", Some(wall + seconds(90))), seconds(60));
    put(&cache, "n", &Ok(None), seconds(60));
    let rows = [
        ("a", 0, 29, "alice"),
        ("a", 0, 30, "unknown"),
        // The system's clock was set back: the token's own time is over all the same.
        ("a", 61, 0, "unknown"),
        ("b", 59, 59, "bob"),
        ("b", 61, 61, "unknown"),
        ("n", 59, 0, "nobody"),
        ("n", 61, 0, "unknown"),
    ];
    for (token, later, by_the_wall, want) in rows {
        let digest = cache.digest(token).unwrap();
        let got = cache.known_at(&digest, now + seconds(later), wall + seconds(by_the_wall));
        assert_eq!(got.map_or("unknown".to_owned(), said), want, "{token} {later} {by_the_wall}");
    }
}

#[tokio::test]
async fn a_later_judgement_counts() {
    let cache = Cache::new(64);
    put(&cache, "token", &Ok(None), LONG);
    put(&cache, "token", &proven("alice", None), LONG);
    assert_eq!(known(&cache, "token"), "alice");
    // What is known is not judged again.
    assert_eq!(said(cache.get_or("token", pending()).await), "alice");
}

#[test]
fn tokens_that_differ_anywhere_have_different_digests() {
    let cache = Cache::new(64);
    let long = "abcdefghijklmnopqrstuvwxyz012345".repeat(40);
    let mut tokens: Vec<String> = (0..long.len()).map(|n| long[..n].to_owned()).collect();
    tokens.extend((0..long.len()).map(|n| format!("{}-{}", &long[..n], &long[n + 1..])));
    tokens.extend(["\0", "\0\0", " ", "a\0"].map(str::to_owned));
    let digests: std::collections::HashSet<_> = tokens.iter().map(|t| cache.digest(t).unwrap()).collect();
    assert_eq!(digests.len(), tokens.len());
}

#[test]
fn no_token_is_kept_and_no_two_caches_share_a_key() {
    let (one, other) = (Cache::new(64), Cache::new(64));
    assert_ne!(one.digest("token"), other.digest("token"));
    assert_eq!(one.digest("token"), one.digest("token"));
    put(&one, "s3same", &proven("alice", None), LONG);
    assert!(!format!("{one:?}").contains("s3same"));
}

#[test]
fn a_flood_of_strangers_drives_out_nobody_who_is_known() {
    let cache = Cache::new(64);
    for i in 0..32 {
        put(&cache, &format!("good{i}"), &proven("alice", None), LONG);
    }
    for i in 0..10_000 {
        put(&cache, &format!("bad{i}"), &Ok(None), LONG);
    }
    assert!((0..32).all(|i| known(&cache, &format!("good{i}")) == "alice"));
    assert!(cache.rejected.len() <= 128, "{}", cache.rejected.len());
    for i in 0..10_000 {
        put(&cache, &format!("more{i}"), &proven("bob", None), LONG);
    }
    assert!(cache.accepted.len() <= 128, "{}", cache.accepted.len());
}

#[tokio::test]
async fn fifty_callers_at_once_make_one_judgement() {
    // Kept or not, an error or not, everybody gets it.
    for (opinion, time, want) in [
        (proven("alice", None), LONG, "alice"),
        (proven("alice", None), Duration::ZERO, "alice"),
        (Ok(None), Duration::ZERO, "nobody"),
        (Err("no".into()), Duration::ZERO, "error: no"),
    ] {
        let (cache, judged, go) = (Cache::new(64), AtomicUsize::new(0), Notify::new());
        let judge = || async {
            judged.fetch_add(1, SeqCst);
            go.notified().await;
            (opinion.clone(), time)
        };
        let mut callers: Vec<_> = (0..50).map(|_| Box::pin(cache.get_or("token", judge()))).collect();
        let mut context = Context::from_waker(Waker::noop());
        for caller in &mut callers {
            assert!(caller.as_mut().poll(&mut context).is_pending());
        }
        go.notify_one();
        for caller in callers {
            assert_eq!(said(caller.await), want);
        }
        assert_eq!((judged.into_inner(), cache.judged_now.len()), (1, 0), "{want}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_on_many_threads_make_one_judgement() {
    let (cache, judged) = (Arc::new(Cache::new(64)), Arc::new(AtomicUsize::new(0)));
    for round in 0..100 {
        let caller = |_| {
            let (cache, judged) = (cache.clone(), judged.clone());
            tokio::spawn(async move {
                let judge = async {
                    judged.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                    (proven("alice", None), LONG)
                };
                said(cache.get_or(&format!("token{round}"), judge).await)
            })
        };
        for caller in (0..8).map(caller).collect::<Vec<_>>() {
            assert_eq!(caller.await.unwrap(), "alice");
        }
    }
    assert_eq!(judged.load(SeqCst), 100);
}

#[tokio::test]
async fn when_the_judge_leaves_or_falls_another_takes_over() {
    let cache = Arc::new(Cache::new(64));
    let begun = Arc::new(Notify::new());
    for falls in [false, true] {
        let (of_first, begin) = (cache.clone(), begun.clone());
        let first = tokio::spawn(async move {
            let judge = async {
                begin.notify_one();
                if falls {
                    tokio::task::yield_now().await;
                    panic!("on purpose");
                }
                pending().await
            };
            of_first.get_or("token", judge).await
        });
        begun.notified().await;
        let of_second = cache.clone();
        let second = tokio::spawn(async move {
            said(of_second.get_or("token", ready((proven("alice", None), Duration::ZERO))).await)
        });
        tokio::task::yield_now().await;
        if !falls {
            assert!(!second.is_finished());
            first.abort();
        }
        assert_eq!(second.await.unwrap(), "alice");
        assert!(first.await.is_err());
    }
}

#[tokio::test]
async fn one_who_waits_may_leave() {
    let cache = Arc::new(Cache::new(64));
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (of_first, begin, going) = (cache.clone(), begun.clone(), go.clone());
    let first = tokio::spawn(async move {
        let judge = async {
            begin.notify_one();
            going.notified().await;
            (proven("alice", None), Duration::ZERO)
        };
        said(of_first.get_or("token", judge).await)
    });
    begun.notified().await;
    let waiting = tokio::time::timeout(Duration::from_millis(1), cache.get_or("token", pending()));
    assert!(waiting.await.is_err());
    go.notify_one();
    assert_eq!(first.await.unwrap(), "alice");
}

#[tokio::test]
async fn without_randomness_everything_is_judged() {
    let cache = Cache { key: None, ..Cache::new(64) };
    assert_eq!(said(cache.get_or("token", ready((proven("alice", None), LONG))).await), "alice");
    assert_eq!(known(&cache, "token"), "unknown");
}
