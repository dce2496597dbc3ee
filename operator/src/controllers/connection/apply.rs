//! Logs in to the target as sidecars will, and looks at what it got. An HTTP API is only reached:
//! no request is without effect for certain, so none is sent.

use std::collections::BTreeSet;
use std::time::Duration;

use chaperone_crds::{ConditionReason, ConditionType, SqlEffect};
use chaperone_policy::Reason;
use chaperone_postgres::server::{
    AuthenticationMethod, ConnectOptions, Credential, Examination, Privileges, QueryError, Target,
    connect, share_process,
};
use chaperone_wire::{Resolver, TlsClient};
use tokio::time::Instant;

use super::validate::Trial;
use crate::controllers::conditions::Finding;
use crate::target::{self, Upstream};

/// Longest one login and its questions may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// The oldest PostgreSQL that is supported.
const OLDEST: u32 = 130_000;

/// The versions of HTTP that sidecars speak, by their names in TLS (RFC 7301).
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a trial found.
#[derive(Debug, Clone)]
pub(super) enum Probe {
    /// There was none.
    Failed {
        /// Why.
        reason: ConditionReason,
        /// The target's words or ours, never with a credential.
        message: String,
    },
    /// There was.
    LoggedIn {
        /// Who and what answered.
        examination: Examination,
        /// Two sessions shared one server process.
        shared_process: bool,
        /// It let us in without asking for anything.
        open_to_all: bool,
    },
    /// There is somebody, and with TLS it is who it should be.
    Reached {
        /// How it is spoken to.
        how: &'static str,
    },
}

/// Logs in and asks, or reaches the target.
pub(super) async fn probe(resolver: &Resolver, trial: &Trial, allow_special: bool) -> Probe {
    let tried = match &trial.upstream {
        Upstream::Postgres { target, credential } => {
            look(resolver, target, credential, allow_special).await
        }
        Upstream::Other { host, port, tls } => {
            reach(resolver, (host, *port), tls, allow_special).await
        }
    };
    match tried {
        Ok(probe) => probe,
        Err(probe) => probe,
    }
}

async fn reach(
    resolver: &Resolver,
    (host, port): (&str, u16),
    tls: &TlsClient,
    allow_special: bool,
) -> Result<Probe, Probe> {
    let deadline = Instant::now() + DEADLINE;
    let special = target::special(allow_special);
    let tcp = chaperone_wire::connect(resolver, host, port, special, deadline)
        .await
        .map_err(|error| failed(error.reason(), &error))?;
    let speaking = tls.clone().speaking(&HTTP);
    let stream = speaking
        .handshake(tcp, host, deadline)
        .await
        .map_err(|error| failed(error.reason(), &error))?;
    let how = match (stream.is_tls(), stream.application_protocol()) {
        (false, _) => "it answers without TLS",
        (true, Some(b"h2")) => "it proves to be itself, and speaks HTTP/2",
        (true, _) => "it proves to be itself",
    };
    Ok(Probe::Reached { how })
}

async fn look(
    resolver: &Resolver,
    target: &Target,
    credential: &Credential,
    allow_special: bool,
) -> Result<Probe, Probe> {
    let deadline = Instant::now() + DEADLINE;
    let options = ConnectOptions {
        allow_special: target::special(allow_special),
        allow_md5: false,
        allow_cleartext: false,
        deadline,
    };
    let open = async || {
        connect(resolver, target, credential, &[], &options)
            .await
            .map_err(|error| failed(error.reason(), &error))
    };
    let unanswered = |error: QueryError| failed(error.reason(), &error);
    let mut first = open().await?;
    let examination = first.examine(deadline).await.map_err(unanswered)?;
    let open_to_all =
        first.authentication == AuthenticationMethod::None && !target.tls.has_identity();
    let mut shared_process = false;
    // A server process other than the one we were told of is a pooler's. One that gives two
    // sessions the same process gives a process away between transactions.
    if examination.backend_pid != first.backend_pid {
        let mut second = open().await?;
        shared_process = share_process(&mut first, &mut second, deadline)
            .await
            .map_err(unanswered)?;
    }
    Ok(Probe::LoggedIn {
        examination,
        shared_process,
        open_to_all,
    })
}

fn failed(reason: Reason, why: &impl std::fmt::Display) -> Probe {
    Probe::Failed {
        reason: of_condition(reason),
        message: why.to_string(),
    }
}

/// The reason of a failed login, as conditions name it: the same string.
fn of_condition(reason: Reason) -> ConditionReason {
    ConditionReason::ALL
        .iter()
        .copied()
        .find(|known| known.as_str() == reason.as_str())
        .unwrap_or(ConditionReason::TargetUnreachable)
}

