//! A record as a running gate writes it, read by both verifiers: while it is being written, when it is complete, after another
//! process went on with it, and when somebody has changed it.

use crate::{
    harness::{Gate, Tweaks},
    records::{gatelog, verify_py},
};
use gatelog::{config, demo::site::ADMIN, server};
use serde_json::Value;
use std::{fs, path::Path};

fn verify(dir: &Path, args: &[&str]) -> (Option<i32>, Value) {
    let key = dir.join("audit.pub");
    let base = ["audit", "verify", dir.to_str().unwrap(), "--key", key.to_str().unwrap(), "-o", "json"];
    let output = gatelog(&[&base, args].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|e| panic!("{e}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), report)
}

fn check_py(dir: &Path) {
    let key = fs::read_to_string(dir.join("audit.pub")).unwrap();
    if let Some((code, said)) = verify_py(dir, key.lines().next().unwrap(), &[]) {
        assert_eq!(code, 0, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gate_writes_is_verified_at_any_time() {
    let mut gate = Gate::start(Tweaks::default()).await;
    let dir = gate.site.record();
    let asks = |n: usize| (0..n).map(|i| format!("/api/v1/namespaces/default/pods?limit={}", i + 1));
    for target in asks(5) {
        gate.ask(ADMIN, "GET", &target).await;
        let live = dir.clone();
        let (code, report) = tokio::task::spawn_blocking(move || verify(&live, &[])).await.unwrap();
        assert_eq!((code, &report["live"]), (Some(0), &true.into()), "{report:#}");
    }
    let record = gate.stop().await;
    let (code, report) = verify(&dir, &[]);
    assert_eq!(code, Some(0), "{report:#}");
    assert_eq!(report["lines"], record.0.len(), "{report:#}");
    assert_eq!((&report["stopped"], &report["tail"]), (&true.into(), &Value::Null), "{report:#}");
    check_py(&dir);
    let kept = dir.join("kept");
    fs::copy(dir.join("log/checkpoint"), &kept).unwrap();

    // Another process goes on with the same log.
    let config = config::load(&gate.site.dir().join("gatelog.yaml")).unwrap_or_else(|e| panic!("{e}"));
    server::start(config).await.unwrap_or_else(|e| panic!("{e}")).drain().await;
    let kept = kept.display().to_string();
    let (code, report) = verify(&dir, &["--checkpoint", &kept]);
    assert_eq!((code, &report["offBox"]["checked"]), (Some(0), &1.into()), "{report:#}");
    assert!(report["crashes"] == 0 && report["recovered"] == 0, "{report:#}");
    check_py(&dir);

    // One event is proved without the record, and shown.
    let id = record.0.last().unwrap()["auditID"].as_str().unwrap().to_owned();
    let (key, line, proof) = (dir.join("audit.pub"), dir.join("line.json"), dir.join("proof"));
    let [key, line, proof] = [&key, &line, &proof].map(|path| path.to_str().unwrap());
    let made =
        gatelog(&["audit", "prove", dir.to_str().unwrap(), "--key", key, "--event", &id, "--line", line]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(proof, made.stdout).unwrap();
    let checked = gatelog(&["audit", "prove", "--check", proof, "--line", line, "--key", key]);
    assert!(String::from_utf8_lossy(&checked.stdout).contains(&id), "{checked:?}");

    // A byte of the first segment, whatever form it has by now.
    let mut segments: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.to_string_lossy().contains(".jsonl"));
    segments.sort();
    let mut bytes = fs::read(&segments[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segments[0], bytes).unwrap();
    let (code, report) = verify(&dir, &[]);
    let fault = &report["faults"][0];
    assert_eq!((code, &fault["kind"]), (Some(2), &"altered".into()), "{report:#}");
    let name = segments[0].file_name().unwrap().to_str().unwrap();
    assert_eq!(fault["file"], name, "{report:#}");
    let public = fs::read_to_string(key).unwrap();
    if let Some((code, said)) = verify_py(&dir, public.trim(), &[]) {
        assert!(code == 2 && said.contains(name), "{said}");
    }
}
