//! Tests of the local control plane: the features that other tests depend on.

#![expect(clippy::unwrap_used, reason = "a test says by panicking that it failed")]

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, PersistentVolume, Pod, Secret};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use paddock_cluster::{Cluster, HOLD_LABEL, Options, READY_AFTER_ANNOTATION, Signal, Spawn, eventually};
use serde_json::json;

use test_support::{client, folder_of, is_bound, ports_of, processes_of, ready, signal, supervisor_of};

mod test_external;
mod test_support;

#[tokio::test(flavor = "multi_thread")]
async fn two_clusters_at_once_each_bind_volumes_and_run_pods() {
    let began = Instant::now();
    let (one, two) = tokio::join!(
        Cluster::start(Options::default().with_isolation()),
        Cluster::start(Options { nodes: 2, priority_and_fairness: true, ..Options::default() })
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    println!("two clusters ready after {:?}", began.elapsed());
    assert_ne!(one.server_url(), two.server_url());

    let pod = |class: Option<&str>| {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "worker" },
            "spec": {
                "runtimeClassName": class,
                "containers": [{ "name": "main", "image": "busybox",
                    "volumeMounts": [{ "name": "home", "mountPath": "/home" }] }],
                "volumes": [{ "name": "home", "persistentVolumeClaim": { "claimName": "home" } }],
            },
        })
    };
    for (cluster, class) in [(&one, Some("gvisor")), (&two, None)] {
        for (name, storage_class) in [("home", None), ("early", Some("standard-immediate"))] {
            let claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": { "name": name },
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
                    "resources": { "requests": { "storage": "1Gi" } },
                },
            });
            cluster.kubectl().run(&["apply", "-f", "-"], Some(&claim.to_string())).await.unwrap();
        }
        cluster.kubectl().run(&["apply", "-f", "-"], Some(&pod(class).to_string())).await.unwrap();
        let pods: Api<Pod> = Api::default_namespaced(cluster.client());
        eventually("the pod is ready", async || ready(&pods.get("worker").await.unwrap())).await;
        let volumes: Api<PersistentVolume> = Api::all(cluster.client());
        let bound = async || volumes.list(&ListParams::default()).await.unwrap().items.iter().filter(is_bound).count();
        eventually("both claims are bound", async || bound().await == 2).await;
        // The reclaim policy of the class is Delete, so the volume is deleted with its claim.
        cluster.kubectl().run(&["delete", "pvc/early", "--wait=false"], None).await.unwrap();
        eventually("the volume is gone", async || bound().await == 1).await;
    }
    let refused = two.kubectl().run(&["apply", "-f", "-"], Some(&pod(Some("gvisor")).to_string())).await;
    assert!(refused.is_err(), "the second cluster has no RuntimeClasses");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_has_its_own_rights_only_and_the_audit_log_names_it() {
    let cluster = Cluster::start(Options { audit: true, nodes: 1, ..Options::default() }).await.unwrap();
    let kubectl = cluster.kubectl();
    for args in [
        &["create", "serviceaccount", "reader"][..],
        &["create", "role", "reader", "--verb=get,list", "--resource=configmaps"],
        &["create", "rolebinding", "reader", "--role=reader", "--serviceaccount=default:reader"],
        &["create", "clusterrolebinding", "team", "--clusterrole=view", "--group=readers"],
    ] {
        kubectl.run(args, None).await.unwrap();
    }
    let account = cluster.kubeconfig_for_service_account("default", "reader").await.unwrap();
    let user = cluster.kubeconfig_for_user("jane", &["readers"]).unwrap();
    let acting = cluster.kubeconfig_for_user("joe", &["others", "readers"]).unwrap();
    for kubeconfig in [&account, &user, &acting] {
        let client = client(kubeconfig).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        eventually("config maps can be listed", async || maps.list(&ListParams::default()).await.is_ok()).await;
        let secrets: Api<Secret> = Api::default_namespaced(client);
        let refused = secrets.list(&ListParams::default()).await.unwrap_err();
        assert!(matches!(refused, kube::Error::Api(status) if status.code == 403));
    }
    let audit = std::fs::read_to_string(cluster.audit_log()).unwrap();
    for name in ["system:serviceaccount:default:reader", "jane", "joe"] {
        let event = audit.lines().find(|line| line.contains(&format!("\"username\":\"{name}\""))).unwrap();
        let event: serde_json::Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["objectRef"]["resource"], "configmaps", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn components_can_be_paused_killed_and_started_again() {
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let make = async |name: &str| {
        let map = serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap();
        maps.create(&PostParams::default(), &map).await
    };
    make("before").await.unwrap();

    let api_server = cluster.process("kube-apiserver").unwrap();
    api_server.pause().await.unwrap();
    let late = tokio::time::timeout(Duration::from_secs(1), maps.get("before")).await;
    assert!(late.is_err(), "a paused API server answered: {late:?}");
    api_server.resume().await.unwrap();
    eventually("it answers again", async || maps.get("before").await.is_ok()).await;

    let etcd = cluster.process("etcd").unwrap();
    let (old, exit) = (etcd.pid(), etcd.kill().await.unwrap());
    assert_eq!((exit.signal, etcd.running()), (9, false));
    etcd.restart().await.unwrap();
    assert_ne!(etcd.pid(), old);
    eventually("what was stored is there", async || maps.get("before").await.is_ok()).await;

    api_server.restart().await.unwrap();
    cluster.wait_ready().await.unwrap();
    // The client may try a connection to the old process first.
    eventually("objects can be created", async || make("after").await.is_ok()).await;
    assert!(api_server.resident_bytes().unwrap() > 50 << 20);
    assert!(api_server.cpu().unwrap() > Duration::ZERO);

    let sleeper = cluster.spawn(Spawn::new("sleeper", "/bin/sh").args(["-c", "echo up; sleep 600"])).await.unwrap();
    eventually("its output is in its log", async || std::fs::read(sleeper.log()).unwrap() == b"up\n").await;
    sleeper.signal(Signal::Terminate).await.unwrap();
    assert_eq!(sleeper.wait().await.unwrap().signal, 15);
}

/// The owner ends in three ways. None of them may leave a process or the folder. KUBECONFIG points at a listener that
/// must not receive a connection.
#[tokio::test(flavor = "multi_thread")]
async fn no_process_outlives_its_owner_and_kubeconfig_is_not_read() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    other.set_nonblocking(true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let theirs = folder.path().join("config");
    let server = format!("http://{}", other.local_addr().unwrap());
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "prod",
        "clusters": [{ "name": "prod", "cluster": { "server": server } }],
        "users": [{ "name": "prod", "user": {} }],
        "contexts": [{ "name": "prod", "context": { "cluster": "prod", "user": "prod" } }],
    });
    std::fs::write(&theirs, config.to_string()).unwrap();

    // The supervisor has to end too, even if it is the process that is killed.
    for victim in ["SIGKILL of the owner", "Ctrl-C", "SIGKILL of the supervisor"] {
        let mut owner = Command::new(env!("CARGO_BIN_EXE_paddock-cluster"))
            .args(["up", "--foreground", "--nodes=1"])
            .env("KUBECONFIG", &theirs)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let dir = folder_of(&mut owner);
        let processes = processes_of(&dir);
        assert!(processes.len() >= 7, "{processes:?}");
        match victim {
            "Ctrl-C" => signal("INT", owner.id()),
            "SIGKILL of the owner" => owner.kill().unwrap(),
            _ => signal("KILL", supervisor_of(&dir)),
        }
        eventually(victim, async || processes_of(&dir).is_empty()).await;
        let _ = owner.kill();
        owner.wait().unwrap();
        if victim != "SIGKILL of the supervisor" {
            assert!(!dir.exists(), "{victim} left {}", dir.display());
        }
        let _ = std::fs::remove_dir_all(dir);
    }
    assert!(other.accept().is_err(), "somebody called the cluster of KUBECONFIG");
}

