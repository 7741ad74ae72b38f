//! The ways to the Sandbox: directly, through the gateway without and with a credential, and through nginx.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use paddock_cluster::{Cluster, Process, Spawn, nginx};
use paddock_load::Scene;
use tokio::net::TcpStream;

use crate::progress::say;
use crate::usage::Watched;

/// The name of the way without a proxy.
pub(super) const DIRECT: &str = "direct";
/// The name of the way through nginx.
pub(super) const NGINX: &str = "nginx";
/// The name of the way through the gateway without a credential.
pub(super) const GATEWAY: &str = "gateway";

/// The time within which nginx has to listen.
const PATIENCE: Duration = Duration::from_secs(30);
/// The files that a process of nginx may open.
const FILES: u32 = 60_000;

/// A way to the Sandbox.
pub(super) struct Way {
    /// The name in the figures.
    pub(super) name: &'static str,
    pub(super) address: SocketAddr,
    /// One request, byte for byte.
    pub(super) request: Vec<u8>,
    /// The processes of the proxy.
    pub(super) processes: Vec<Watched>,
}

/// All ways of a run.
pub(super) struct Ways {
    pub(super) all: Vec<Way>,
}

impl Ways {
    /// Starts the proxies. All of them write a line for each request into a file, as they do by default.
    pub(super) async fn open(cluster: &Cluster, scene: &Scene, with_nginx: bool) -> Result<Self> {
        let upstream = scene.upstream.address;
        let open = scene.gateway(cluster, "gateway", &["--allow-unauthenticated"]).await?;
        let closed = scene.gateway(cluster, "gateway-token", &[]).await?;
        let token = format!("authorization: Bearer {}\r\n", scene.token(cluster).await?);
        let of = |name, address, credential: &str, process: Option<&Process>| Way {
            name,
            address,
            request: request(scene, credential),
            processes: process.into_iter().map(watched).collect(),
        };
        let mut all = vec![
            of(DIRECT, upstream, "", None),
            of(GATEWAY, open.proxy, "", Some(&open.process)),
            of("gateway, token", closed.proxy, &token, Some(&closed.process)),
        ];
        if with_nginx {
            match nginx().await {
                Ok(program) => {
                    let (process, address) = start_nginx(cluster, &program, upstream).await?;
                    all.push(of(NGINX, address, "", Some(&process)));
                }
                Err(error) => say(&format!("nginx is not measured: {error}")),
            }
        }
        Ok(Self { all })
    }

    /// The way of this name, if it is measured.
    pub(super) fn of(&self, name: &str) -> Option<&Way> {
        self.all.iter().find(|way| way.name == name)
    }
}

/// A process whose usage is read.
pub(super) fn watched(process: &Process) -> Watched {
    Watched { name: process.name().to_owned(), pid: process.pid() }
}

fn request(scene: &Scene, credential: &str) -> Vec<u8> {
    let headers: String = scene.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "GET /small HTTP/1.1\r\nhost: sandbox.example\r\naccept: application/json\r\n{headers}{credential}\r\n"
    );
    head.into_bytes()
}

/// Starts nginx with as many processes as the machine has processors, as the gateway has threads.
async fn start_nginx(cluster: &Cluster, program: &Path, upstream: SocketAddr) -> Result<(Process, SocketAddr)> {
    let folder = cluster.dir().join("nginx");
    std::fs::create_dir_all(&folder).context("making a folder for nginx")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cluster.port()?));
    let file = folder.join("nginx.conf");
    std::fs::write(&file, configuration(&folder, address, upstream)).context("writing the configuration of nginx")?;
    let args =
        ["-p", &folder.display().to_string(), "-c", &file.display().to_string(), "-e", "stderr"].map(str::to_owned);
    let process = cluster.spawn(Spawn::new("nginx", program).args(args)).await?;
    let began = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        if began.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(process.log()).unwrap_or_default();
            bail!("nginx does not listen at {address}: {log}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok((process, address))
}

/// A plain reverse proxy with connections to the Sandbox that are kept.
fn configuration(folder: &Path, listen: SocketAddr, upstream: SocketAddr) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|of| format!("  {of}_temp_path {folder}/{of};\n"))
        .concat();
    format!(
        "daemon off;\nuser root;\nworker_processes auto;\nworker_rlimit_nofile {FILES};\npid {folder}/pid;\n\
         error_log stderr warn;\nevents {{ worker_connections {}; }}\nhttp {{\n{temporary}  access_log {folder}/access.log;\n  \
         keepalive_timeout 120s;\n  keepalive_requests 1000000000;\n  \
         upstream sandbox {{ server {upstream}; keepalive 128; keepalive_requests 1000000000; }}\n  \
         map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n  \
         server {{\n    listen {listen};\n    location / {{\n      proxy_pass http://sandbox;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Host $host;\n      \
         proxy_set_header Upgrade $http_upgrade;\n      proxy_set_header Connection $connection_upgrade;\n      \
         proxy_read_timeout 1h;\n      proxy_send_timeout 1h;\n    }}\n  }}\n}}\n",
        FILES / 2
    )
}
