//! The environment of the walkthrough: a cluster, the operator beside it, and the namespace of the samples.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Object, ObjectMeta};
use kube::runtime::wait::Condition as _;
use kube::runtime::wait::conditions::is_crd_established;
use kube::{Api, Client};
use paddock_api::crd;
use paddock_api::kind::Kind;
use paddock_api::{SandboxClaimSpec, SandboxClaimStatus, SandboxWarmPoolSpec, SandboxWarmPoolStatus};
use paddock_cluster::{
    AnyCluster, Binaries, DetachedCluster, Options, RuntimeClass, Target, build_operator, node_is_missing,
    operator_was_built,
};
use serde_json::json;

use crate::gateway::Gateway;
use crate::operator::Operator;
use crate::screen::{Screen, time};
use crate::wait::{Look, until};
use crate::{access, manifests, walkthrough};

/// A pool of the seed shape.
pub(crate) type SeedPool = Object<SandboxWarmPoolSpec, SandboxWarmPoolStatus>;
/// A claim of the seed shape.
pub(crate) type SeedClaim = Object<SandboxClaimSpec, SandboxClaimStatus>;
/// The samples' namespace.
pub(crate) const NAMESPACE: &str = "agents";
/// A file with this name in a cluster's folder marks the cluster as one that a demo left running.
pub(crate) const MARK: &str = "demo";
/// A RuntimeClass that does not isolate, as clusters usually have beside isolating ones.
pub(crate) const PLAIN_CLASS: &str = "runc";

/// The chapters to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Story {
    /// Every feature, on simulated nodes or on the user's cluster.
    SimulatedNodes,
    /// One Sandbox in a container under gVisor, on a real node.
    RealNode,
}

/// The state of the walkthrough.
pub(crate) struct Session {
    story: Story,
    cluster: AnyCluster,
    program: PathBuf,
    operator: Option<Operator>,
    gateway: Option<Gateway>,
}

/// What remains of a session after the demo: the cluster, and the programs that have started beside it.
pub(crate) struct Kept {
    pub(crate) cluster: DetachedCluster,
    pub(crate) operator: Option<Operator>,
    pub(crate) gateway: Option<Gateway>,
}

impl Session {
    /// Builds the operator, and starts or opens the cluster, which is still empty.
    pub(crate) async fn open(target: &Target, story: Story, screen: &Screen) -> Result<Self> {
        if let (Story::RealNode, Some(reason)) = (story, node_is_missing()) {
            bail!(reason);
        }
        screen.chapter("Setting up");
        let build = async {
            let program = build_operator(|text| screen.say(text)).await?;
            let summary = format!("{} is built", program.file_name().unwrap_or_default().display());
            Ok((program, summary))
        };
        let doing = match operator_was_built() {
            true => "building what changed of it",
            false => "building it; the first time that takes minutes",
        };
        let program = screen.step("program", doing, build).await?;

        let doing = match target.kubeconfig {
            None if Binaries::are_built() => "starting it",
            None => "building it from its Go sources first, which takes minutes, and starting it",
            Some(_) => "looking at the cluster that you named",
        };
        let open = async {
            let cluster = target.open(options(story)).await?;
            let version = cluster.client().apiserver_version().await.context("the API server's version")?;
            let summary = format!("Kubernetes {} at {}", version.git_version, cluster.server_url());
            Ok((cluster, summary))
        };
        let cluster = screen.step_aloud("control plane", doing, open).await?;
        Ok(Self { story, cluster, program, operator: None, gateway: None })
    }

    /// Installs and starts the operator and the gateway that the story needs, and runs the walkthrough. It ends early if
    /// one of them does.
    pub(crate) async fn run(&mut self, screen: &Screen) -> Result<()> {
        let client = self.cluster.client();
        self.install(&client, screen).await?;
        let operator = self.start_operator(screen).await?;
        let story = self.story;
        match story {
            Story::SimulatedNodes => {
                let mut context = self.context(&operator, client, screen);
                tokio::select! {
                    result = walkthrough::features(&mut context) => result?,
                    ended = operator.ended() => bail!(ended),
                }
            }
            Story::RealNode => {
                let gateway = self.start_gateway(screen).await?;
                let mut context = self.context(&operator, client, screen);
                tokio::select! {
                    result = walkthrough::real(&mut context, &gateway) => result?,
                    ended = operator.ended() => bail!(ended),
                    ended = gateway.ended() => bail!(ended),
                }
            }
        }
        if let (Some(memory), Some(cpu)) = (operator.process.resident_bytes(), operator.process.cpu()) {
            let (mib, cpu) = (memory / (1 << 20), time(cpu));
            screen.remark(&format!(
                "The operator holds {mib} MiB of memory and has used {cpu} of processor time so far."
            ));
        }
        screen.end("That is the whole story, and every step of it was checked.");
        Ok(())
    }

