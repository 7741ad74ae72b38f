//! The gateway's manifests: each right is limited, and each field of a Sandbox is protected.

use std::collections::BTreeSet;

use super::*;

fn texts(value: &Value) -> String {
    value.to_string()
}

#[test]
fn gateway_may_watch_and_wake_and_ask_and_nothing_else() {
    for served in [None, Some("team".to_owned())] {
        let settings = Settings { served_namespace: served.clone(), ..Settings::default() };
        let mut granted = BTreeSet::new();
        for role in rights(&settings).iter().filter(|d| d["rules"].is_array()) {
            assert!(!texts(role).contains('*'), "{role}");
            for rule in role["rules"].as_array().unwrap() {
                let names = rule["resourceNames"].as_array().map(|names| format!(" {}", json!(names)));
                let names = names.unwrap_or_default();
                for (verb, resource) in
                    rule["verbs"].as_array().unwrap().iter().flat_map(|verb| {
                        rule["resources"].as_array().unwrap().iter().map(move |resource| (verb, resource))
                    })
                {
                    let (resource, verb) = (resource.as_str().unwrap(), verb.as_str().unwrap());
                    granted.insert(format!("{}: {verb} {resource}{names}", role["metadata"]["namespace"]));
                }
            }
        }
        let policy = if served.is_some() { "sandbox-router-sandboxes.team" } else { "sandbox-router-sandboxes" };
        let of = served.map_or("null".to_owned(), |served| format!("{served:?}"));
        let expected = [
            format!("{of}: list pods"),
            format!("{of}: list sandboxes"),
            format!("{of}: patch sandboxes"),
            format!("{of}: watch pods"),
            format!("{of}: watch sandboxes"),
            "null: create subjectaccessreviews".to_owned(),
            "null: create tokenreviews".to_owned(),
            format!("null: get validatingadmissionpolicies [{policy:?}]"),
            format!("null: get validatingadmissionpolicybindings [{policy:?}]"),
        ];
        assert_eq!(granted, BTreeSet::from(expected));
    }
}

#[test]
fn policy_protects_every_field_of_a_sandbox_but_its_mode() {
    let documents = policy(&Settings::default(), &Settings::default().user_of(NAME));
    let validations = texts(&documents[0]["spec"]["validations"]);
    let fields = &*SPEC_FIELDS;
    assert!(fields.len() >= 11, "{fields:?}");
    for field in fields {
        let protected = validations.contains(&format!("object.spec.?{field} == oldObject.spec.?{field} &&"))
            || validations.contains(&format!("&& object.spec.?{field} == oldObject.spec.?{field}\""));
        assert!(protected || MODE_FIELDS.contains(&field.as_str()), "{field}: {validations}");
    }
    let conditions = texts(&documents[0]["spec"]["matchConditions"]);
    assert!(conditions.contains("system:serviceaccount:agent-sandbox-system:sandbox-router"), "{conditions}");
}

#[test]
fn anonymous_clients_are_admitted_only_in_the_shape_of_upstream_alone() {
    for shapes in ApiShapes::ALL {
        let args = arguments(&Settings { shapes, ..Settings::default() });
        let anonymous = args.iter().any(|arg| arg.starts_with("--allow-unauthenticated"));
        assert_eq!(anonymous, shapes == ApiShapes::Only(ApiShape::Upstream), "{args:?}");
    }
}

#[test]
fn network_policies_name_the_ports_of_the_container_and_the_selector_of_the_service() {
    let settings = Settings::default();
    let ports = pod(&settings)["containers"][0]["ports"].clone();
    let numbers: BTreeSet<i64> =
        ports.as_array().unwrap().iter().map(|p| p["containerPort"].as_i64().unwrap()).collect();
    let mut admitted = BTreeSet::new();
    let mut ranges = Vec::new();
    for policy in network_policies(&settings) {
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"], service(&settings)["spec"]["selector"]);
        for rule in policy["spec"]["ingress"].as_array().unwrap() {
            for port in rule["ports"].as_array().unwrap() {
                match port["endPort"].as_i64() {
                    Some(last) => ranges.push(format!("{}-{last}", port["port"])),
                    None => drop(admitted.insert(port["port"].as_i64().unwrap())),
                }
            }
        }
    }
    assert_eq!(admitted, numbers);
    // The default of the flag, which the arguments do not change.
    assert_eq!(ranges, [PortRange::DEFAULT.to_string()]);
}

