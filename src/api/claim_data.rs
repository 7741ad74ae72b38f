//! What a claim brings to its sandbox: the declaration in a template, the files of a claim, and the names by which the
//! code in a sandbox finds them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The directory in the containers, unless the template names another one.
pub const MOUNT_PATH: &str = "/run/paddock/claim";
/// The name of the volume in the pod.
pub const VOLUME: &str = "paddock-claim";
/// The prefix of the names of the Secrets that the operator creates, and the name in the spec of a Sandbox, where the
/// Secret of the pod is not known yet.
pub const SECRET: &str = "paddock-claim";
/// The number of hexadecimal digits at the end of these names.
pub const SECRET_SUFFIX: usize = 16;
/// The file with everything that the claim brings, as JSON.
pub const EVERYTHING: &str = "claim.json";
/// The file that says whether the claim brings anything. It is empty while the sandbox has no claim.
pub const DELIVERY: &str = "delivery";
/// The content of [`DELIVERY`], and the value of the pod's annotation, for a claim that brings nothing.
pub const NONE: &str = "none";
/// The file with the variables that a claim brings, for the program that holds a container.
pub const VARIABLES: &str = "paddock.env";
/// The name of the init container and of the volume that bring this program into a pod.
pub const INIT: &str = "paddock-init";
/// The directory with this program in the containers.
pub const INIT_PATH: &str = "/run/paddock/init";
/// The image of the init container in the spec of a Sandbox. The operator replaces it by its own image when it makes a pod,
/// so that each pod has the image of the present operator. No registry has the name: a pod that gets it does not start.
pub const INIT_IMAGE: &str = "paddock-init.invalid/paddock-init";
/// The prefix of file names that Paddock needs.
pub const RESERVED_PREFIX: &str = "paddock.";

/// The largest number of files of a claim.
pub const FILES_MAX: usize = 32;
/// The largest number of bytes of the content of one file.
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// The largest number of bytes of all files and variables of a claim, with the values of Secrets. A key of a Secret that two
/// files name counts twice.
pub const BYTES_MAX: usize = 256 * 1024;
/// The largest number of bytes of the same as JSON, which needs six bytes for a control character. Everything is twice in
/// a Secret, once as JSON.
pub const JSON_BYTES_MAX: usize = 480 * 1024;
/// The largest number of bytes of one variable in the environment of a process, with its name, the `=` and a NUL. It is
/// `MAX_ARG_STRLEN` of Linux, which gVisor has too.
pub const VARIABLE_BYTES_MAX: usize = 128 * 1024;
/// The largest number of bytes that a Secret holds, by the API server.
pub const SECRET_BYTES_MAX: usize = 1024 * 1024;
/// The largest number of Secrets that a template lists.
pub const SECRETS_MAX: usize = 64;

/// The content of [`DELIVERY`], and the value of the pod's annotation, when the Secret with the data of a claim exists.
///
/// [`EVERYTHING`] contains the UID too. Somebody who prepares a Secret for a warm pod does not know the UID of its claim.
#[must_use]
pub fn delivered_by(claim_uid: &str) -> String {
    format!("data {claim_uid}")
}

/// What claims may bring to the sandboxes of a template.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimDataSpec {
    /// The directory in the containers in which the data of the claim appears. If absent, /run/paddock/claim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 512), extend("pattern" = "^/[^:]+$"), extend("default" = "/run/paddock/claim"))]
    pub mount_path: Option<String>,
    /// The containers that get the directory. If empty, all containers except init containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub containers: Vec<String>,
    /// Whether the containers that get the directory start at once (Immediate, the default), or only after the claim has
    /// brought its data (AfterDelivery). The variables of the claim are then in their environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "Immediate"))]
    pub start: Option<ClaimDataStart>,
    /// The Secrets from which a claim may take files. They are in the namespace of the template. If empty, a claim may
    /// take none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "set"))]
    pub secrets: Vec<String>,
}

/// The time at which containers start that get the data of a claim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ClaimDataStart {
    /// When the pod starts.
    #[default]
    Immediate,
    /// When the claim has brought its data. Until then, a small program holds the container.
    AfterDelivery,
}

/// A file that a claim brings to its sandbox. Exactly one of `content` and `secretKeyRef` must be given.
#[derive(KubeSchema, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.content) != has(self.secretKeyRef)")
    .message("exactly one of content and secretKeyRef must be given"))]
pub struct ClaimFile {
    /// The name of the file.
    #[schemars(length(min = 1, max = 253), extend("pattern" = "^[-._a-zA-Z0-9]+$"))]
    pub name: String,
    /// The content of the file, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub content: Option<String>,
    /// The key of a Secret that has the content of the file. The template of the claim must list the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// Without the content, which no log needs.
impl std::fmt::Debug for ClaimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.content.as_ref().map(String::len);
        let Self { name, secret_key_ref, .. } = self;
        f.debug_struct("ClaimFile")
            .field("name", name)
            .field("content_bytes", &bytes)
            .field("secret_key_ref", secret_key_ref)
            .finish()
    }
}

/// A key of a Secret in the namespace of the claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}