impl Probe {
    /// What the login says about the Connection, where policies allow these effects.
    pub(super) fn finding(&self, allowed: &Option<BTreeSet<SqlEffect>>) -> Finding {
        let kind = ConditionType::Reachable;
        let (examination, shared_process, open_to_all) = match self {
            Probe::Failed { reason, message } => return Finding::bad(kind, *reason, message),
            Probe::Reached { how } => {
                return Finding::good(kind, ConditionReason::Reachable, *how);
            }
            Probe::LoggedIn {
                examination,
                shared_process,
                open_to_all,
            } => (examination, *shared_process, *open_to_all),
        };
        let version = version(examination.version);
        if examination.version < OLDEST {
            let message = format!("PostgreSQL {version} is too old; 13 and newer are supported");
            return Finding::bad(kind, ConditionReason::Unsupported, message);
        }
        if shared_process {
            return Finding::bad(
                kind,
                ConditionReason::TransactionPooler,
                "a pooler in transaction mode stands before the database, where a session's \
                 settings are not its own; name the database itself, or set the pooler to \
                 session mode",
            );
        }
        if open_to_all {
            return Finding::good(
                kind,
                ConditionReason::BypassPossible,
                format!(
                    "PostgreSQL {version} lets in whoever reaches it, without a password: the \
                     sidecar keeps nobody away; have it ask for SCRAM"
                ),
            );
        }
        let wide = wider(&examination.privileges, allowed.as_ref());
        if !wide.is_empty() {
            return Finding::good(
                kind,
                ConditionReason::PrivilegesWide,
                format!(
                    "PostgreSQL {version}; the role {} though no rule needs it: give the sidecar \
                     a role of its own that can do no more than the rules allow",
                    wide.join(", ")
                ),
            );
        }
        Finding::good(
            kind,
            ConditionReason::Reachable,
            format!("PostgreSQL {version}"),
        )
    }
}

/// What the role may do that no rule lets through, each as a verb and its object.
fn wider(role: &Privileges, allowed: Option<&BTreeSet<SqlEffect>>) -> Vec<String> {
    let mut wide = Vec::new();
    let mut add = |may: bool, what: &str| {
        if may {
            wide.push(what.to_owned());
        }
    };
    add(role.superuser, "is superuser");
    // A superuser may do all of what follows.
    if !role.superuser {
        let privilege = allowed.is_some_and(|allowed| allowed.contains(&SqlEffect::Privilege));
        add(role.create_role && !privilege, "may make roles");
        add(role.replication, "may read the write-ahead log");
        add(role.bypass_row_security, "bypasses row security");
        for strong in &role.strong_roles {
            add(true, &format!("is in {strong}"));
        }
        if let Some(allowed) = allowed {
            let none =
                |effects: &[SqlEffect]| effects.iter().all(|effect| !allowed.contains(effect));
            add(role.select && none(&[SqlEffect::Read]), "may read tables");
            add(
                role.insert && none(&[SqlEffect::Write, SqlEffect::BulkLoad]),
                "may insert",
            );
            add(role.update && none(&[SqlEffect::Modify]), "may update");
            add(role.delete && none(&[SqlEffect::Delete]), "may delete");
            add(
                role.create && none(&[SqlEffect::SchemaCreate]),
                "may create objects",
            );
            add(
                role.owns && none(&[SqlEffect::SchemaAlter, SqlEffect::SchemaDestroy]),
                "owns tables",
            );
        }
    }
    wide
}

/// `server_version_num` as people say it (PostgreSQL documentation, section 32.2).
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged_in(privileges: Privileges) -> Probe {
        Probe::LoggedIn {
            examination: Examination {
                version: 160_004,
                backend_pid: 7,
                privileges,
            },
            shared_process: false,
            open_to_all: false,
        }
    }

    fn reader() -> Privileges {
        Privileges {
            select: true,
            ..Privileges::default()
        }
    }

    #[test]
    fn a_role_as_wide_as_the_rules_is_no_warning() {
        let allowed = Some(BTreeSet::from([SqlEffect::Read]));
        let finding = logged_in(reader()).finding(&allowed);
        assert_eq!((finding.good, finding.reason.as_str()), (true, "Reachable"));
        assert_eq!(finding.message, "PostgreSQL 16.4");
    }

    #[test]
    fn privileges_that_no_rule_needs_are_named() {
        let allowed = Some(BTreeSet::from([SqlEffect::Read]));
        let role = Privileges {
            update: true,
            owns: true,
            strong_roles: vec!["pg_read_server_files".to_owned()],
            ..reader()
        };
        let finding = logged_in(role.clone()).finding(&allowed);
        assert_eq!(
            (finding.good, finding.reason.as_str()),
            (true, "PrivilegesWide")
        );
        for part in ["may update", "owns tables", "pg_read_server_files"] {
            assert!(finding.message.contains(part), "{}", finding.message);
        }
        // Before any policy names it, only what no rule ever needs is said.
        let finding = logged_in(role).finding(&None);
        assert!(
            !finding.message.contains("may update"),
            "{}",
            finding.message
        );
        let finding = logged_in(reader()).finding(&None);
        assert_eq!(finding.reason, "Reachable");
    }

    #[test]
    fn a_pooler_in_transaction_mode_and_an_old_server_are_not_reachable() {
        let mut probe = logged_in(reader());
        if let Probe::LoggedIn { shared_process, .. } = &mut probe {
            *shared_process = true;
        }
        let finding = probe.finding(&None);
        assert_eq!(
            (finding.good, finding.reason.as_str()),
            (false, "TransactionPooler")
        );
        let mut probe = logged_in(reader());
        if let Probe::LoggedIn { examination, .. } = &mut probe {
            examination.version = 120_022;
        }
        assert_eq!(probe.finding(&None).reason, "Unsupported");
    }

    #[test]
    fn reasons_of_a_failed_login_are_the_same_string_in_the_condition() {
        for reason in [
            Reason::TargetUnreachable,
            Reason::TargetAuthentication,
            Reason::TargetTls,
            Reason::TargetRefused,
            Reason::TargetProtocol,
            Reason::RefNotFound,
        ] {
            assert_eq!(of_condition(reason).as_str(), reason.as_str());
        }
    }
}
