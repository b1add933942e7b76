//! The manifests under `deploy/` and the Dockerfile: parsed, held to the restricted profile, and held to agree with each other.

use crate::scene::Folder;
use gatelog::{
    audit::tree::note::SigningKey,
    cluster::{Findings, Needs, Rights},
    codec::yaml,
    config,
    rbac::{Objects, read},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const FOLDERS: [&str; 3] = ["kustomize", "sidecar", "webhook"];

/// A kustomization and those it builds upon.
fn layers(folder: &'static str) -> Vec<&'static str> {
    if folder == "webhook" { vec![folder, "kustomize"] } else { vec![folder] }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The objects of all manifests right in `deploy/<folder>`, with the file they are from.
fn objects(folder: &str) -> Vec<(String, Value)> {
    let mut objects = Vec::new();
    let dir = root().join("deploy").join(folder);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let name = format!("{folder}/{}", path.file_name().unwrap().to_str().unwrap());
            let documents = yaml::documents(&text(&path)).unwrap_or_else(|error| panic!("{name}: {error}"));
            objects.extend(documents.into_iter().map(|d| (name.clone(), d.value)));
        }
    }
    assert!(objects.len() > 2, "{}", dir.display());
    objects
}

fn kind<'a>(objects: &'a [(String, Value)], kind: &str) -> Vec<&'a Value> {
    objects.iter().map(|(_, object)| object).filter(|object| object["kind"] == kind).collect()
}

fn the<'a>(objects: &'a [(String, Value)], which: &str) -> &'a Value {
    match kind(objects, which)[..] {
        [one] => one,
        ref several => panic!("{} of {which}", several.len()),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn strings(value: &Value) -> Vec<&str> {
    list(value).iter().map(|v| v.as_str().unwrap()).collect()
}

/// The pod, or the pod of the template.
fn pod(folder: &str) -> Value {
    let objects = objects(folder);
    let which = ["Pod", "StatefulSet", "Deployment"].into_iter().find(|k| !kind(&objects, k).is_empty());
    match which.unwrap() {
        "Pod" => the(&objects, "Pod").clone(),
        set => the(&objects, set)["spec"]["template"].clone(),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    list(&pod["spec"]["initContainers"]).iter().chain(list(&pod["spec"]["containers"]))
}

fn gate(pod: &Value) -> &Value {
    containers(pod).find(|c| c["name"] == "gatelog").unwrap()
}

/// The gate's configuration that the kustomization of `folder` packs.
fn raw_config(folder: &str) -> Value {
    let path = root().join("deploy").join(folder).join("config/gatelog.yaml");
    yaml::object(&text(&path)).unwrap_or_else(|error| panic!("{folder}: {error}"))
}

/// Every string in a value.
fn leaves<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(s) => into.push(s),
        Value::Array(items) => items.iter().for_each(|v| leaves(v, into)),
        Value::Object(members) => members.values().for_each(|v| leaves(v, into)),
        _ => {}
    }
}

#[test]
fn every_manifest_is_an_object() {
    for folder in FOLDERS {
        for (file, object) in objects(folder) {
            assert!(object["apiVersion"].is_string() && object["kind"].is_string(), "{file}");
            assert!(object["kind"] == "Kustomization" || object["metadata"]["name"].is_string(), "{file}");
        }
    }
}

#[test]
fn kustomizations_name_every_manifest_and_no_other() {
    for folder in FOLDERS {
        let objects = objects(folder);
        let mut named: BTreeSet<String> =
            strings(&the(&objects, "Kustomization")["resources"]).into_iter().map(str::to_owned).collect();
        named.retain(|resource| !resource.starts_with("../"));
        named.insert("kustomization.yaml".to_owned());
        let there: BTreeSet<String> = objects
            .iter()
            .map(|(file, _)| file.split_once('/').unwrap().1.to_owned())
            .filter(|file| !file.contains(".example."))
            .collect();
        assert_eq!(named, there, "{folder}");
    }
}

