//! `gatelog kubeconfig`: a kubeconfig that leads through the gate.

use super::{Outcome, usage};
use crate::codec::yaml;
use anyhow::{Context, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Uri;
use serde_json::{Map, Value};
use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Make a kubeconfig that leads through the gate
///
/// Takes a kubeconfig and gives its current context's cluster the gate's address and CA. Users and their credentials stay as they
/// are: the gate must know them. Comments are lost.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The gate's address, as callers reach it
    #[arg(long, value_name = "URL", value_parser = server)]
    server: String,
    /// The CA that signed the gate's certificate; without it, the system's CAs are trusted
    #[arg(long, value_name = "FILE")]
    certificate_authority: Option<PathBuf>,
    /// Put the CA's certificates into the kubeconfig rather than its path
    #[arg(long, requires = "certificate_authority")]
    embed: bool,
    /// The kubeconfig to take [default: $KUBECONFIG, or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context whose cluster leads through the gate [default: the current one]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Where to write it, readable by you only [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn server(text: &str) -> Result<String, String> {
    let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.host(), uri.path(), uri.query()) {
        (Some("https"), Some(host), "" | "/", None) if !host.is_empty() => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        (Some("https"), ..) => Err("expected https://HOST[:PORT] and no path".to_owned()),
        _ => Err("expected an address that begins with https://".to_owned()),
    }
}

