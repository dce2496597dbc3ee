//! The packets before the login.

use bytes::BytesMut;
use chaperone_postgres::codec::{Initial, Startup, StartupError, encode, startup as packet};

use crate::frames::cuts;

/// A client's first bytes.
pub fn startup(data: &[u8]) {
    let (whole, rest) = read(&[data]);
    // What follows a request for encryption is refused only if it is there already.
    if whole != Err(StartupError::BytesBeforeEncryption) {
        for at in cuts(data.len()) {
            let (before, after) = data.split_at_checked(at).unwrap_or((data, &[]));
            assert_eq!(read(&[before, after]).0, whole, "cut at {at}");
        }
    }
    match whole {
        Ok(Some(Initial::Startup(startup))) => {
            assert_eq!(startup.raw.len() + rest, data.len());
            assert!(data.starts_with(&startup.raw));
            again(&startup);
        }
        Ok(Some(Initial::Cancel(cancel))) => {
            let written = encode::cancel_request(cancel.pid, &cancel.key);
            assert!(
                data.starts_with(&written),
                "a cancel request is not what came"
            );
        }
        Ok(Some(Initial::SslRequest | Initial::GssEncRequest)) => assert_eq!(rest, 0),
        Ok(None) | Err(_) => {}
    }
}

/// What was understood, written again, is understood as the same.
fn again(startup: &Startup) {
    let said: usize = startup
        .settings
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert!(said <= startup.raw.len(), "more settings than bytes");
    let mut parameters = vec![("user", startup.user.as_str())];
    parameters.extend(startup.database.as_deref().map(|name| ("database", name)));
    parameters.extend(
        startup
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    parameters.extend(
        startup
            .protocol_options
            .iter()
            .map(|name| (name.as_str(), "")),
    );
    let mut written = BytesMut::new();
    encode::startup(&mut written, parameters);
    match packet::next(&mut written) {
        Ok(Some(Initial::Startup(read))) => {
            assert_eq!(
                (
                    &read.user,
                    &read.database,
                    &read.settings,
                    &read.protocol_options
                ),
                (
                    &startup.user,
                    &startup.database,
                    &startup.settings,
                    &startup.protocol_options
                )
            );
        }
        // `options` may set what the packet sets too, the last one wins; a packet may not. It may
        // also name what only the packet itself can say, which the policy judges as a setting.
        Err(
            StartupError::Duplicate { .. } | StartupError::Replication | StartupError::Name { .. },
        ) => {}
        // Half a packet of one-letter options is longer written out.
        Err(StartupError::Length { .. }) => {}
        other => panic!("{startup:?} was read again as {other:?}"),
    }
}

fn read(pieces: &[&[u8]]) -> (Result<Option<Initial>, StartupError>, usize) {
    let mut buffer = BytesMut::new();
    let mut answer = Ok(None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if answer == Ok(None) {
            answer = packet::next(&mut buffer);
        }
    }
    (answer, buffer.len())
}