    async fn install(&mut self, client: &Client, screen: &Screen) -> Result<()> {
        let cluster = &mut self.cluster;
        if let AnyCluster::Local(_) = cluster {
            let classes = options(self.story).runtime_classes;
            let shown: Vec<String> = classes.iter().map(|c| format!("{} (handler {})", c.name, c.handler)).collect();
            screen.fact("RuntimeClasses", &shown.join(", "));
        }
        let definitions = crd::all();
        let work = async {
            for definition in &definitions {
                cluster.create(&manifests::object(json!(definition))?).await?;
            }
            let api: Api<CustomResourceDefinition> = Api::all(client.clone());
            for name in definitions.iter().filter_map(|definition| definition.metadata.name.as_deref()) {
                let served = |crd: Option<&CustomResourceDefinition>| match is_crd_established().matches_object(crd) {
                    true => Look::Done,
                    false => Look::NotYet("is not served yet".to_owned()),
                };
                until(screen, &api, name, served).await?;
            }
            Ok(((), format!("{} definitions: both shapes of the API, every version", definitions.len())))
        };
        screen.step("CRDs", "installing them", work).await?;
        let work = async {
            let metadata = ObjectMeta { name: Some(NAMESPACE.to_owned()), ..ObjectMeta::default() };
            let namespace = Namespace { metadata, ..Namespace::default() };
            cluster.create(&manifests::object(json!(namespace))?).await?;
            Ok(((), format!("{NAMESPACE} is made")))
        };
        screen.step("namespace", "making it", work).await
    }

    async fn start_operator(&mut self, screen: &Screen) -> Result<Operator> {
        let Self { cluster, program, operator, .. } = self;
        let work = async {
            if let AnyCluster::Local(_) = cluster {
                let rights = access::rights(program).await?;
                for object in &rights {
                    cluster.create(object).await?;
                }
            }
            let started = operator.insert(Operator::start(cluster, program).await?);
            started.ready().await?;
            Ok((started.clone(), format!("ready, with the rights of {}", started.user)))
        };
        screen.step("operator", "starting it", work).await
    }

    async fn start_gateway(&mut self, screen: &Screen) -> Result<Gateway> {
        let Self { cluster, program, gateway, .. } = self;
        let AnyCluster::Local(cluster) = cluster else { bail!("the gateway needs a cluster of the demo's own") };
        let work = async {
            let started = gateway.insert(Gateway::start(cluster, program).await?);
            Ok((started.clone(), "ready, with the rights of its ServiceAccount of deploy/".to_owned()))
        };
        let gateway = screen.step("gateway", "starting it", work).await?;
        screen.fact("request", &gateway.request("SANDBOX", "/"));
        screen.fact("admits", "everybody on this machine; with deploy/, a client needs a token");
        Ok(gateway)
    }

    fn context<'a>(&'a mut self, operator: &Operator, client: Client, screen: &'a Screen) -> StepContext<'a> {
        StepContext { cluster: &mut self.cluster, operator: operator.clone(), client, screen }
    }

    /// The logs of the programs that have started, each with the program's name.
    pub(crate) fn logs(&self) -> Vec<(&'static str, PathBuf)> {
        let operator = self.operator.as_ref().map(|operator| ("operator", operator.process.log().to_owned()));
        let gateway = self.gateway.as_ref().map(|gateway| ("gateway", gateway.process().log().to_owned()));
        operator.into_iter().chain(gateway).collect()
    }

    /// Leaves the cluster running, and the programs that have started.
    pub(crate) async fn keep(self) -> Result<Kept> {
        match self.cluster {
            AnyCluster::Local(cluster) => {
                std::fs::write(cluster.dir().join(MARK), "").context("marking the cluster as a demo's")?;
                let detached = cluster.keep().await.context("leaving the cluster running")?;
                Ok(Kept { cluster: detached, operator: self.operator, gateway: self.gateway })
            }
            AnyCluster::External(..) => bail!("--keep is for a cluster of the demo's own"),
        }
    }

    /// Removes everything.
    pub(crate) async fn clean_up(mut self, screen: &Screen) {
        if let AnyCluster::External(..) = self.cluster {
            screen.remark("Removing from your cluster what was made there.");
        }
        for error in self.cluster.clean_up().await {
            eprintln!("not removed: {error}");
        }
    }
}

/// The options of our own cluster.
fn options(story: Story) -> Options {
    match story {
        Story::SimulatedNodes => {
            let mut options = Options::default().with_isolation();
            let plain = RuntimeClass { name: PLAIN_CLASS.to_owned(), handler: PLAIN_CLASS.to_owned() };
            options.runtime_classes.push(plain);
            options
        }
        Story::RealNode => Options::default().with_node(),
    }
}

/// The state that a chapter uses.
pub(crate) struct StepContext<'a> {
    cluster: &'a mut AnyCluster,
    /// The operator.
    pub(crate) operator: Operator,
    /// A client with every right.
    pub(crate) client: Client,
    /// The output.
    pub(crate) screen: &'a Screen,
}

impl StepContext<'_> {
    /// Creates an object like `kubectl apply`, so that a later `kubectl apply` prints no warning.
    pub(crate) async fn create(&mut self, object: &DynamicObject) -> Result<DynamicObject> {
        Ok(self.cluster.create(&manifests::as_applied(object)?).await?)
    }

    /// Whether the API server calls our webhook.
    pub(crate) fn has_webhook(&self) -> bool {
        matches!(self.cluster, AnyCluster::Local(_))
    }

    /// The objects of a kind in the samples' namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// The objects of a kind of the seed shape, whose wire types are those of the upstream shape.
    pub(crate) fn api_of<S: Clone, T: Clone>(&self, kind: Kind) -> Api<Object<S, T>> {
        let resource = ApiResource {
            group: kind.group().to_owned(),
            version: kind.version().to_owned(),
            api_version: kind.api_version(),
            kind: kind.name().to_owned(),
            plural: kind.plural().to_owned(),
        };
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }
}
