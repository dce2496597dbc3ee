//! The pod's own CA: what makes the sidecar the database's host name to the agent.
//!
//! ```text
//! SPOOL/ca/ca.key, ca.crt    made once a pod, kept over a container's restart; the key 0600
//! TRUST/ca.crt               the CA alone
//! TRUST/ca-bundle.crt        the public roots (Mozilla's) and the CA
//! ```
//!
//! Nobody but the pod's containers trusts it, and only the sidecar mounts the key. Each name that
//! leads here has a leaf of its own, so that no client takes a connection to one host for one to
//! another (RFC 9113, section 9.1.1); who asks for no name gets one of all names. Their key lives in
//! memory alone. A PKCS#12 store for Java is not made: the crates that write one bring a
//! second cryptography, and the PostgreSQL driver for Java reads PEM.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chaperone_inject::names::TRUST_SERVICE_ACCOUNT;
use chaperone_wire::{Secret, TlsServer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use zeroize::Zeroizing;

use super::settings::Settings;

const FOLDER: &str = "ca";
const KEY: &str = "ca.key";
const CERTIFICATE: &str = "ca.crt";
/// Clocks of one node agree; those of an image's tools may be a little off.
const BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than any pod lives: the key never leaves it, and nothing renews it.
const AFTER: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// Names that have a leaf. A pod has a few targets of a few names each.
const MOST_NAMES: usize = 256;

/// The pod's CA, and the certificates that are shown to agents.
pub(crate) struct PodCa {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    leaves: Leaves,
    server: TlsServer,
}

/// Certificates of one key, made of names.
struct Leaves {
    key: KeyPair,
    key_pem: Secret,
    names: BTreeSet<String>,
    /// Of all names.
    whole: Vec<u8>,
    /// Of one name each, in PEM.
    named: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for PodCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PodCa")
            .field("names", &self.leaves.names)
            .finish_non_exhaustive()
    }
}

impl PodCa {
    /// Loads the CA or makes it, issues a leaf for every name that leads here, and writes what
    /// agents trust.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<PodCa> {
        let (key, ca_pem) = load_or_make(&settings.spool.join(FOLDER))?;
        let issuer = Issuer::new(ca_params()?, key);
        let leaves = Leaves::new(&issuer, names(settings))?;
        let server = TlsServer::new(&leaves.whole, &leaves.key_pem, &[])?;
        let ca = PodCa {
            issuer,
            ca_pem,
            leaves,
            server,
        };
        ca.show()?;
        ca.write_trust(settings)?;
        Ok(ca)
    }

    /// What agents trust, in PEM.
    pub(crate) fn pem(&self) -> &str {
        &self.ca_pem
    }

    /// What serves TLS with the newest leaves, of no protocol yet.
    pub(crate) fn server(&self) -> TlsServer {
        self.server.clone()
    }

    /// Adds the hosts of targets: an agent that was given the sidecar's address by other means
    /// than /etc/hosts still checks the target's name.
    pub(crate) fn cover(&mut self, hosts: impl Iterator<Item = String>) -> anyhow::Result<()> {
        let hosts = hosts.filter(|host| can_be_named(host));
        if !self.leaves.add(&self.issuer, hosts)? {
            return Ok(());
        }
        self.show()
    }

    fn show(&self) -> anyhow::Result<()> {
        let Leaves {
            key_pem,
            whole,
            named,
            ..
        } = &self.leaves;
        Ok(self.server.replace(whole, named, key_pem)?)
    }

    fn write_trust(&self, settings: &Settings) -> anyhow::Result<()> {
        // Where an agent mounts it before there is anything in it, the kubelet makes it, as root.
        let folder = settings.trust.join(TRUST_SERVICE_ACCOUNT);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let mut bundle = String::new();
        for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
            push_pem(&mut bundle, root);
        }
        bundle.push_str(&self.ca_pem);
        publish(&settings.trust_bundle(), bundle.as_bytes(), 0o644)?;
        publish(&settings.trust_ca(), self.ca_pem.as_bytes(), 0o644)
    }
}