/// Pod Security Standards, "restricted", and a little more: a read-only root, no token by default, bounded memory.
#[test]
fn pods_are_restricted() {
    for folder in FOLDERS {
        let pod = pod(folder);
        let spec = &pod["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false, "{folder}");
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{folder}");
        assert!(spec["securityContext"]["runAsUser"].as_u64().is_some_and(|id| id > 0), "{folder}");
        assert_eq!(spec["securityContext"]["seccompProfile"], json!({"type": "RuntimeDefault"}), "{folder}");
        for shared in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[shared].is_null(), "{folder}: {shared}");
        }
        for volume in list(&spec["volumes"]) {
            let mut kinds = volume.as_object().unwrap().keys().filter(|k| *k != "name");
            assert!(
                kinds.all(|k| ["configMap", "secret", "projected", "emptyDir"].contains(&k.as_str())),
                "{folder}: {volume}"
            );
        }
        for container in containers(&pod) {
            let name = format!("{folder}: {}", container["name"]);
            let context = &container["securityContext"];
            assert_eq!(
                *context,
                json!({
                    "allowPrivilegeEscalation": false,
                    "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]},
                }),
                "{name}"
            );
            for needed in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(container["resources"].pointer(needed).is_some(), "{name}: {needed}");
            }
            assert!(list(&container["ports"]).iter().all(|port| port["hostPort"].is_null()), "{name}");
        }
    }
    let namespace = objects("kustomize");
    let labels = &the(&namespace, "Namespace")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
}

/// What the gate's account may do, to the letter: act for others, and only with the extra keys that are listed.
#[test]
fn the_gate_may_impersonate_and_nothing_else() {
    let objects = objects("kustomize");
    let rules = &the(&objects, "ClusterRole")["rules"];
    assert_eq!(
        *rules,
        json!([
            {"apiGroups": [""], "resources": ["users", "groups", "serviceaccounts"], "verbs": ["impersonate"]},
            {
                "apiGroups": ["authentication.k8s.io"],
                "resources": ["uids", "userextras/authentication.kubernetes.io/credential-id"],
                "verbs": ["impersonate"],
            },
        ])
    );
    assert!(kind(&objects, "Role").is_empty() && kind(&objects, "RoleBinding").is_empty());
    let binding = the(&objects, "ClusterRoleBinding");
    let account = the(&objects, "ServiceAccount");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "gatelog"}])
    );
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(pod("kustomize")["spec"]["serviceAccountName"], account["metadata"]["name"]);
}

/// What is commented out in the gate's role is rules as well, and nothing but what an authenticator or the cluster's rules need.
#[test]
fn what_the_gate_may_do_besides_is_there_to_be_uncommented() {
    let path = root().join("deploy/kustomize/clusterrole.yaml");
    let uncommented: Vec<String> = text(&path)
        .lines()
        .map(|line| match line.split_once("# ") {
            Some((indent, rest)) if rest.starts_with("- ") || rest.starts_with("  ") => {
                format!("{indent}{rest}")
            }
            _ => line.to_owned(),
        })
        .collect();
    let role = yaml::documents(&uncommented.join("\n")).unwrap().remove(0).value;
    let extra = ["credential-id", "node-name", "node-uid", "pod-name", "pod-uid"]
        .map(|key| format!("userextras/authentication.kubernetes.io/{key}"));
    let resources: Vec<&str> = std::iter::once("uids").chain(extra.iter().map(String::as_str)).collect();
    assert_eq!(
        role["rules"],
        json!([
            {"apiGroups": [""], "resources": ["users", "groups", "serviceaccounts"], "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": resources, "verbs": ["impersonate"]},
            {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]},
            {
                "apiGroups": ["rbac.authorization.k8s.io"],
                "resources": ["roles", "clusterroles", "rolebindings", "clusterrolebindings"],
                "verbs": ["get", "list", "watch"],
            },
            {"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]},
        ])
    );
}

/// In a sidecar the gate acts for one application only.
#[test]
fn the_sidecar_may_impersonate_the_application_and_nothing_else() {
    let objects = objects("sidecar");
    let account = pod("sidecar")["spec"]["serviceAccountName"].clone();
    let mut allowed = BTreeMap::new();
    for (binding, role) in [("RoleBinding", "Role"), ("ClusterRoleBinding", "ClusterRole")] {
        for binding in kind(&objects, binding) {
            if !list(&binding["subjects"]).iter().any(|subject| subject["name"] == account) {
                continue;
            }
            let role = kind(&objects, role)
                .into_iter()
                .find(|role| role["metadata"]["name"] == binding["roleRef"]["name"])
                .unwrap();
            for rule in list(&role["rules"]) {
                assert_eq!(strings(&rule["verbs"]), ["impersonate"]);
                for resource in strings(&rule["resources"]) {
                    allowed.insert(resource.to_owned(), rule["resourceNames"].clone());
                }
            }
        }
    }
    let expected = [
        (
            "groups",
            json!(["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:default"]),
        ),
        ("serviceaccounts", json!(["app"])),
    ];
    assert_eq!(allowed, expected.map(|(k, v)| (k.to_owned(), v)).into());

    // The token file, the rules and the account upstream mean the same caller.
    let secret = the(&objects, "Secret");
    let data = &secret["stringData"];
    let token = data["token"].as_str().unwrap();
    assert_eq!(
        data["tokens.csv"].as_str().unwrap().trim(),
        format!(
            "{token},system:serviceaccount:default:app,,\"system:serviceaccounts,system:serviceaccounts:default\""
        )
    );
}

