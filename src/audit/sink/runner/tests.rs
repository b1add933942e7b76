use super::*;
use crate::audit::{
    sink::{Config, Receiver, batch::Room, status},
    tests::Folder,
};
use prometheus::{IntCounter, Registry};
use serde_json::Value;
use std::{fs, sync::Mutex};

type Script = dyn Fn(usize, &[String]) -> Outcome + Send + Sync;

/// Takes what its script says it does, and tells what that was.
#[derive(Clone)]
struct Fake {
    script: Arc<Script>,
    taken: Arc<Mutex<Vec<Vec<String>>>>,
    calls: Arc<Mutex<usize>>,
}

impl Fake {
    fn new(script: impl Fn(usize, &[String]) -> Outcome + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), taken: Arc::default(), calls: Arc::default() }
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().concat()
    }
}

impl Deliver for Fake {
    fn manner(&self) -> Manner {
        Manner {
            room: Room { events: 8, bytes: 1 << 20 },
            wait: Duration::from_secs(1),
            backoff: Duration::from_secs(10),
            longest: Duration::from_secs(120),
        }
    }

    async fn deliver(&mut self, lines: Lines<'_>) -> Outcome {
        let name = |line: &[u8]| {
            let event: Value = serde_json::from_slice(line).unwrap();
            match event["annotations"]["gatelog.dev/sink-gap"].as_str() {
                Some(gap) => format!("!{gap}"),
                None => event["auditID"].as_str().unwrap().to_owned(),
            }
        };
        let names: Vec<String> = lines.each().map(name).collect();
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        let outcome = (self.script)(*calls, &names);
        if outcome == Outcome::Taken {
            self.taken.lock().unwrap().push(names);
        }
        outcome
    }
}

fn event(n: usize) -> String {
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{n}","stage":"ResponseComplete","annotations":{{"gatelog.dev/salt":"00"}}}}
"#
    )
}

fn again(after: Option<u64>) -> Outcome {
    Outcome::TryAgain { why: "not now".to_owned(), after: after.map(Duration::from_secs) }
}

fn never() -> Outcome {
    Outcome::Never("not that".to_owned())
}