#[tokio::test(flavor = "multi_thread")]
async fn detached_cluster_runs_until_down() {
    let program = env!("CARGO_BIN_EXE_paddock-cluster");
    let mut owner = Command::new(program).args(["up", "--nodes=1"]).stdout(Stdio::piped()).spawn().unwrap();
    let dir = folder_of(&mut owner);
    assert!(owner.wait().unwrap().success());
    let namespaces: Api<Namespace> = Api::all(client(&dir.join("paddock.kubeconfig")).await);
    namespaces.get("default").await.unwrap();
    let ports = ports_of(&dir);
    assert!(ports.len() >= 5, "{ports:?}");

    let down = Command::new(program).arg("down").arg(&dir).output().unwrap();
    assert!(down.status.success(), "{down:?}");
    // Nothing is left when `down` has returned, not even for a moment.
    assert_eq!(processes_of(&dir), Vec::<u32>::new());
    assert!(!dir.exists());
    for port in ports {
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "port {port} is still in use");
    }
    let again = Command::new(program).arg("down").arg(&dir).output().unwrap();
    assert!(!again.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_decides_when_a_pod_becomes_ready() {
    let cluster = Cluster::start(Options { nodes: 1, ..Options::default() }).await.unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client());
    let make = async |name: &str, metadata: serde_json::Value| {
        let pod = json!({
            "metadata": metadata, "spec": { "containers": [{ "name": "main", "image": "busybox" }] },
        });
        let mut pod: Pod = serde_json::from_value(pod).unwrap();
        pod.metadata.name = Some(name.to_owned());
        pods.create(&PostParams::default(), &pod).await.unwrap();
    };
    let is_ready = async |name: &str| ready(&pods.get(name).await.unwrap());
    make("held", json!({ "labels": { HOLD_LABEL: "true" } })).await;
    // The time starts before the creation, because the reply may be late.
    let began = Instant::now();
    make("slow", json!({ "annotations": { READY_AFTER_ANNOTATION: "2s" } })).await;
    make("plain", json!({})).await;
    eventually("a plain pod is ready", async || is_ready("plain").await).await;
    eventually("a slow pod is ready", async || is_ready("slow").await).await;
    assert!(began.elapsed() > Duration::from_millis(1500), "ready before its time");
    assert!(!is_ready("held").await, "ready while held");
    let release = Patch::Merge(json!({ "metadata": { "labels": { HOLD_LABEL: null } } }));
    pods.patch("held", &PatchParams::default(), &release).await.unwrap();
    eventually("a released pod is ready", async || is_ready("held").await).await;
}
