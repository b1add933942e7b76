//! Files that change under a gate that serves, the way a mounted volume changes them: a link to another folder.

use crate::plane::{Caller, JSON, Plane, answer, message, whole};
use gatelog::{demo::pki::Ca, reload::Look};
use std::{fs, os::unix::fs::symlink, path::Path};

/// The files of `folder` as a kubelet lays out a volume: each a link through `..data`, which is a link to the version.
struct Volume<'a> {
    folder: &'a Path,
    version: u32,
}

const FILES: [&str; 5] = ["server.crt", "server.key", "ca.crt", "tokens.csv", "rbac.yaml"];

impl<'a> Volume<'a> {
    fn of(folder: &'a Path) -> Self {
        let first = folder.join("..0");
        fs::create_dir(&first).unwrap();
        symlink("..0", folder.join("..data")).unwrap();
        for name in FILES {
            fs::rename(folder.join(name), first.join(name)).unwrap();
            symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
        }
        Self { folder, version: 0 }
    }

    /// All files at once, some of them new.
    fn swap(&mut self, new: &[(&str, &str)]) {
        let old = self.folder.join(format!("..{}", self.version));
        self.version += 1;
        let name = format!("..{}", self.version);
        fs::create_dir(self.folder.join(&name)).unwrap();
        for file in FILES {
            fs::copy(old.join(file), self.folder.join(&name).join(file)).unwrap();
        }
        for (file, text) in new {
            fs::write(self.folder.join(&name).join(file), text).unwrap();
        }
        symlink(&name, self.folder.join("..next")).unwrap();
        fs::rename(self.folder.join("..next"), self.folder.join("..data")).unwrap();
        fs::remove_dir_all(old).unwrap();
    }
}

async fn look(plane: &Plane) -> Look {
    plane.gate().reloader().check_now().await
}

/// The code of a list through this connection.
async fn code(plane: &Plane, caller: &Caller) -> u16 {
    let asking = caller.get("/api/v1/pods");
    let call = async {
        plane.upstream.call().await.answer(answer(200, &[JSON], whole("{}")));
    };
    tokio::select! {
        biased;
        code = async { asking.whole().await.0 } => code,
        () = async { call.await; std::future::pending().await } => unreachable!(),
    }
}