/// A journal of `events`, and one sink that is told to stop when `enough` of them were taken.
async fn run(folder: &Folder, events: usize, fake: &Fake, enough: impl Fn(&[String]) -> bool) -> Arc<Status> {
    let text: String = (0..events).map(event).collect();
    fs::write(folder.0.join("audit-20260102T030405.678Z-00000001.jsonl"), &text).unwrap();
    let sinks = [Config { name: "a".to_owned(), receiver: Receiver::Stdout }];
    let cursors = Cursors::open(&folder.0, &sinks);
    let metrics = status::Metrics::register(&Registry::new()).unwrap();
    let status = Status::new("a", metrics.of("a", IntCounter::new("a", "b").unwrap()));
    let progress = watch::Sender::new(Position { segment: 1, offset: text.len() as u64 });
    let stop = watch::Sender::new(false);
    let cursor = cursors.get("a");
    let runner = Runner {
        name: "a".to_owned(),
        dir: folder.0.clone(),
        to: fake.clone(),
        manner: fake.manner(),
        taken: cursor.clone().ok().flatten(),
        reader: Some(Reader::new("a", &folder.0, cursor, status.metrics().gaps.clone())),
        cursors,
        progress: progress.subscribe(),
        heads: Heads::new(None, |_| Vec::new()),
        stop: stop.subscribe(),
        status: status.clone(),
        unstored: false,
        stored: Instant::now(),
        spare: Batch::default(),
    };
    let running = tokio::spawn(runner.run());
    while !enough(&fake.taken()) {
        sleep(Duration::from_millis(100)).await;
    }
    stop.send_replace(true);
    running.await.unwrap();
    status
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn all_is_taken_in_order_whatever_goes_wrong_on_the_way() {
    let folder = Folder::new();
    let fake = Fake::new(|call, _| match call % 4 {
        0 => Outcome::Taken,
        1 => again(None),
        2 => again(Some(7)),
        _ => again(Some(1_000_000)),
    });
    let begun = Instant::now();
    let status = run(&folder, 50, &fake, |taken| taken.len() >= 50).await;
    assert_eq!(fake.taken(), numbers(0..50));
    // Seven batches, each after three failures: 10 s or more, 15 s or more, ten minutes at most.
    assert!(begun.elapsed() > Duration::from_secs(7 * 625) && begun.elapsed() < Duration::from_secs(7 * 640));
    assert_eq!(status.metrics().errors.get(), 21);
    // Nothing is left for the next one.
    let idle = Fake::new(|_, names| panic!("{names:?}"));
    run(&folder, 50, &idle, |_| true).await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_batch_is_halved_until_it_fits() {
    let folder = Folder::new();
    let fake = Fake::new(|_, names| if names.len() > 3 { never() } else { Outcome::Taken });
    run(&folder, 20, &fake, |taken| taken.len() >= 20).await;
    assert_eq!(fake.taken(), numbers(0..20));
    assert_eq!(fake.taken.lock().unwrap()[0].len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_nobody_wants_is_left_out_once_a_note_was_taken() {
    let folder = Folder::new();
    let fake = Fake::new(|_, names| if names.iter().any(|n| n == "5") { never() } else { Outcome::Taken });
    let status = run(&folder, 12, &fake, |taken| taken.len() >= 12).await;
    let note = "!5 ResponseComplete is left out: not that".to_owned();
    let want = [numbers(0..5), vec![note], numbers(6..12)].concat();
    assert_eq!(fake.taken(), want);
    assert_eq!((status.metrics().left_out.get(), status.metrics().gaps.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_refuses_everything_is_asked_until_it_does_not() {
    let folder = Folder::new();
    let fake = Fake::new(|call, _| if call < 40 { never() } else { Outcome::Taken });
    let status = run(&folder, 12, &fake, |taken| taken.len() >= 12).await;
    let left_out = status.metrics().left_out.get() as usize;
    // Whichever of event and note is asked for when it changes its mind.
    assert!(left_out <= 1);
    assert_eq!(fake.taken().iter().filter(|name| !name.starts_with('!')).count(), 12 - left_out);
    assert_eq!(fake.taken()[1..], numbers(1..12));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_taken_at_a_stop_is_taken_after_it() {
    let folder = Folder::new();
    // The first batch only, then nothing any more.
    let first = Fake::new(|call, _| if call == 1 { Outcome::Taken } else { again(None) });
    let begun = Instant::now();
    run(&folder, 20, &first, |taken| !taken.is_empty()).await;
    assert!(begun.elapsed() < Duration::from_secs(8));
    let second = Fake::new(|_, _| Outcome::Taken);
    run(&folder, 20, &second, |taken| taken.len() >= 12).await;
    assert_eq!([first.taken(), second.taken()].concat(), numbers(0..20));
}

#[test]
fn pauses_grow_and_what_is_asked_for_counts() {
    let mut pauses = Pauses::new(Duration::from_secs(10), Duration::from_secs(120));
    let rows = [
        (None, 0.0, 10_000),
        (None, 0.0, 15_000),
        (Some(7), 0.0, 22_500),
        (Some(60), 0.5, 60_000),
        (None, 1.0, 60_750),
        (None, 0.0, 75_937),
        (None, 0.0, 113_906),
        (None, 0.0, 120_000),
        (Some(300), 1.0, 300_000),
        (Some(1_000_000), 1.0, 600_000),
        (None, 7.0, 144_000),
    ];
    for (asked, chance, want) in rows {
        assert_eq!(
            pauses.next(asked.map(Duration::from_secs), chance).as_millis(),
            want,
            "{asked:?} {chance}"
        );
    }
    let mut slow = Pauses::new(Duration::from_secs(300), Duration::from_secs(120));
    assert_eq!((slow.next(None, 0.0).as_secs(), slow.next(None, 0.0).as_secs()), (300, 300));
}
