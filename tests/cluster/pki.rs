//! The certificates and keys of one cluster: three CAs, a certificate for every server and client, and the key that
//! signs ServiceAccount tokens. All keys are P-256, which is fast.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use crate::Result;
use crate::error::write_private;
use crate::layout::Layout;

/// The first address of the Service range, which the Service `kubernetes.default` gets.
pub(crate) const SERVICE_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A CA that can sign more certificates while the cluster runs.
pub(crate) struct Authority {
    pub(crate) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// The keys that are still needed after the files are written.
pub(crate) struct Pki {
    /// The CA of the servers, and of the users that the API server accepts.
    pub(crate) cluster: Authority,
}

/// The users of the control plane itself, with their groups.
pub(crate) const ADMIN: (&str, &[&str]) = ("kubernetes-admin", &["system:masters"]);
pub(crate) const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
pub(crate) const SCHEDULER: &str = "system:kube-scheduler";

impl Pki {
    /// Generates all keys and writes the files of the programs into the layout's folder `pki`.
    ///
    /// The API server also has the addresses `more`.
    pub(crate) fn write(layout: &Layout, more: &[IpAddr]) -> Result<Self> {
        let folder = layout.pki();
        let cluster = Authority::new("paddock-cluster")?;
        let etcd = Authority::new("paddock-etcd")?;
        let front_proxy = Authority::new("paddock-front-proxy")?;
        cluster.write(&folder, "ca")?;
        etcd.write(&folder, "etcd-ca")?;
        front_proxy.write(&folder, "front-proxy-ca")?;

        etcd.server("etcd", &[], &[])?.write(&folder, "etcd-server")?;
        etcd.client("kube-apiserver", &[])?.write(&folder, "etcd-client")?;
        let names =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
        cluster.server("kube-apiserver", &names, more)?.write(&folder, "apiserver")?;
        for server in ["kube-controller-manager", "kube-scheduler", "kwok"] {
            cluster.server(server, &[], &[])?.write(&folder, server)?;
        }
        cluster.client("kube-apiserver-kubelet-client", &["system:masters"])?.write(&folder, "kubelet-client")?;
        front_proxy.client("front-proxy-client", &[])?.write(&folder, "front-proxy-client")?;

        let tokens = KeyPair::generate()?;
        write_private(&folder.join("service-account.key"), &tokens.serialize_pem())?;
        write_private(&folder.join("service-account.pub"), &tokens.public_key_pem())?;
        Ok(Self { cluster })
    }
}

impl Authority {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = named(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// A certificate for a server on this machine's loopback addresses, for `names`, and for the addresses `more`.
    pub(crate) fn server(&self, name: &str, names: &[&str], more: &[IpAddr]) -> Result<Pair> {
        let mut params = named(name, &[]);
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into(), SERVICE_IP.into()];
        params.subject_alt_names = addresses.iter().chain(more).copied().map(SanType::IpAddress).collect();
        for name in names.iter().chain(&["localhost"]) {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        // etcd connects to itself with its server certificate.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// A certificate for the user `user` in the groups `groups`.
    pub(crate) fn client(&self, user: &str, groups: &[&str]) -> Result<Pair> {
        let mut params = named(user, groups);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }

    fn write(&self, folder: &Path, name: &str) -> Result<()> {
        Pair { certificate: self.certificate.clone(), key: self.issuer.key().serialize_pem() }.write(folder, name)
    }
}

impl Pair {
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<()> {
        write_private(&folder.join(format!("{name}.crt")), &self.certificate)?;
        write_private(&folder.join(format!("{name}.key")), &self.key)
    }
}

fn named(name: &str, groups: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    // The certificates are used only as long as the cluster's folder exists, and fixed dates need no clock.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    params
}
