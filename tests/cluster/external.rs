//! A cluster that the user named. It belongs to the user and is treated with care.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};

use crate::error::write_private;
use crate::layout::{Layout, temporary};
use crate::supervisor::Supervisor;
use crate::{Binaries, Error, Kubectl, Process, Result, Spawn};

/// A cluster that serves one of these groups already has an operator, which we must not disturb.
const GROUPS: [&str; 2] = ["agents.x-k8s.io", "extensions.agents.x-k8s.io"];

/// The user's cluster, after the user has confirmed it.
pub struct External {
    client: Client,
    server: String,
    supervisor: Arc<Supervisor>,
    binaries: Binaries,
    layout: Layout,
}

impl External {
    /// Reads `kubeconfig`, shows the server of `context`, and asks the user to type the context's name unless `sure` is
    /// set. It refuses a cluster that already has the CRDs.
    pub async fn open(kubeconfig: &Path, context: &str, sure: bool) -> Result<Self> {
        let wrong = |cause| Error::Kubeconfig { path: kubeconfig.to_owned(), cause: Box::new(cause) };
        // The reader makes the paths in the file absolute, so that a copy in another folder still works.
        let mut file = Kubeconfig::read_from(kubeconfig).map_err(wrong)?;
        known_context(&file, kubeconfig, context)?;
        let options = KubeConfigOptions { context: Some(context.to_owned()), ..KubeConfigOptions::default() };
        let config = kube::Config::from_custom_kubeconfig(file.clone(), &options).await.map_err(wrong)?;
        let server = config.cluster_url.to_string();
        confirm(&server, context, sure, &mut std::io::stdin().lock(), &mut std::io::stderr())?;
        let client = Client::try_from(config).map_err(Error::kube("making a client"))?;
        refuse_where_installed(&client).await?;

        let binaries = Binaries::ready_async().await?;
        let folder = temporary("paddock-external-")?;
        let layout = Layout::create(folder.path())?;
        file.current_context = Some(context.to_owned());
        let text = serde_yaml_ng::to_string(&file).map_err(Error::format("writing a kubeconfig"))?;
        write_private(&layout.kubeconfig(COPY), &text)?;
        let supervisor = Arc::new(Supervisor::start(&binaries, &layout)?);
        let _ = folder.keep(); // the supervisor removes it from here on
        Ok(Self { client, server, supervisor, binaries, layout })
    }

    /// A client with the user's kubeconfig.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A copy of the user's kubeconfig whose current context is the named one.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig(COPY)
    }

    /// The URL of the API server.
    #[must_use]
    pub fn server_url(&self) -> &str {
        &self.server
    }

    /// The folder for logs, which is removed at the end.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.folder()
    }

    /// kubectl for this cluster.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.binaries, &self.kubeconfig(), self.dir())
    }

    /// Starts a program on this machine. It ends with this process.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Process> {
        Process::begin(&self.supervisor, spawn.start(&self.layout, true)?).await
    }
}

const COPY: &str = "external";

/// Refuses a context that the file does not have, with the names of those that it has.
fn known_context(file: &Kubeconfig, path: &Path, context: &str) -> Result<()> {
    let names: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
    if names.contains(&context) {
        return Ok(());
    }
    let known = if names.is_empty() { "no context".to_owned() } else { names.join(", ") };
    Err(Error::UnknownContext { path: path.to_owned(), context: context.to_owned(), known })
}

/// Shows the cluster and asks the user to type the context's name.
fn confirm(server: &str, context: &str, sure: bool, input: &mut impl BufRead, output: &mut impl Write) -> Result<()> {
    let shown = writeln!(output, "This uses the cluster of context {context:?}, {server}");
    shown.map_err(Error::io("asking"))?;
    if sure {
        return Ok(());
    }
    write!(output, "Type the context's name to go on: ").and_then(|()| output.flush()).map_err(Error::io("asking"))?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(Error::io("reading the answer"))?;
    if answer.trim() == context {
        return Ok(());
    }
    Err(Error::Refused(format!("{:?} is not {context:?}: nothing was done", answer.trim())))
}

async fn refuse_where_installed(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let list = api.list_metadata(&ListParams::default()).await.map_err(Error::kube("listing CRDs"))?;
    let ours = |name: &str| GROUPS.iter().any(|group| name.split_once('.').is_some_and(|(_, rest)| rest == *group));
    let there: Vec<String> = list.items.into_iter().filter_map(|crd| crd.metadata.name).filter(|n| ours(n)).collect();
    if there.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "the cluster has {} already: it may have an operator and sandboxes of its own, so nothing was done",
        there.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(typed: &str, sure: bool) -> (Result<()>, String) {
        let mut shown = Vec::new();
        let result = confirm("https://prod:6443/", "prod", sure, &mut typed.as_bytes(), &mut shown);
        (result, String::from_utf8(shown).unwrap())
    }

    #[test]
    fn the_server_is_shown_and_only_the_contexts_name_is_a_yes() {
        assert!(answer("prod\n", false).0.is_ok());
        for typed in ["", "\n", "y\n", "yes\n", "PROD\n"] {
            assert!(matches!(answer(typed, false).0, Err(Error::Refused(_))), "{typed:?}");
        }
        assert!(answer("no\n", false).1.contains("https://prod:6443/"));
    }

    #[test]
    fn an_unknown_context_is_refused_with_the_known_names() {
        let file = Kubeconfig::from_yaml("contexts: [{ name: prod }, { name: test }]").unwrap();
        let refused = |name| known_context(&file, Path::new("config"), name).map_err(|e| e.to_string());
        assert_eq!(refused("test"), Ok(()));
        assert!(refused("tset").unwrap_err().contains("the file has prod, test"));
        let empty = known_context(&Kubeconfig::default(), Path::new("config"), "prod").unwrap_err();
        assert!(empty.to_string().contains("no context \"prod\"; the file has no context"));
    }

    #[test]
    fn sure_asks_nothing_but_still_shows_the_server() {
        let (result, shown) = answer("", true);
        assert!(result.is_ok());
        assert!(shown.contains("https://prod:6443/") && !shown.contains("Type"));
    }
}