pub(super) fn run(args: Args) -> Outcome {
    let from = match args.kubeconfig {
        Some(file) => file,
        None => default_file().map_err(usage)?,
    };
    let text =
        fs::read_to_string(&from).with_context(|| format!("kubeconfig {}", from.display())).map_err(usage)?;
    let gate = Gate {
        server: args.server,
        authority: authority(args.certificate_authority.as_deref(), args.embed).map_err(usage)?,
    };
    let folder = absolute(&from)?.parent().map(Path::to_path_buf).unwrap_or_default();
    let (config, dropped) = rewrite(&text, args.context.as_deref(), &gate, &folder)
        .with_context(|| format!("kubeconfig {}", from.display()))
        .map_err(usage)?;
    for key in dropped {
        eprintln!("gatelog: left out {key}: it was about the way to the cluster without the gate");
    }
    match args.output {
        None => super::print(&config)?,
        Some(to) => {
            if same_file(&from, &to) {
                return Err(usage(anyhow!(
                    "{} would overwrite the kubeconfig it is made from",
                    to.display()
                )));
            }
            write_private(&to, &config).with_context(|| format!("cannot write {}", to.display()))?;
            eprintln!("gatelog: wrote {0}; try: kubectl --kubeconfig {0} get namespaces", to.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn default_file() -> Result<PathBuf, anyhow::Error> {
    match env::var_os("KUBECONFIG").filter(|list| !list.is_empty()) {
        Some(list) => {
            let mut files = env::split_paths(&list).filter(|file| !file.as_os_str().is_empty());
            match (files.next(), files.next()) {
                (Some(file), None) => Ok(file),
                _ => bail!("$KUBECONFIG names several files: choose one with --kubeconfig"),
            }
        }
        None => match env::var_os("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Ok(Path::new(&home).join(".kube/config")),
            None => bail!("neither $KUBECONFIG nor $HOME is set: name a file with --kubeconfig"),
        },
    }
}

/// What the cluster's entry gets.
struct Gate {
    server: String,
    authority: Authority,
}

enum Authority {
    System,
    File(String),
    Embedded(String),
}

fn authority(file: Option<&Path>, embed: bool) -> Result<Authority, anyhow::Error> {
    let Some(file) = file else { return Ok(Authority::System) };
    let context = || format!("--certificate-authority {}", file.display());
    let pem = fs::read(file).with_context(context)?;
    if !pem.windows(CERTIFICATE.len()).any(|w| w == CERTIFICATE) {
        return Err(anyhow!("holds no PEM certificate").context(context()));
    }
    Ok(match embed {
        true => Authority::Embedded(STANDARD.encode(pem)),
        false => Authority::File(absolute(file)?.to_string_lossy().into_owned()),
    })
}

const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn absolute(file: &Path) -> Result<PathBuf, anyhow::Error> {
    std::path::absolute(file).with_context(|| file.display().to_string())
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((fs::canonicalize(a), fs::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

/// Keys of a cluster that say how to reach it and whom to believe there.
const REPLACED: [&str; 3] = ["server", "certificate-authority", "certificate-authority-data"];
const DROPPED: [&str; 3] = ["insecure-skip-tls-verify", "tls-server-name", "proxy-url"];

/// The kubeconfig `text` with the cluster of `context` led through the gate, and the keys that were left out for it. Paths
/// relative to `folder` are made absolute, since the result may be kept elsewhere.
fn rewrite(
    text: &str,
    context: Option<&str>,
    gate: &Gate,
    folder: &Path,
) -> Result<(String, Vec<&'static str>), anyhow::Error> {
    let mut config: Map<String, Value> = yaml::object(text)?;
    match config.get("kind").and_then(Value::as_str) {
        Some("Config") | None => {}
        Some(kind) => bail!("kind: expected Config, not {kind:?}"),
    }
    let context = match (context, config.get("current-context").and_then(Value::as_str)) {
        (Some(name), _) | (None, Some(name)) if !name.is_empty() => name.to_owned(),
        _ => bail!("current-context is not set: choose one with --context"),
    };
    let cluster = entry(&mut config, "contexts", "context", &context)?
        .get("cluster")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .with_context(|| format!("contexts: {context:?} names no cluster"))?;
    absolute_paths(&mut config, folder);

    let entry = entry(&mut config, "clusters", "cluster", &cluster)?;
    let dropped = DROPPED.into_iter().filter(|key| entry.shift_remove(*key).is_some()).collect();
    for key in REPLACED {
        entry.shift_remove(key);
    }
    entry.insert("server".to_owned(), Value::String(gate.server.clone()));
    match &gate.authority {
        Authority::System => {}
        Authority::File(file) => {
            entry.insert("certificate-authority".to_owned(), Value::String(file.clone()));
        }
        Authority::Embedded(data) => {
            entry.insert("certificate-authority-data".to_owned(), Value::String(data.clone()));
        }
    }
    config.insert("current-context".to_owned(), Value::String(context));

    // One line a string, however long, and `yes` in quotes.
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false, yaml_12: false };
    let text = serde_saphyr::to_string_with_options(&config, options).context("cannot be written as YAML")?;
    Ok((text, dropped))
}

/// The mapping under `inner` of the element called `name` in the list `list`.
fn entry<'a>(
    config: &'a mut Map<String, Value>,
    list: &str,
    inner: &str,
    name: &str,
) -> Result<&'a mut Map<String, Value>, anyhow::Error> {
    config
        .get_mut(list)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .find(|element| element.get("name").and_then(Value::as_str) == Some(name))
        .with_context(|| format!("{list}: there is none called {name:?}"))?
        .get_mut(inner)
        .and_then(Value::as_object_mut)
        .with_context(|| format!("{list}: {name:?} has no {inner}"))
}

fn absolute_paths(config: &mut Map<String, Value>, folder: &Path) {
    const FILES: [(&str, &str, &[&str]); 2] = [
        ("clusters", "cluster", &["certificate-authority"]),
        ("users", "user", &["client-certificate", "client-key", "tokenFile"]),
    ];
    let join = |value: &mut Value| {
        if let Some(path) = value.as_str().filter(|path| !path.is_empty()) {
            *value = Value::String(folder.join(path).to_string_lossy().into_owned());
        }
    };
    for (list, inner, keys) in FILES {
        for element in config.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(inner) = element.get_mut(inner).and_then(Value::as_object_mut) else { continue };
            for key in keys {
                inner.get_mut(*key).into_iter().for_each(join);
            }
            // A plugin without a slash is looked for in $PATH.
            let plugin = inner.get_mut("exec").and_then(|exec| exec.get_mut("command"));
            plugin
                .filter(|command| command.as_str().is_some_and(|c| c.contains('/')))
                .into_iter()
                .for_each(join);
        }
    }
}

/// Writes beside the file, then renames, so that nobody ever reads half a kubeconfig or one that others may read.
fn write_private(to: &Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = to.file_name().ok_or(io::ErrorKind::IsADirectory)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = to.with_file_name(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&draft, to));
    if written.is_err() {
        // The error that counts is the one above.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: work
contexts:
- {name: work, context: {cluster: prod, user: alice, namespace: web}}
- {name: home, context: {cluster: kind, user: 'yes'}}
- {name: lost, context: {cluster: gone, user: alice}}
- {name: bare, context: {user: alice}}
clusters:
- name: prod
  cluster:
    server: https://10.0.0.1:6443
    certificate-authority-data: T0xE
    tls-server-name: prod
    insecure-skip-tls-verify: false
    disable-compression: true
- {name: kind, cluster: {server: 'https://127.0.0.1:1', certificate-authority: pki/ca.crt}}
users:
- {name: alice, user: {token: sesame, tokenFile: tokens/alice}}
- {name: 'yes', user: {client-certificate: /abs/me.crt, client-key: me.key, exec: {command: ./login, args: [a]}}}
- {name: carol, user: {exec: {command: aws}}}
";

    fn rewritten(context: Option<&str>, authority: Authority) -> Result<(Value, Vec<&'static str>), String> {
        let gate = Gate { server: "https://gate:6443".to_owned(), authority };
        let (text, dropped) =
            rewrite(CONFIG, context, &gate, Path::new("/home/u/.kube")).map_err(|e| format!("{e:#}"))?;
        Ok((yaml::object(&text).unwrap(), dropped))
    }

    #[test]
    fn the_current_contexts_cluster_leads_through_the_gate() {
        let (config, dropped) = rewritten(None, Authority::Embedded("TkVX".to_owned())).unwrap();
        assert_eq!(
            config["clusters"][0]["cluster"],
            serde_json::json!({
                "disable-compression": true, "server": "https://gate:6443", "certificate-authority-data": "TkVX",
            })
        );
        assert_eq!(dropped, ["insecure-skip-tls-verify", "tls-server-name"]);
        // All else is as it was, paths aside.
        assert_eq!(config["current-context"], "work");
        assert_eq!(config["contexts"][0]["context"]["namespace"], "web");
        assert_eq!(config["clusters"][1]["cluster"]["server"], "https://127.0.0.1:1");
        assert_eq!(config["clusters"][1]["cluster"]["certificate-authority"], "/home/u/.kube/pki/ca.crt");
        assert_eq!(config["users"][0]["user"]["token"], "sesame");
        assert_eq!(config["users"][0]["user"]["tokenFile"], "/home/u/.kube/tokens/alice");
        assert_eq!(config["users"][1]["name"], "yes");
        assert_eq!(config["users"][1]["user"]["client-certificate"], "/abs/me.crt");
        assert_eq!(config["users"][1]["user"]["client-key"], "/home/u/.kube/me.key");
        assert_eq!(config["users"][1]["user"]["exec"]["command"], "/home/u/.kube/./login");
        assert_eq!(config["users"][2]["user"]["exec"]["command"], "aws");
    }

    #[test]
    fn another_context_may_be_chosen() {
        let (config, dropped) =
            rewritten(Some("home"), Authority::File("/etc/gate/ca.crt".to_owned())).unwrap();
        assert_eq!(
            config["clusters"][1]["cluster"],
            serde_json::json!({"server": "https://gate:6443", "certificate-authority": "/etc/gate/ca.crt"})
        );
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority-data"], "T0xE");
        assert_eq!(config["current-context"], "home");
        assert!(dropped.is_empty());
        let (config, _) = rewritten(Some("home"), Authority::System).unwrap();
        assert_eq!(config["clusters"][1]["cluster"], serde_json::json!({"server": "https://gate:6443"}));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (context, message) in [
            ("nope", r#"contexts: there is none called "nope""#),
            ("lost", r#"clusters: there is none called "gone""#),
            ("bare", r#"contexts: "bare" names no cluster"#),
        ] {
            assert_eq!(rewritten(Some(context), Authority::System), Err(message.to_owned()));
        }
        let gate = Gate { server: String::new(), authority: Authority::System };
        for (text, message) in [
            ("kind: Config", "current-context is not set: choose one with --context"),
            ("kind: Pod", r#"kind: expected Config, not "Pod""#),
            ("current-context: a", r#"contexts: there is none called "a""#),
        ] {
            let error = rewrite(text, None, &gate, Path::new("/")).unwrap_err();
            assert_eq!(format!("{error:#}"), message);
        }
    }

    #[test]
    fn servers() {
        for (text, expected) in [
            ("https://gate:6443", Ok("https://gate:6443")),
            ("https://gate/", Ok("https://gate")),
            ("https://[::1]:6443", Ok("https://[::1]:6443")),
            ("http://gate", Err("expected an address that begins with https://")),
            ("gate:6443", Err("expected an address that begins with https://")),
            ("https://gate/k8s", Err("expected https://HOST[:PORT] and no path")),
            ("https://gate?a", Err("expected https://HOST[:PORT] and no path")),
        ] {
            assert_eq!(server(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }
}
