//! `paddock plugin push`, `pull`, `sign` and `verify` against a real registry.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::Output;

use paddock_cluster::{Registry, RegistryAccess};
use paddock_registry::{Client, Credentials, Options, Reference};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;

use super::programs::{paddock, run_with_input, shown};
use crate::framework::Test;

pub(super) fn tests() -> Vec<Test> {
    named![
        plugin_is_pushed_pulled_signed_and_verified,
        credentials_of_a_registry_are_needed_and_found,
        tag_that_moved_has_the_signatures_of_no_other_artifact,
        content_that_changed_in_the_registry_is_refused,
        component_of_200_megabytes_is_not_read,
        registry_without_tls_needs_the_flag,
        input_of_registry_commands_is_checked,
    ]
}

/// A registry, and a folder for files.
struct Site {
    registry: Registry,
    folder: TempDir,
}

impl Site {
    async fn start(access: RegistryAccess) -> Self {
        // The build is first, because it takes longest and can fail.
        paddock().await;
        let registry = Registry::start(access).await.expect("a registry");
        let site = Self { registry, folder: tempfile::tempdir().expect("a folder") };
        site.put("ca.pem", site.registry.authority().as_bytes());
        site.put("sizer.wasm", paddock_guests::POOL_FIXED);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    fn reference(&self, rest: &str) -> String {
        format!("oci://{}/plugins/sizer{rest}", self.registry.host())
    }

    /// Writes a configuration of Docker with a user of the registry.
    fn log_in(&self, password: &str) {
        let entry = json!({ "username": Registry::USER, "password": password });
        let config = json!({ "auths": { (self.registry.host()): entry } });
        self.put("config.json", config.to_string().as_bytes());
    }

    /// Runs `paddock plugin ARGS` in the folder, where the configuration of Docker is.
    async fn run(&self, args: &[&str]) -> Output {
        self.run_with_input(args, "").await
    }

    async fn run_with_input(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(paddock().await);
        command.arg("plugin").args(args).current_dir(self.folder.path());
        command.env("DOCKER_CONFIG", self.folder.path()).env("KUBECONFIG", "/nowhere/config");
        run_with_input(&mut command, input).await
    }

    /// Runs a command that has to succeed. Returns the line on standard output.
    async fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        assert!(output.status.success(), "{args:?}:\n{}", shown(&output));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a command that has to end with this code, and to say these parts.
    async fn fail(&self, args: &[&str], code: i32, parts: &[&str]) {
        let output = self.run(args).await;
        let shown = shown(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}:\n{shown}");
        for part in parts {
            assert!(shown.contains(part), "{args:?}: {part:?} is not in:\n{shown}");
        }
        assert!(!shown.contains(Registry::PASSWORD), "{args:?}:\n{shown}");
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a file")
    }

    /// The file of the registry's storage with a blob of an artifact.
    fn stored(&self, digest: &str) -> PathBuf {
        let file = self.registry.blob(digest);
        assert!(file.is_file(), "{}", file.display());
        file
    }

    /// The client and the credentials of a test that does what no command does.
    fn client(&self, max_component_bytes: usize) -> (Client, Credentials) {
        let ca = self.registry.authority().as_bytes().to_vec();
        let client = Client::new(Options { extra_ca: vec![ca], ..Options::new(max_component_bytes) });
        let (username, password) = (Registry::USER.to_owned(), Registry::PASSWORD.to_owned());
        (client.expect("a client"), Credentials::Basic { username, password })
    }
}

/// The digest at the end of a reference.
fn digest(reference: &str) -> &str {
    reference.rsplit('@').next().expect("a digest")
}

const CA: [&str; 2] = ["--ca-file", "ca.pem"];

async fn plugin_is_pushed_pulled_signed_and_verified() {
    let site = Site::start(RegistryAccess::Protected).await;
    site.log_in(Registry::PASSWORD);
    let tag = site.reference(":v1");
    let push = ["push", "sizer.wasm", &tag, CA[0], CA[1]];
    let pushed = site.succeed(&push).await;
    assert!(pushed.starts_with(&format!("{tag}@sha256:")), "{pushed}");
    assert_eq!(site.succeed(&push).await, pushed, "the same component has the same digest");

    let by_digest = site.reference(&format!("@{}", digest(&pushed)));
    for reference in [&tag, &by_digest] {
        let pulled = site.succeed(&["pull", reference, "-o", "pulled.wasm", CA[0], CA[1]]).await;
        assert_eq!(digest(&pulled), digest(&pushed));
        assert_eq!(site.content("pulled.wasm"), paddock_guests::POOL_FIXED);
        std::fs::remove_file(site.path("pulled.wasm")).expect("it exists");
    }
    site.fail(&["pull", &tag, "-o", "pulled.wasm"], 1, &["the TLS connection to", "UnknownIssuer"]).await;
    site.fail(&["pull", &tag, "-o", "pulled.wasm", "--plain-http"], 1, &["status 400"]).await;
    let absent = site.reference(":v2");
    site.fail(&["pull", &absent, "-o", "pulled.wasm", CA[0], CA[1]], 1, &["plugins/sizer:v2 does not exist"]).await;

    assert_eq!(site.succeed(&["keygen"]).await, "plugin.key\nplugin.pub");
    site.succeed(&["keygen", "--output", "other"]).await;
    let verify = ["verify", &tag, "--key", "plugin.pub", CA[0], CA[1]];
    let pull = ["pull", &tag, "-o", "pulled.wasm", "--key", "plugin.pub", CA[0], CA[1]];
    for args in [&verify[..], &pull] {
        site.fail(args, 1, &["has no signature"]).await;
    }
    let sign = ["sign", &by_digest, "--key", "plugin.key", CA[0], CA[1]];
    assert_eq!(site.succeed(&sign).await, by_digest);
    assert!(shown(&site.run(&sign).await).contains("nothing was changed"));
    assert_eq!(site.succeed(&verify).await, pushed);
    assert!(!site.path("pulled.wasm").exists(), "nothing was written without a signature");
    site.succeed(&pull).await;
    assert_eq!(site.content("pulled.wasm"), paddock_guests::POOL_FIXED);

    let with_other = ["verify", &tag, "--key", "other.pub", CA[0], CA[1]];
    site.fail(&with_other, 1, &["none of the 1 signatures", "another key"]).await;
    site.succeed(&["sign", &tag, "--key", "other.key", CA[0], CA[1]]).await;
    for args in [&with_other[..], &verify, &["verify", &tag, "--key", "plugin.pub", "--key", "other.pub", CA[0], CA[1]]]
    {
        assert_eq!(site.succeed(args).await, pushed, "both signatures are kept");
    }
}

async fn credentials_of_a_registry_are_needed_and_found() {
    let site = Site::start(RegistryAccess::Protected).await;
    let tag = site.reference(":v1");
    let push = ["push", "sizer.wasm", &tag, CA[0], CA[1]];
    let refused = format!("{} refused access", site.registry.host());
    site.fail(&push, 1, &[&refused, "none are given"]).await;
    site.log_in("wrong");
    site.fail(&push, 1, &[&refused, "wrong or not sufficient"]).await;

    let named = [&push[..], &["--username", Registry::USER, "--password-stdin"]].concat();
    let output = site.run_with_input(&named, "wrong\n").await;
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let output = site.run_with_input(&named, &format!("{}\n", Registry::PASSWORD)).await;
    assert!(output.status.success(), "the flags come before the file: {}", shown(&output));
    site.fail(&named, 2, &["standard input must contain the password"]).await;

    site.put("config.json", br#"{"auths": {"registry.example.com": {}}, "credsStore": "desktop"}"#);
    site.fail(&push, 1, &["none are given"]).await;
    site.log_in("");
    site.fail(&push, 2, &["config.json", "helpers are not run"]).await;
    site.put("config.json", b"{");
    site.fail(&push, 2, &["config.json", "line 1"]).await;
    site.log_in(Registry::PASSWORD);
    site.succeed(&push).await;
}

async fn tag_that_moved_has_the_signatures_of_no_other_artifact() {
    let site = Site::start(RegistryAccess::Protected).await;
    site.log_in(Registry::PASSWORD);
    site.put("other.wasm", paddock_guests::ALLOWED_IMAGES);
    site.succeed(&["keygen"]).await;
    let tag = site.reference(":v1");
    let first = site.succeed(&["push", "sizer.wasm", &tag, CA[0], CA[1]]).await;
    site.succeed(&["sign", &first, "--key", "plugin.key", CA[0], CA[1]]).await;
    let second = site.succeed(&["push", "other.wasm", &tag, CA[0], CA[1]]).await;
    assert_ne!(first, second);

    let pull = |reference: &str| {
        ["pull", reference, "-o", "pulled.wasm", "--key", "plugin.pub", CA[0], CA[1]].map(str::to_owned)
    };
    let pull_first = pull(&first);
    let args: Vec<&str> = pull_first.iter().map(String::as_str).collect();
    site.succeed(&args).await;
    assert_eq!(site.content("pulled.wasm"), paddock_guests::POOL_FIXED, "the digest decides");
    let pull_tag = pull(&tag);
    let args: Vec<&str> = pull_tag.iter().map(String::as_str).collect();
    site.fail(&args, 1, &["has no signature", digest(&second)]).await;

    // Who can write to the registry copies the signature.
    let (client, credentials) = site.client(1 << 20);
    let [first_at, second_at] = [&first, &second].map(|text| text.parse::<Reference>().expect("a reference"));
    let [of_first, of_second] = [&first_at, &second_at].map(|reference| reference.digest().expect("a digest"));
    let signatures = client.signatures(&first_at, &credentials, of_first).await.expect("signatures");
    let copied = signatures.first().expect("a signature");
    client.push_signature(&second_at, &credentials, of_second, copied).await.expect("a copy");
    site.fail(&args, 1, &["for another manifest", digest(&first)]).await;
    assert_eq!(site.content("pulled.wasm"), paddock_guests::POOL_FIXED, "the file is as it was");
}

async fn content_that_changed_in_the_registry_is_refused() {
    let site = Site::start(RegistryAccess::Protected).await;
    site.log_in(Registry::PASSWORD);
    let tag = site.reference(":v1");
    let pushed = site.succeed(&["push", "sizer.wasm", &tag, CA[0], CA[1]]).await;
    let pull = ["pull", &pushed, "-o", "pulled.wasm", CA[0], CA[1]];

    let component = site.stored(&paddock_plugin_host::digest(paddock_guests::POOL_FIXED));
    let size = paddock_guests::POOL_FIXED.len();
    let half = paddock_guests::POOL_FIXED.get(..size / 2).expect("a half");
    std::fs::write(&component, half).expect("the storage can be changed");
    site.fail(&pull, 1, &["the component of", &format!("must have {size}")]).await;
    let mut changed = paddock_guests::POOL_FIXED.to_vec();
    *changed.last_mut().expect("a byte") ^= 1;
    std::fs::write(&component, changed).expect("the storage can be changed");
    site.fail(&pull, 1, &["the component of", "has the digest sha256:"]).await;
    std::fs::write(&component, paddock_guests::POOL_FIXED).expect("the storage can be changed");
    site.succeed(&pull).await;

    let manifest = site.stored(digest(&pushed));
    let mut content = std::fs::read(&manifest).expect("the manifest");
    content.push(b' ');
    std::fs::write(&manifest, content).expect("the storage can be changed");
    site.fail(&pull, 1, &["has the digest sha256:"]).await;
    let by_tag = ["pull", &tag, "-o", "pulled.wasm", CA[0], CA[1]];
    site.fail(&by_tag, 1, &["has the digest sha256:"]).await;
}

async fn component_of_200_megabytes_is_not_read() {
    const SIZE: u64 = 200_000_000;
    let site = Site::start(RegistryAccess::Plain).await;
    let tag = site.reference(":v1");
    let pushed = site.succeed(&["push", "sizer.wasm", &tag, "--plain-http"]).await;
    let component = paddock_plugin_host::digest(paddock_guests::POOL_FIXED);
    let large = OpenOptions::new().write(true).open(site.stored(&component)).expect("the storage can be changed");
    large.set_len(SIZE).expect("a large file");

    let size = paddock_guests::POOL_FIXED.len();
    site.fail(&["pull", &pushed, "-o", "pulled.wasm", "--plain-http"], 1, &[&format!("more than {size} bytes")]).await;
    // A manifest that says how large it is.
    let manifest = std::fs::read_to_string(site.stored(digest(&pushed))).expect("the manifest");
    let manifest = manifest.replace(&format!("\"size\":{size}"), &format!("\"size\":{SIZE}"));
    assert!(manifest.contains(&SIZE.to_string()), "{manifest}");
    put_manifest(site.registry.host(), "large", &manifest).await;
    let limit = paddock_plugin_host::HostConfig::default().component_bytes;
    let args = ["pull", &site.reference(":large"), "-o", "pulled.wasm", "--plain-http"];
    site.fail(&args, 1, &[&format!("more than {limit} bytes")]).await;
    assert!(!site.path("pulled.wasm").exists());
}

/// Stores a manifest in a registry without TLS.
async fn put_manifest(host: &str, tag: &str, manifest: &str) {
    let request = format!(
        "PUT /v2/plugins/sizer/manifests/{tag} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {}\r\n\
         Content-Type: application/vnd.oci.image.manifest.v1+json\r\n\r\n{manifest}",
        manifest.len()
    );
    let mut stream = TcpStream::connect(host).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.contains(" 201 "), "{answer}");
}

async fn registry_without_tls_needs_the_flag() {
    let site = Site::start(RegistryAccess::Plain).await;
    let tag = site.reference(":v1");
    site.fail(&["push", "sizer.wasm", &tag], 1, &["the TLS connection to", "plain HTTP"]).await;
    let pushed = site.succeed(&["push", "sizer.wasm", &tag, "--plain-http"]).await;
    site.succeed(&["keygen"]).await;
    site.succeed(&["sign", &pushed, "--key", "plugin.key", "--plain-http"]).await;
    assert_eq!(site.succeed(&["verify", &tag, "--key", "plugin.pub", "--plain-http"]).await, pushed);
    // The registry is down.
    site.registry.process().kill().await.expect("it ends");
    site.fail(&["verify", &tag, "--key", "plugin.pub", "--plain-http"], 1, &["cannot be reached"]).await;
}

async fn input_of_registry_commands_is_checked() {
    let site = Site::start(RegistryAccess::Plain).await;
    site.put("core.wasm", b"\0asm\x01\0\0\0");
    site.put("text", b"no key");
    let tag = site.reference(":v1");
    for (args, code, part) in [
        (&["push", "sizer.wasm", "registry.example.com/sizer:v1"][..], 2, "must begin with oci://"),
        (&["push", "sizer.wasm", "oci://registry.example.com/sizer"], 2, "a tag or a digest"),
        (&["push", "sizer.wasm", &format!("{tag}@sha256:{}", "0".repeat(64))], 2, "must end with a tag"),
        (&["push", "absent.wasm", &tag, "--plain-http"], 2, "absent.wasm"),
        (&["push", "core.wasm", &tag, "--plain-http"], 1, "must be a component"),
        (&["push", "sizer.wasm", &tag, "--ca-file", "text"], 2, "--ca-file"),
        (&["push", "sizer.wasm", &tag, "--username", "me"], 2, "--password-stdin"),
        (&["pull", &tag, "--plain-http"], 2, "--output"),
        (&["pull", &tag, "-o", "x", "--key", "text"], 2, "--key text: must be one public key"),
        (&["sign", &tag, "--key", "text"], 2, "--key text: must be one private key"),
        (&["verify", &tag], 2, "--key"),
        (&["verify", &tag, "--key", "absent.pub"], 2, "absent.pub"),
    ] {
        site.fail(args, code, &[part]).await;
    }
    let nothing = site.run(&["pull", &tag, "-o", "x", "--plain-http"]).await;
    assert_eq!(nothing.status.code(), Some(1), "no command has pushed anything: {}", shown(&nothing));
}
