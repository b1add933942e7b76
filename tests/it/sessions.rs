//! What the record says of sessions and watches beyond their URI.

use crate::{
    scene::{Options, Scene, upgrade},
    upstream::{Act, Heard},
};
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/d/pods";
const RIGHTS: &str = "can alice * - pods,pods/exec,pods/attach,pods/portforward in=d";

fn told(events: &[Value], key: &str) -> Vec<Value> {
    events.iter().map(|event| event["annotations"][format!("gatelog.dev/{key}")].clone()).collect()
}

#[tokio::test]
async fn a_session_says_what_it_is_for_and_a_rule_hides_it_everywhere() {
    let rule = "policy: everything, redaction: {rules: [{name: commands, resources: [pods/exec], names: [hidden], query: [command]}]}";
    let options = Options { audit: rule.to_owned(), ..Options::default() };
    let script = |_: &Heard| vec![Act::say(upgrade::SPDY_101), Act::Close];
    let mut scene = Scene::with(RIGHTS, options, script).await;
    let query = "exec?command=mysql&command=-psesame&container=db&stdin=true&tty=true";
    for (name, shown) in [("open", true), ("hidden", false)] {
        let target = format!("{PODS}/{name}/{query}");
        let mut wire = scene.wire("alice").await;
        wire.send(scene.head("alice", "POST", &target, &upgrade::SPDY)).await.unwrap();
        let reply = wire.head().await;
        let events = scene.ended(&reply).await;
        assert_eq!(events.len(), 3, "{events:#?}");
        for (command, event) in told(&events, "exec-command").iter().zip(&events) {
            let words: Vec<String> = serde_json::from_str(command.as_str().unwrap()).unwrap();
            assert_eq!(words.len(), 2, "{event:#}");
            assert_eq!(words == ["mysql", "-psesame"], shown, "{event:#}");
            assert_eq!(event.to_string().contains("sesame"), shown, "{event:#}");
        }
        assert_eq!(told(&events, "exec-container"), vec![json!("db"); 3]);
        assert_eq!(told(&events, "exec-streams"), vec![json!("stdin,tty"); 3]);
    }
    let target = format!("{PODS}/open/portforward?ports=80&ports=443");
    let reply = scene.ask("alice", "POST", &target, &[]).await;
    let events = scene.ended(&reply).await;
    assert!(told(&events, "portforward-ports").iter().all(|ports| *ports == "80,443"), "{events:#?}");
}

#[tokio::test]
async fn events_of_watches_are_counted_if_that_is_asked_for() {
    fn script(heard: &Heard) -> Vec<Act> {
        let json = concat!(
            "{\"type\":\"ADDED\",\"object\":{}}\n",
            "{\"type\":\"ADDED\",\"object\":{}}\n{\"type\":\"BOOKMARK\",\"object\":{}}\n"
        );
        let protobuf = "\0\0\0\x09\x0a\x07DELETED\0\0\0\x09\x0a\x07DELETED";
        let (head, body) = match heard.line() {
            line if line.contains("as-protobuf") => {
                ("application/vnd.kubernetes.protobuf;stream=watch", protobuf)
            }
            line if line.contains("as-gzip") => ("application/json\r\nContent-Encoding: gzip", json),
            _ => ("application/json", json),
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {head}\r\nConnection: close\r\n\r\n");
        vec![Act::Say([head.as_bytes(), body.as_bytes()].concat()), Act::Close]
    }
    for (audit, asked) in [("policy: everything, watchEvents: true", true), ("", false)] {
        let mut scene =
            Scene::with(RIGHTS, Options { audit: audit.to_owned(), ..Options::default() }, script).await;
        for (form, counts) in [
            ("as-json", Some(r#"{"ADDED":2,"BOOKMARK":1}"#)),
            ("as-protobuf", Some(r#"{"DELETED":2}"#)),
            ("as-gzip", Some(r#"{"uncounted":"content-encoding"}"#)),
            ("not-a-watch", None),
        ] {
            let watch = if counts.is_some() { "watch=1&" } else { "" };
            let reply = scene.ask("alice", "GET", &format!("{PODS}?{watch}fieldManager={form}"), &[]).await;
            assert_eq!(reply.code, 200);
            let last = scene.ended(&reply).await.pop().unwrap();
            let want = counts.filter(|_| asked).map_or(Value::Null, Value::from);
            assert_eq!(last["annotations"]["gatelog.dev/watch-events"], want, "{form}: {last:#}");
        }
    }
}