#[test]
fn ports_agree() {
    for folder in FOLDERS {
        let (pod, config) = (pod(folder), raw_config(folder));
        let gate = gate(&pod);
        let port = |address: &Value| -> u64 {
            address.as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
        };
        let (door, admin) = (port(&config["listen"]["address"]), port(&config["admin"]["address"]));
        let named: BTreeMap<&str, u64> = list(&gate["ports"])
            .iter()
            .map(|p| (p["name"].as_str().unwrap(), p["containerPort"].as_u64().unwrap()))
            .collect();
        assert_eq!(named["admin"], admin, "{folder}");
        for probe in ["startupProbe", "livenessProbe"] {
            assert_eq!(gate[probe]["httpGet"]["port"], "admin", "{folder}: {probe}");
        }
        match folder {
            "kustomize" | "webhook" => assert_eq!(named["https"], door),
            _ => {
                let app = containers(&pod).find(|c| c["name"] == "app").unwrap();
                let env: BTreeMap<&str, &str> = list(&app["env"])
                    .iter()
                    .map(|e| (e["name"].as_str().unwrap(), e["value"].as_str().unwrap()))
                    .collect();
                assert_eq!(env["KUBERNETES_SERVICE_HOST"], "localhost");
                assert_eq!(env["KUBERNETES_SERVICE_PORT"], door.to_string());
                let address = config["listen"]["address"].as_str().unwrap();
                assert!(address.starts_with("127.0.0.1:"), "the sidecar's door is open to other pods");
            }
        }
        let dockerfile = text(&root().join("Dockerfile"));
        assert!(dockerfile.contains(&format!("\nEXPOSE {door} {admin}\n")), "{folder}");
    }

    let objects = objects("kustomize");
    let names: BTreeSet<&str> = ["https", "admin"].into();
    let service = the(&objects, "Service");
    let targets: BTreeSet<&str> =
        list(&service["spec"]["ports"]).iter().map(|p| p["targetPort"].as_str().unwrap()).collect();
    assert_eq!(targets, names);
    let policy = the(&objects, "NetworkPolicy");
    let open: BTreeSet<&str> = list(&policy["spec"]["ingress"])
        .iter()
        .flat_map(|rule| list(&rule["ports"]))
        .map(|p| p["port"].as_str().unwrap())
        .collect();
    assert_eq!(open, names);
    assert_eq!(strings(&policy["spec"]["policyTypes"]), ["Ingress", "Egress"]);
}

