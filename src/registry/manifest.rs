//! Manifests: the layout of an artifact with a component, and of an artifact with signatures.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::digest::Digest;

/// The media type of the manifests that are written.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media types of the manifests that are read. Lists are among them so that an error can say that it is one.
pub(crate) const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// The media type of the config of a component.
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// The media types of the layer with a component. The first one is written; older tools write the others.
const WASM_LAYERS: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// The annotation with the file name, without which ORAS pulls no file.
const TITLE: &str = "org.opencontainers.image.title";

/// The media type of the config of an artifact with signatures.
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The media type of the payload of a signature.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature of the payload.
const COSIGN_SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// A component to push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The file name that ORAS gives the component when it pulls the artifact, such as `sizer.wasm`.
    pub file_name: String,
    /// The component.
    pub component: Bytes,
    /// The names of its imports, for those who look at the artifact without its component.
    pub imports: Vec<String>,
    /// The names of its exports.
    pub exports: Vec<String>,
}

/// A manifest.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    /// The manifests of a list.
    #[serde(default, skip_serializing)]
    manifests: Vec<Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The description of a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// Fields that have no use here, and that are kept when a signature is added.
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// A manifest with its config, ready to be stored.
pub(crate) struct Written {
    pub(crate) manifest: Bytes,
    pub(crate) config: Bytes,
}

impl Descriptor {
    fn new(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: Digest::of(content),
            size: content.len() as u64,
            annotations: BTreeMap::new(),
            other: Map::new(),
        }
    }

    fn annotated(mut self, name: &str, value: &str) -> Self {
        self.annotations.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The signature of the payload that this describes. Empty if it is missing.
    pub(crate) fn signature(&self) -> String {
        self.annotations.get(COSIGN_SIGNATURE).cloned().unwrap_or_default()
    }
}

impl Manifest {
    /// Reads a manifest.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(content).map_err(|error| format!("its manifest is malformed: {error}"))
    }

    /// The only layer with a component, or the reason why there is none.
    pub(crate) fn component(&self) -> Result<&Descriptor, String> {
        if !self.manifests.is_empty() {
            return Err("it is a list of manifests; name one of them by its digest".to_owned());
        }
        let mut layers = self.layers.iter().filter(|layer| WASM_LAYERS.contains(&layer.media_type.as_str()));
        match (layers.next(), layers.count()) {
            (Some(layer), 0) => Ok(layer),
            (None, _) => Err(format!("none of its {} layers has the media type {}", self.layers.len(), WASM_LAYERS[0])),
            (Some(_), more) => Err(format!("it has {} layers with WebAssembly, but must have one", more + 1)),
        }
    }

    /// The payloads of signatures.
    pub(crate) fn signatures(&self) -> impl Iterator<Item = &Descriptor> {
        self.layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING)
    }

    /// The manifest of a component. It contains no time, so that the same component has the same digest.
    pub(crate) fn of_component(upload: &Upload) -> Result<Written, serde_json::Error> {
        let layer = Descriptor::new(WASM_LAYERS[0], &upload.component).annotated(TITLE, &upload.file_name);
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            // The only system of components that the tools know. Plugins use nothing of it.
            "os": "wasip2",
            "layerDigests": [layer.digest],
            "component": { "exports": upload.exports, "imports": upload.imports },
        });
        Self::written(WASM_CONFIG, &config, vec![layer])
    }

    /// The manifest of the signatures of `before`, with one more.
    pub(crate) fn of_signatures(
        before: Option<Manifest>,
        payload: &[u8],
        signature: &str,
    ) -> Result<Written, serde_json::Error> {
        let mut layers = before.map(|before| before.layers).unwrap_or_default();
        layers.push(Descriptor::new(SIMPLE_SIGNING, payload).annotated(COSIGN_SIGNATURE, signature));
        let digests: Vec<_> = layers.iter().map(|layer| &layer.digest).collect();
        // cosign stores signatures as an image, whose config lists the layers.
        let config = json!({
            "architecture": "",
            "config": {},
            "created": "0001-01-01T00:00:00Z",
            "os": "",
            "rootfs": { "type": "layers", "diff_ids": digests },
        });
        Self::written(IMAGE_CONFIG, &config, layers)
    }

    fn written(kind: &str, config: &Value, layers: Vec<Descriptor>) -> Result<Written, serde_json::Error> {
        let config = serde_json::to_vec(config)?;
        let manifest = Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: Some(Descriptor::new(kind, &config)),
            layers,
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        };
        Ok(Written { manifest: serde_json::to_vec(&manifest)?.into(), config: config.into() })
    }
}
