//! Connections between this machine, pods, Services and the API server, and the runtime API of the agent's image.

use paddock_cluster::{AGENT_IMAGE, Agent, eventually, eventually_some};
use serde_json::{Value, json};

use super::super::json::{ready, text};
use super::super::kinds::{POD, SERVICE};
use super::super::manifests::object;
use super::super::namespace::TestNamespace;
use super::namespace;
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![pods_services_and_the_api_server_reach_each_other, agent_answers_as_the_sdks_expect]
}

/// A Ready pod of the agent's image under a class.
async fn agent_pod(ns: &TestNamespace, class: &str) -> Value {
    let spec = json!({
        "runtimeClassName": class,
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "agent",
            "image": AGENT_IMAGE,
            "readinessProbe": { "httpGet": { "port": 8888 }, "periodSeconds": 1 },
        }],
    });
    let mut pod = object(POD, class, spec);
    pod["metadata"]["labels"] = json!({ "class": class });
    ns.create(pod).await;
    ns.until(POD, class, "Ready", ready).await
}

async fn pods_services_and_the_api_server_reach_each_other() {
    let ns = namespace("network").await;
    for class in ["runc", "gvisor"] {
        let spec = json!({ "selector": { "class": class }, "ports": [{ "port": 8888 }] });
        ns.create(object(SERVICE, class, spec)).await;
    }
    let mut agents = Vec::new();
    for class in ["runc", "gvisor"] {
        let pod = agent_pod(&ns, class).await;
        let service = ns.get(SERVICE, class).await;
        // From this machine, to the pod and to its Service.
        let agent = Agent::new(text(&pod, "/status/podIP"));
        assert!(agent.is_active().await, "the pod under {class}");
        let through_service = Agent::new(text(&service, "/spec/clusterIP"));
        eventually("the Service answers", async || through_service.is_active().await).await;
        agents.push(agent);
    }
    // From each pod, to the other one by the name of its Service, and to the API server by its name.
    for (agent, other) in [(&agents[0], "gvisor"), (&agents[1], "runc")] {
        let urls = [
            format!("http://{other}.{}.svc.cluster.local:8888/", ns.namespace),
            format!("http://{other}:8888/"),
            "https://kubernetes.default/version".to_owned(),
        ];
        for url in urls {
            let script = format!(
                "import ssl, urllib.request as r; \
                 print(r.urlopen('{url}', timeout=5, context=ssl._create_unverified_context()).status)"
            );
            eventually_some("the pod gets an answer", async || {
                let done = agent.execute(&format!("python3 -c \"{script}\"")).await.map_err(|e| e.to_string())?;
                if done.stdout.trim() == "200" { Ok(()) } else { Err(format!("{url}: {done:?}")) }
            })
            .await;
        }
    }
}

async fn agent_answers_as_the_sdks_expect() {
    let ns = namespace("runtime").await;
    let pod = agent_pod(&ns, "runc").await;
    let agent = Agent::new(text(&pod, "/status/podIP"));
    agent.upload("a folder/one.txt", "1").await.expect("a file in a new folder");
    assert_eq!(agent.download("a%20folder/one.txt").await.expect("the file"), "1");

    let listed = agent.get("/list/a%20folder").await.expect("a list");
    let files: Value = serde_json::from_str(&listed.1).expect("JSON");
    assert_eq!(
        (&files[0]["name"], &files[0]["size"], &files[0]["type"]),
        (&json!("one.txt"), &json!(1), &json!("file"))
    );
    assert!(files[0]["mod_time"].is_number() && files.as_array().is_some_and(|files| files.len() == 1), "{files}");
    for all in ["/list", "/list/"] {
        assert!(agent.get(all).await.expect("a list").1.contains("\"directory\""), "{all}");
    }
    for (path, exists) in [("a%20folder%2Fone.txt", true), ("nothing", false)] {
        let (status, body) = agent.get(&format!("/exists/{path}")).await.expect("an answer");
        let answer: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((status, &answer["exists"]), (200, &json!(exists)), "{path}");
    }
    // No path leads out of the folder, and a command has no shell.
    for (path, status) in
        [("/download/..%2F..%2Fetc%2Fpasswd", 403), ("/download/nothing", 404), ("/list/nothing", 404), ("/x", 404)]
    {
        assert_eq!(agent.get(path).await.expect("an answer").0, status, "{path}");
    }
    for (command, code, out) in [("echo $HOME && false", 0, "$HOME && false\n"), ("no-such-program", 1, "")] {
        let done = agent.execute(command).await.expect("an answer");
        assert_eq!((done.exit_code, done.stdout.as_str()), (code, out), "{command}: {done:?}");
    }
    for (path, kind) in [("/execute", "application/json"), ("/upload", "multipart/form-data; boundary=x")] {
        assert_eq!(agent.post(path, kind, "{}").await.expect("an answer").0, 422, "{path}");
    }
}
