//! The material as the Secret `chaperone-operator-tls` holds it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use zeroize::Zeroizing;

use super::material::{Authority, Material};

/// Its name, in the operator's namespace.
pub const NAME: &str = "chaperone-operator-tls";

/// The material of a Secret; `None` if any part is missing or makes no sense, in which case the
/// leader makes all of it anew.
pub(super) fn read(secret: &Secret) -> Option<Material> {
    let data = secret.data.as_ref()?;
    let names = text(data, "tls.names")?;
    Some(Material {
        authority: authority(data, "ca")?,
        next: authority(data, "next-ca"),
        certificate: text(data, "tls.crt")?,
        key: Zeroizing::new(text(data, "tls.key")?),
        ends: moment(data, "tls.ends")?,
        names: names.split(',').map(str::to_owned).collect(),
    })
}

/// A Secret with the material; `old` keeps its metadata, so that a write in between is noticed.
pub fn write(material: &Material, old: Option<Secret>) -> Secret {
    let mut data = BTreeMap::new();
    let mut put = |key: String, value: &str| {
        data.insert(key, ByteString(value.as_bytes().to_vec()));
    };
    let all = [
        ("ca", Some(&material.authority)),
        ("next-ca", material.next.as_ref()),
    ];
    for (name, authority) in all {
        let Some(authority) = authority else { continue };
        put(format!("{name}.crt"), &authority.certificate);
        put(format!("{name}.key"), &authority.key);
        put(format!("{name}.ends"), &authority.ends.to_string());
    }
    put("tls.crt".to_owned(), &material.certificate);
    put("tls.key".to_owned(), &material.key);
    put("tls.ends".to_owned(), &material.ends.to_string());
    put("tls.names".to_owned(), &material.names.join(","));
    let metadata = old.map_or_else(
        || ObjectMeta {
            name: Some(NAME.to_owned()),
            ..ObjectMeta::default()
        },
        |old| old.metadata,
    );
    Secret {
        metadata,
        data: Some(data),
        ..Secret::default()
    }
}

fn authority(data: &BTreeMap<String, ByteString>, name: &str) -> Option<Authority> {
    Some(Authority {
        certificate: text(data, &format!("{name}.crt"))?,
        key: Zeroizing::new(text(data, &format!("{name}.key"))?),
        ends: moment(data, &format!("{name}.ends"))?,
    })
}

fn text(data: &BTreeMap<String, ByteString>, key: &str) -> Option<String> {
    String::from_utf8(data.get(key)?.0.clone()).ok()
}

fn moment(data: &BTreeMap<String, ByteString>, key: &str) -> Option<Timestamp> {
    text(data, key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::certificates::material::renew;

    #[test]
    fn what_is_written_is_read_back() {
        let now: Timestamp = "2025-06-01T00:00:00Z".parse().unwrap();
        let names = vec!["a.svc".to_owned(), "b.svc".to_owned()];
        let material = renew(None, &names, now).unwrap().unwrap();
        let secret = write(&material, None);
        assert_eq!(read(&secret).unwrap(), material);
        let mut broken = secret.clone();
        broken.data.as_mut().unwrap().remove("tls.key");
        assert!(read(&broken).is_none());
    }
}