#[test]
fn selectors_agree() {
    let objects = objects("kustomize");
    let labels = &pod("kustomize")["metadata"]["labels"];
    assert_eq!(pod("webhook")["metadata"]["labels"], *labels);
    let set = the(&objects, "StatefulSet");
    assert_eq!(set["spec"]["selector"]["matchLabels"], *labels);
    let other = self::objects("webhook");
    assert_eq!(the(&other, "Deployment")["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(set["spec"]["serviceName"], the(&objects, "Service")["metadata"]["name"]);
    assert_eq!(the(&objects, "Service")["spec"]["selector"], *labels);
    assert_eq!(the(&objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(the(&objects, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"], *labels);
}

/// Each absolute path in the configuration is in a volume that holds it, and what is written to is a volume that may be.
#[test]
fn paths_are_mounted() {
    for folder in FOLDERS {
        let (pod, config) = (pod(folder), raw_config(folder));
        let layers: Vec<_> = layers(folder).into_iter().map(|layer| (layer, objects(layer))).collect();
        // What each volume holds; None when anything may be written there.
        let mut volumes: BTreeMap<&str, Option<BTreeSet<String>>> = BTreeMap::new();
        let generated = |name: &Value| -> BTreeSet<String> {
            // The topmost of that name replaces the others.
            let generator = layers.iter().find_map(|(layer, objects)| {
                let generators = list(&the(objects, "Kustomization")["configMapGenerator"]);
                Some((*layer, generators.iter().find(|g| g["name"] == *name)?))
            });
            let (layer, generator) = generator.unwrap_or_else(|| panic!("{folder}: {name}"));
            strings(&generator["files"])
                .into_iter()
                .map(|file| {
                    assert!(root().join("deploy").join(layer).join(file).is_file(), "{layer}: {file}");
                    file.rsplit('/').next().unwrap().to_owned()
                })
                .collect()
        };
        let secret = |name: &Value| -> BTreeSet<String> {
            let mut secrets = layers.iter().flat_map(|(_, objects)| kind(objects, "Secret"));
            let secret = secrets.find(|s| s["metadata"]["name"] == *name);
            secret.unwrap()["stringData"].as_object().unwrap().keys().cloned().collect()
        };
        for volume in list(&pod["spec"]["volumes"]) {
            let holds = if !volume["configMap"].is_null() {
                Some(generated(&volume["configMap"]["name"]))
            } else if !volume["secret"].is_null() {
                Some(secret(&volume["secret"]["secretName"]))
            } else if !volume["projected"].is_null() {
                Some(["token", "ca.crt", "namespace"].map(str::to_owned).into())
            } else {
                None
            };
            volumes.insert(volume["name"].as_str().unwrap(), holds);
        }
        if let [set] = kind(&layers[0].1, "StatefulSet")[..] {
            for claim in list(&set["spec"]["volumeClaimTemplates"]) {
                volumes.insert(claim["metadata"]["name"].as_str().unwrap(), None);
            }
        }
        let mut paths = Vec::new();
        leaves(&config, &mut paths);
        paths.retain(|path| path.starts_with('/'));
        assert!(paths.len() >= 4, "{folder}: {paths:?}");
        for path in paths {
            let (mount, rest) = list(&gate(&pod)["volumeMounts"])
                .iter()
                .find_map(|m| {
                    let rest = path.strip_prefix(m["mountPath"].as_str().unwrap())?;
                    (rest.is_empty() || rest.starts_with('/')).then(|| (m, rest.trim_start_matches('/')))
                })
                .unwrap_or_else(|| panic!("{folder}: {path} is mounted nowhere"));
            match &volumes[mount["name"].as_str().unwrap()] {
                Some(files) => {
                    assert!(
                        rest.is_empty() || files.contains(rest),
                        "{folder}: {path} is not among {files:?}"
                    );
                    assert_eq!(mount["readOnly"], true, "{folder}: {path}");
                }
                None => assert_ne!(mount["readOnly"], true, "{folder}: {path}"),
            }
        }
    }
}

/// Each configuration is one the gate takes, and what it drains in is time that the pod is given.
#[test]
fn configurations_are_the_programs_own() {
    let folder = Folder::new("deploy");
    folder.put("audit.key", SigningKey::generate("x").unwrap().to_pem().unwrap().as_str());
    let key = folder.0.join("audit.key");
    for folder in FOLDERS {
        let path = root().join("deploy").join(folder).join("config/gatelog.yaml");
        // The key is looked at before all else.
        let text = text(&path).replace("/etc/gatelog-audit/audit.key", key.to_str().unwrap());
        let config = config::parse(&path, &text).unwrap_or_else(|errors| panic!("{errors}"));
        assert!(config.authn.anonymous.is_none_or(|anonymous| !anonymous.enabled), "{folder}");
        let pod = pod(folder);
        let given = pod["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        let drain = config.server.shutdown_delay + config.server.shutdown_grace;
        assert!(given >= drain.as_secs() + 10, "{folder}: {drain:?} of {given} s");
        // The record leaves room on its volume.
        let volume = match folder {
            "kustomize" => {
                the(&objects(folder), "StatefulSet")["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]
                    ["storage"]
                    .clone()
            }
            _ => list(&pod["spec"]["volumes"]).iter().find(|v| v["name"] == "record").unwrap()["emptyDir"]["sizeLimit"]
                .clone(),
        };
        let volume: u64 = volume.as_str().unwrap().strip_suffix("Gi").unwrap().parse().unwrap();
        // One whose volume goes with the pod has another place for the record.
        assert_eq!(config.audit.sinks.is_empty(), folder == "kustomize", "{folder}");
        let kept = config.audit.max_total_size.unwrap() + 2 * config.audit.max_size;
        assert!(kept < volume << 30, "{folder}: {kept} of {volume} Gi");
    }
}

#[test]
fn arguments_are_the_programs_own() {
    let help = Command::new(env!("CARGO_BIN_EXE_gatelog")).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for folder in FOLDERS {
        let pod = pod(folder);
        let args = strings(&gate(&pod)["args"]);
        assert_eq!(args.first(), Some(&"serve"), "{folder}");
        for flag in args.iter().filter(|arg| arg.starts_with("--")) {
            assert!(help.contains(&format!("{flag} <")), "{folder}: {flag} is not in\n{help}");
        }
    }
}

#[test]
fn rules_are_rules() {
    for file in ["kustomize/config/rbac/developers.yaml", "sidecar/config/rbac.yaml"] {
        let (mut objects, mut problems) = (Objects::default(), Vec::new());
        read(file, &text(&root().join("deploy").join(file)), &mut objects, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        assert!(!objects.bindings.is_empty(), "{file}");
    }
}

#[test]
fn the_image_is_small_and_not_root() {
    let dockerfile = text(&root().join("Dockerfile"));
    for line in ["USER 65532:65532", "FROM gcr.io/distroless/cc-debian12:nonroot"] {
        assert!(dockerfile.lines().any(|l| l == line), "{line}");
    }
    assert!(dockerfile.contains("--no-default-features"), "the demo stays out");
    let pod = pod("kustomize");
    assert_eq!(pod["spec"]["securityContext"]["runAsUser"], 65532);
}

/// The two shapes of the gate on its own are the same pod, but for where the record is.
#[test]
fn both_shapes_differ_in_the_record_only() {
    let without = |folder: &str| {
        let mut pod = pod(folder);
        let spec = pod["spec"].as_object_mut().unwrap();
        let other = |v: &Value| v["name"] != "record" && v["name"] != "webhook";
        let keep = |list: &mut Value| list.as_array_mut().unwrap().retain(other);
        keep(&mut spec["volumes"]);
        keep(&mut spec["containers"][0]["volumeMounts"]);
        pod
    };
    assert_eq!(without("kustomize"), without("webhook"));
    let (mut a, mut b) = (raw_config("kustomize"), raw_config("webhook"));
    assert_eq!(a["audit"]["signing"], b["audit"]["signing"]);
    a["audit"].take();
    b["audit"].take();
    assert_eq!(a, b);
}

#[test]
fn kustomize_builds() {
    for folder in FOLDERS {
        let dir = root().join("deploy").join(folder);
        match Command::new("kubectl").arg("kustomize").arg(&dir).output() {
            Ok(output) => {
                let (built, error) =
                    (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                assert!(output.status.success(), "{folder}: {error}");
                let built = yaml::documents(&built).unwrap();
                // What is generated is named after its contents, wherever it is named.
                let maps: BTreeSet<&str> = built
                    .iter()
                    .filter(|d| d.value["kind"] == "ConfigMap")
                    .map(|d| d.value["metadata"]["name"].as_str().unwrap())
                    .collect();
                let pod = built
                    .iter()
                    .find_map(|d| match d.value["kind"].as_str() {
                        Some("Pod") => Some(&d.value["spec"]),
                        Some("StatefulSet" | "Deployment") => Some(&d.value["spec"]["template"]["spec"]),
                        _ => None,
                    })
                    .unwrap();
                let mounted: BTreeSet<&str> =
                    list(&pod["volumes"]).iter().filter_map(|v| v["configMap"]["name"].as_str()).collect();
                assert_eq!(mounted, maps, "{folder}");
            }
            Err(error) if std::env::var_os("GATELOG_REQUIRE_KUBECTL").is_none() => {
                eprintln!("skipped: no kubectl ({error})");
            }
            Err(error) => panic!("kubectl: {error}"),
        }
    }
}

/// What the gate finds when it checks its own account at start: nothing, with the rights that the manifests give it.
#[test]
fn the_gates_account_holds_nothing_that_it_does_not_need() {
    let shipped = text(&root().join("deploy/kustomize/clusterrole.yaml"));
    // With every line that is there to be uncommented.
    let uncommented: Vec<String> = shipped
        .lines()
        .map(|line| match line.split_once("# ") {
            Some((indent, rest)) if rest.starts_with("- ") || rest.starts_with("  ") => {
                format!("{indent}{rest}")
            }
            _ => line.to_owned(),
        })
        .collect();
    let full =
        Needs { rules: uncommented.iter().any(|line| line.contains("rolebindings")), token_reviews: true };
    for (manifest, needs) in [(shipped, Needs::default()), (uncommented.join("\n"), full)] {
        let (mut objects, mut problems) = (Objects::default(), Vec::new());
        read("clusterrole.yaml", &manifest, &mut objects, &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let rules: Vec<_> = objects.roles[0].rules.iter().map(|rule| (**rule).clone()).collect();
        let rights = Rights { namespaces: [("default".to_owned(), rules)].into(), ..Rights::default() };
        assert_eq!(rights.against(needs), Findings::default(), "{needs:?}");
    }
}