#[test]
fn pods_of_sandboxes_do_not_reach_the_proxy() {
    let settings = Settings::default();
    let policies = network_policies(&settings);
    let rules = policies[0]["spec"]["ingress"].as_array().unwrap();
    let proxy = rules.iter().find(|rule| rule["ports"][0]["port"] == PROXY_PORT).unwrap();
    let selector = json!([{ "key": label::SANDBOX_NAME_HASH, "operator": "DoesNotExist" }]);
    for from in proxy["from"].as_array().unwrap() {
        let of_pods = from["podSelector"]["matchExpressions"] == selector;
        assert!(of_pods || from["ipBlock"]["except"].as_array().is_some_and(|except| !except.is_empty()), "{from}");
    }
    assert_eq!(proxy["from"].as_array().unwrap().len(), 3);
}

/// The operator asks every gateway for its open connections, and nobody else gets the right and the token.
#[test]
fn operator_reaches_every_gateway_if_there_are_gateways() {
    for (gateway, served) in [(true, None), (false, None), (true, Some("team")), (false, Some("team"))] {
        let served_namespace = served.map(str::to_owned);
        let settings = Settings { gateway, served_namespace, ..Settings::default() };
        let documents: Vec<Value> =
            crate::manifests::files(&settings).into_iter().flat_map(|(_, documents)| documents).collect();
        let is_operator =
            |d: &&Value| d["kind"] == "Deployment" && d["metadata"]["name"] == object::OPERATOR_DEPLOYMENT;
        let pod = &documents.iter().find(is_operator).unwrap()["spec"]["template"]["spec"];
        let env = pod["containers"][0]["env"].as_array().unwrap();
        let variable = |name: &str| env.iter().find(|v| v["name"] == name).map(|v| v["value"].as_str().unwrap());
        let service = format!("{}/{}", settings.namespace, object::GATEWAY_METRICS_SERVICE);
        assert_eq!(variable("PADDOCK_CONNECTIONS_SERVICE"), gateway.then_some(service.as_str()));
        // The file of the flag is in the volume with the token for the gateways.
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "connections-token");
        let file = mount.map(|mount| format!("{}/token", mount["mountPath"].as_str().unwrap()));
        assert_eq!(file.is_some(), gateway);
        assert_eq!(variable("PADDOCK_CONNECTIONS_TOKEN_FILE"), file.as_deref());
        assert_eq!(texts(&pod["volumes"]).contains(paddock_api::open_connections::AUDIENCE), gateway);
        let path = format!("{:?}", paddock_api::open_connections::PATH);
        let roles: Vec<&Value> = documents.iter().filter(|document| texts(document).contains(&path)).collect();
        assert!(roles.len() == usize::from(gateway) && roles.iter().all(|role| role["kind"] == "ClusterRole"));
        // An operator for another namespace sees only the EndpointSlices of that namespace otherwise.
        let lists = json!({ "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"] });
        let in_own =
            documents.iter().filter(|d| d["kind"] == "Role" && d["metadata"]["namespace"] == settings.namespace);
        let granted = in_own.filter(|role| role["rules"].as_array().unwrap().contains(&lists)).count();
        assert_eq!(granted, usize::from(gateway && served.is_some()));
    }
    let settings = Settings::default();
    let policies = network_policies(&settings);
    let [_, metrics] = &policies[..] else { panic!("other policies") };
    let rule = &metrics["spec"]["ingress"][0];
    assert_eq!(rule["from"][1], json!({ "podSelector": { "matchLabels": workload::selector() } }));
    let service = metrics_service(&settings);
    assert_eq!(service["spec"]["selector"], selector());
    assert_eq!(service["spec"]["ports"][0]["port"], rule["ports"][0]["port"]);
}

/// A second gateway is applied by this label, without another operator.
#[test]
fn label_selects_the_objects_of_the_gateway_and_no_others() {
    let team = || "team".to_owned();
    let settings = Settings { namespace: team(), served_namespace: Some(team()), ..Settings::default() };
    let all = crate::manifests::files(&settings).into_iter().flat_map(|(_, documents)| documents);
    let selected = |d: &Value| d["metadata"]["labels"]["app.kubernetes.io/component"] == NAME;
    let found: Vec<Value> = all.filter(selected).collect();
    assert_eq!(found, documents(&settings));
}
