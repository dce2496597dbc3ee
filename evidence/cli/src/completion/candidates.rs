//! Names that are completed from what is there. Nothing is said where nothing can be read: a
//! completion has no place for errors.

use std::collections::BTreeSet;
use std::ffi::OsString;

use chaperone_crds::{AccessPolicy, ApprovalRequest, Connection, Session};
use clap::builder::StyledStr;
use clap_complete::CompletionCandidate;
use kube::Api;
use kube::api::{ListParams, PartialObjectMeta};

use crate::cli::{Cli, ClusterArgs, Command};
use crate::source::{Found, Source};
use crate::time::{date_and_time, from_ns};

/// How many sessions are offered: the newest.
const MOST: usize = 50;
/// Objects that are asked for at most.
const PAGE: u32 = 500;

/// Ids of the newest sessions, and `last`.
pub(crate) fn sessions() -> Vec<CompletionCandidate> {
    let mut newest: Vec<(String, String)> = match source() {
        Some(source @ Source::State(..)) => {
            let mut found = recent(&source);
            found.sort_by_key(|found| std::cmp::Reverse(found.order()));
            found
                .iter()
                .take(MOST)
                .map(|Found { session, .. }| {
                    let began = date_and_time(from_ns(session.started_ns));
                    let text = format!("{began} {}", session.start.subject);
                    (session.id.to_string(), text)
                })
                .collect()
        }
        // The log would have to be fetched whole; these are its newest as resources.
        Some(source @ Source::Cluster(..)) => {
            names::<Session>(&source).into_iter().take(MOST).collect()
        }
        None => Vec::new(),
    };
    newest.insert(0, ("last".to_owned(), "the newest session".to_owned()));
    newest
        .into_iter()
        .map(|(id, text)| described(id, text))
        .collect()
}

/// Connections, as they are named here.
pub(crate) fn connections() -> Vec<CompletionCandidate> {
    qualified::<Connection>(|found| &found.session.start.connection)
}

/// Subjects of the newest sessions.
pub(crate) fn subjects() -> Vec<CompletionCandidate> {
    let Some(source @ Source::State(..)) = source() else {
        return Vec::new();
    };
    let subjects = recent(&source)
        .into_iter()
        .map(|found| found.session.start.subject);
    distinct(subjects)
}

/// AccessPolicies of the cluster.
pub(crate) fn policies() -> Vec<CompletionCandidate> {
    match source() {
        Some(source @ Source::Cluster(..)) => {
            let names = names::<AccessPolicy>(&source).into_iter();
            distinct(names.map(|(name, namespace)| format!("{namespace}/{name}")))
        }
        _ => Vec::new(),
    }
}

/// Requests that wait, or waited, for a human.
pub(crate) fn requests() -> Vec<CompletionCandidate> {
    match source() {
        Some(source @ Source::Cluster(..)) => distinct(
            names::<ApprovalRequest>(&source)
                .into_iter()
                .map(|(name, _)| name),
        ),
        Some(source) => {
            let listed = source.desk().and_then(|desk| desk.list());
            let entries = listed.map(|(entries, _)| entries).unwrap_or_default();
            distinct(entries.into_iter().map(|entry| entry.name))
        }
        None => Vec::new(),
    }
}

fn qualified<K>(of: fn(&Found) -> &String) -> Vec<CompletionCandidate>
where
    K: Listed,
{
    match source() {
        Some(source @ Source::Cluster(..)) => {
            let names = names::<K>(&source).into_iter();
            distinct(names.map(|(name, namespace)| format!("{namespace}/{name}")))
        }
        Some(source) => distinct(recent(&source).iter().map(|found| of(found).clone())),
        None => Vec::new(),
    }
}

/// A namespaced kind that can be listed.
trait Listed:
    kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
{
}

impl<K> Listed for K where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned
{
}

/// Name and namespace of what the cluster has of a kind.
fn names<K: Listed>(source: &Source) -> Vec<(String, String)> {
    let Source::Cluster(cluster, ..) = source else {
        return Vec::new();
    };
    let api: Api<K> = match &cluster.namespace {
        Some(namespace) => Api::namespaced(cluster.client(), namespace),
        None => Api::all(cluster.client()),
    };
    let listed = cluster.wait(api.list_metadata(&ListParams::default().limit(PAGE)));
    let Ok(listed) = listed else {
        return Vec::new();
    };
    let name =
        |object: PartialObjectMeta<K>| Some((object.metadata.name?, object.metadata.namespace?));
    listed.items.into_iter().filter_map(name).collect()
}

fn recent(source: &Source) -> Vec<Found> {
    let Ok(evidence) = source.evidence() else {
        return Vec::new();
    };
    evidence.recent().map_while(Result::ok).collect()
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    let names: BTreeSet<String> = names.collect();
    names.into_iter().map(CompletionCandidate::new).collect()
}

fn described(value: String, text: String) -> CompletionCandidate {
    let text = crate::output::escape_line(&text);
    CompletionCandidate::new(value).help(Some(StyledStr::from(text)))
}

/// What the line that is completed works on: completers are not told what else is in it.
fn source() -> Option<Source> {
    let words: Vec<OsString> = std::env::args_os().collect();
    Source::of(&Cli {
        because: None,
        leave_sealed: true,
        state: option(&words, &["--state"])
            .or_else(|| std::env::var_os("CHAPERONE_STATE"))
            .map(Into::into),
        cluster: ClusterArgs {
            kubeconfig: option(&words, &["--kubeconfig"]).map(Into::into),
            context: text(option(&words, &["--context"])),
            namespace: text(option(&words, &["--namespace", "-n"])),
            ..ClusterArgs::default()
        },
        identity: option(&words, &["--identity"])
            .map(Into::into)
            .into_iter()
            .collect(),
        command: Command::Version,
    })
    .ok()
}

fn text(word: Option<OsString>) -> Option<String> {
    word.and_then(|word| word.into_string().ok())
}

/// The value of an option, `--name value` or `--name=value`.
fn option(words: &[OsString], names: &[&str]) -> Option<OsString> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(word) = word.to_str() else { continue };
        if names.contains(&word) {
            return words.next().cloned();
        }
        if let Some((name, value)) = word.split_once('=')
            && names.contains(&name)
        {
            return Some(OsString::from(value));
        }
    }
    None
}
