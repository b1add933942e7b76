//! Watches: changes of one resource as they happen, from a version on.

use super::{
    answer::{Answer, Failure, channel},
    form::Form,
    kinds::Kind,
    options,
    route::Query,
    selector::Selector,
    store::{Change, Op, Store},
    table::Include,
    value::text,
};
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// What is watched, and how it is shown.
pub(super) struct Watch {
    /// The store's table.
    pub at: usize,
    /// Its kind.
    pub kind: &'static Kind,
    /// "": all.
    pub namespace: String,
    /// Which objects.
    pub selector: Selector,
    /// In what form.
    pub form: Form,
    /// What tables hold.
    pub include: Include,
}

/// How long a watch lives when the client does not say.
const LIFETIME: Duration = Duration::from_secs(1800);
/// Between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// Starts a watch. The head is sent at once; a version that is forgotten already is answered by an ERROR event.
pub(super) fn start(store: &Arc<Store>, watch: Watch, query: &Query) -> Result<Answer, Failure> {
    let from = options::version(query).map_err(|why| Failure::new(500, "", why))?;
    let wants_initial = query.flag("sendInitialEvents");
    let bookmarks = query.flag("allowWatchBookmarks");
    let seconds = options::number(query, "timeoutSeconds")?.and_then(|s| u64::try_from(s).ok());
    let lifetime = seconds.filter(|s| *s > 0).map_or(LIFETIME, Duration::from_secs);

    let (sender, body) = channel();
    let store = store.clone();
    tokio::spawn(async move {
        let mut run = Run { watch, first: true };
        let Some(mut signal) = store.subscribe(run.watch.at) else { return };
        let mut at = from;
        if wants_initial || from == 0 {
            let (now, all) = store.read(|s| {
                let objects = s.range(run.watch.at, &run.watch.namespace, None);
                (s.version(), objects.map(|(_, o)| o.clone()).collect::<Vec<_>>())
            });
            at = now;
            let mut out = Vec::new();
            for object in &all {
                if run.watch.selector.matches(object) {
                    run.event("ADDED", object, &mut out);
                }
            }
            if wants_initial && bookmarks {
                let mark = run.watch.form.bookmark(run.watch.kind, now, true);
                push(&mut out, "BOOKMARK", &mark);
            }
            if !out.is_empty() && sender.send(Ok(Bytes::from(out))).await.is_err() {
                return;
            }
        }
        let end = sleep_until(Instant::now() + lifetime);
        tokio::pin!(end);
        loop {
            signal.borrow_and_update();
            let changes = store.read(|s| s.since(run.watch.at, at).map(|changes| (changes, s.version())));
            match changes {
                Err(old) => {
                    let text = format!("too old resource version: {} ({})", old.asked, old.oldest);
                    let mut out = Vec::new();
                    push(&mut out, "ERROR", &Failure::expired(text).status());
                    let _ = sender.send(Ok(Bytes::from(out))).await;
                    return;
                }
                Ok((changes, _)) => {
                    let mut out = Vec::new();
                    for change in changes {
                        at = at.max(change.version);
                        run.change(&change, &mut out);
                    }
                    if !out.is_empty() && sender.send(Ok(Bytes::from(out))).await.is_err() {
                        return;
                    }
                }
            }
            tokio::select! {
                () = sender.closed() => return,
                () = &mut end => return,
                changed = signal.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(BOOKMARKS), if bookmarks => {
                    let mut out = Vec::new();
                    at = at.max(store.read(|s| s.latest(run.watch.at).unwrap_or_default()));
                    push(&mut out, "BOOKMARK", &run.watch.form.bookmark(run.watch.kind, at, false));
                    if sender.send(Ok(Bytes::from(out))).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    let mut answer = Response::new(body);
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(answer)
}

struct Run {
    watch: Watch,
    first: bool,
}

impl Run {
    /// What a change is to this watch: an object that stops being selected is deleted to it.
    fn change(&mut self, change: &Change, out: &mut Vec<u8>) {
        let namespace = &self.watch.namespace;
        if !namespace.is_empty() && text(&change.object, "/metadata/namespace") != *namespace {
            return;
        }
        let was = change.before.as_ref().is_some_and(|o| self.watch.selector.matches(o));
        let is = change.op != Op::Deleted && self.watch.selector.matches(&change.object);
        match (was, is) {
            (false, false) => {}
            (false, true) => self.event("ADDED", &change.object, out),
            (true, true) => self.event("MODIFIED", &change.object, out),
            (true, false) => {
                let mut last = change.before.as_deref().cloned().unwrap_or_default();
                super::value::set(&mut last, "/metadata/resourceVersion", change.version.to_string());
                self.event("DELETED", &last, out);
            }
        }
    }

    fn event(&mut self, sort: &str, object: &Value, out: &mut Vec<u8>) {
        let shown = self.watch.form.event(self.watch.kind, object, self.watch.include, self.first);
        self.first = false;
        push(out, sort, &shown);
    }
}

fn push(out: &mut Vec<u8>, sort: &str, object: &Value) {
    out.extend(json!({"type": sort, "object": object}).to_string().into_bytes());
    out.push(b'\n');
}