#[tokio::test]
async fn everything_is_taken_up_while_connections_go_on() {
    let plane = Plane::new().await;
    let folder = plane.folder.0.clone();
    let mut volume = Volume::of(&folder);
    assert_eq!(look(&plane).await, Look::Same, "the same contents in another place");
    let changed = |part: &'static str| Look::Changed(vec![part]);
    let (alice, bob) = (plane.caller("alice").await, plane.caller("bob").await);
    let open_watch = async || {
        let watching = alice.get("/api/v1/pods?watch=1");
        let feed = plane.upstream.call().await.stream("application/json");
        (feed, watching.head().await.into_parts().1)
    };
    let (feed, mut watch) = open_watch().await;
    feed.send(Ok("{}\n".into())).await.unwrap();
    assert_eq!(crate::plane::piece(&mut watch).await.unwrap().unwrap(), "{}\n");

    // The token file: bob is gone, on the connection that he has.
    assert_eq!((code(&plane, &alice).await, code(&plane, &bob).await), (200, 200));
    let tokens = plane.world.tokens();
    let without: String = tokens.lines().filter(|l| !l.contains("bob")).map(|l| format!("{l}\n")).collect();
    volume.swap(&[("tokens.csv", &without)]);
    assert_eq!(look(&plane).await, changed("authentication"));
    assert_eq!((code(&plane, &alice).await, code(&plane, &bob).await), (200, 401));
    volume.swap(&[("tokens.csv", &tokens)]);
    assert_eq!(look(&plane).await, changed("authentication"));

    // The rules: nobody may do anything, then everybody again.
    let rules = fs::read_to_string(folder.join("rbac.yaml")).unwrap();
    volume.swap(&[("rbac.yaml", r#"{"apiVersion":"v1","kind":"List","items":[]}"#)]);
    assert_eq!(look(&plane).await, changed("rules"));
    assert_eq!(code(&plane, &alice).await, 403);
    assert!(crate::plane::piece(&mut watch).await.is_none(), "what is no longer allowed does not go on");
    volume.swap(&[("rbac.yaml", &rules)]);
    assert_eq!(look(&plane).await, changed("rules"));
    assert_eq!(code(&plane, &alice).await, 200);

    let (feed, mut watch) = open_watch().await;

    // The clients' CA: a certificate that was believed is not any more, on the connection that showed it.
    let identity = plane.world.certificate("masters");
    let tls = crate::raw::Tls::new(&plane.world.ca.pem(), Some(identity), "http/1.1");
    let mut wire = crate::raw::Wire::open(plane.address, &tls).await.unwrap();
    let request = "GET /api/v1/pods HTTP/1.1\r\nHost: gate\r\n\r\n";
    wire.send(request).await.unwrap();
    plane.upstream.call().await.answer(answer(200, &[JSON], whole("{}")));
    assert_eq!(wire.reply("GET").await.code, 200);
    let other = Ca::new("others").unwrap();
    volume.swap(&[("ca.crt", &other.pem())]);
    assert_eq!(look(&plane).await, changed("authentication"));
    wire.send(request).await.unwrap();
    let reply = wire.reply("GET").await;
    assert_eq!((reply.code, &*message(&reply.body)), (401, "Unauthorized"));

    // The serving pair: new connections get the new one, old ones go on.
    let pair = other.server(&["127.0.0.1"]).unwrap();
    volume.swap(&[("server.crt", &pair.certificates()), ("server.key", &pair.key)]);
    assert_eq!(look(&plane).await, changed("serving pair"));
    let old = crate::raw::Tls::new(&plane.world.ca.pem(), None, "http/1.1");
    assert!(crate::raw::Wire::open(plane.address, &old).await.is_err(), "still the old certificate");
    let new = crate::raw::Tls::new(&other.pem(), None, "http/1.1");
    assert!(crate::raw::Wire::open(plane.address, &new).await.is_ok());
    assert_eq!(code(&plane, &alice).await, 200);
    feed.send(Ok("{}\n".into())).await.unwrap();
    assert_eq!(crate::plane::piece(&mut watch).await.unwrap().unwrap(), "{}\n");
    assert_eq!(plane.metric("gatelog_reloads_total{result=\"success\"}").await, 6.0);
}

#[tokio::test]
async fn what_is_broken_changes_nothing() {
    let plane = Plane::new().await;
    let folder = plane.folder.0.clone();
    let mut volume = Volume::of(&folder);
    let alice = plane.caller("alice").await;
    let stranger = Ca::new("others").unwrap().server(&["127.0.0.1"]).unwrap();
    let good = FILES.map(|name| (name, fs::read_to_string(folder.join(name)).unwrap()));
    let rows = [
        ("server.crt", "no certificate"),
        ("server.crt", &stranger.certificates()),
        ("server.key", ""),
        ("ca.crt", ""),
        ("tokens.csv", "only-a-token\n"),
        ("rbac.yaml", "{"),
        ("rbac.yaml", "{apiVersion: v1, kind: Nonsense}"),
    ];
    for (n, (name, text)) in rows.iter().enumerate() {
        let gone: String = good.iter().find(|(good, _)| good == name).unwrap().1.clone();
        // Together with a change that alone would do: all or nothing.
        volume.swap(&[("tokens.csv", ""), (name, text)]);
        assert!(matches!(look(&plane).await, Look::Refused(_)), "{name}: {text}");
        look(&plane).await;
        let failures = plane.metric("gatelog_reloads_total{result=\"failure\"}").await;
        assert_eq!(failures, (n + 1) as f64, "{name}: each once");
        assert_eq!(code(&plane, &alice).await, 200);
        volume.swap(&[(name, &gone), ("tokens.csv", &good[3].1)]);
        assert_eq!(look(&plane).await, Look::Same);
    }
    // A file that is gone.
    fs::remove_file(folder.join("..data").join("tokens.csv")).unwrap();
    assert!(matches!(look(&plane).await, Look::Refused(_)));
    assert_eq!(code(&plane, &alice).await, 200);
    assert_eq!(plane.metric("gatelog_reloads_total{result=\"success\"}").await, 0.0);
}