fn load_or_make(folder: &Path) -> anyhow::Result<(KeyPair, String)> {
    let (key_path, certificate_path) = (folder.join(KEY), folder.join(CERTIFICATE));
    // The certificate is written last: where it is, so is its key.
    if certificate_path.exists() {
        let key = Zeroizing::new(read(&key_path)?);
        let key = KeyPair::from_pem(&key)
            .with_context(|| format!("{} holds no private key", key_path.display()))?;
        return Ok((key, read(&certificate_path)?));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let key = KeyPair::generate().context("no key can be made")?;
    let certificate = ca_params()?.self_signed(&key)?.pem();
    let key_pem = Zeroizing::new(key.serialize_pem());
    publish(&key_path, key_pem.as_bytes(), 0o600)?;
    publish(&certificate_path, certificate.as_bytes(), 0o644)?;
    Ok((key, certificate))
}

/// The same at every start, so that a leaf leads to the certificate that is kept.
fn ca_params() -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = named("chaperone pod CA");
    // A CA of leaves only.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params);
    Ok(params)
}

impl Leaves {
    fn new(issuer: &Issuer<'static, KeyPair>, names: BTreeSet<String>) -> anyhow::Result<Leaves> {
        let key = KeyPair::generate().context("no key can be made")?;
        let mut leaves = Leaves {
            key_pem: Secret::from(key.serialize_pem()),
            whole: Vec::new(),
            key,
            names: BTreeSet::new(),
            named: BTreeMap::new(),
        };
        leaves.add(issuer, names.into_iter())?;
        Ok(leaves)
    }

    /// Whether any of these is new, and has a leaf now. More than fit are left out.
    fn add(
        &mut self,
        issuer: &Issuer<'static, KeyPair>,
        names: impl Iterator<Item = String>,
    ) -> anyhow::Result<bool> {
        let before = self.names.len();
        for name in names {
            if self.names.len() >= MOST_NAMES || self.names.contains(&name) {
                continue;
            }
            // No client asks for an address by name (RFC 6066, section 3).
            if name.parse::<IpAddr>().is_err() {
                let leaf = issue(issuer, &self.key, std::iter::once(&name))?;
                self.named.insert(name.clone(), leaf);
            }
            self.names.insert(name);
        }
        let more = self.names.len() > before;
        if more || self.whole.is_empty() {
            self.whole = issue(issuer, &self.key, self.names.iter())?;
        }
        Ok(more)
    }
}

/// A certificate of these names in PEM.
fn issue<'a>(
    issuer: &Issuer<'static, KeyPair>,
    key: &KeyPair,
    names: impl Iterator<Item = &'a String>,
) -> anyhow::Result<Vec<u8>> {
    let mut params = CertificateParams::new(Vec::new())?;
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into()?),
        });
    }
    params.distinguished_name = named("chaperone");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params);
    let certificate = params.signed_by(key, issuer)?;
    Ok(certificate.pem().into_bytes())
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams) {
    let now = SystemTime::now();
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + AFTER).into();
}

/// The listeners' addresses, and every name that the pod's hosts file gives them.
fn names(settings: &Settings) -> BTreeSet<String> {
    let addresses: Vec<IpAddr> = settings
        .addresses()
        .iter()
        .map(|address| address.ip())
        .collect();
    let mut names: BTreeSet<String> = addresses.iter().map(ToString::to_string).collect();
    let hosts = fs::read_to_string(&settings.hosts).unwrap_or_default();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let ours = words
            .next()
            .and_then(|word| word.parse::<IpAddr>().ok())
            .is_some_and(|address| addresses.contains(&address));
        if ours {
            let room = MOST_NAMES.saturating_sub(names.len());
            names.extend(
                words
                    .filter(|word| can_be_named(word))
                    .take(room)
                    .map(normal),
            );
        }
    }
    names
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// What a certificate can carry: an address, or an ASCII name. A leaf must not fail for one of
/// its names.
fn can_be_named(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
        || (!name.is_empty()
            && name.len() <= 253
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')))
}

/// RFC 7468: lines of 64 characters.
fn push_pem(out: &mut String, der: &[u8]) {
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let text = STANDARD.encode(der);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END CERTIFICATE-----\n");
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Whoever reads the file sees the old one or the new one, whole.
pub(super) fn publish(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let draft = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
