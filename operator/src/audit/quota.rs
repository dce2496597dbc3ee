//! How full the store is. What is used is what the leader wrote into the status last, so a little
//! more than the quota may come in before everybody knows.

use chaperone_crds::AuditStore;

/// Share of the quota, in percent, from which on people are told.
const NEARLY: u64 = 80;

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// Nothing to say.
    Fine,
    /// Somebody should do something.
    NearlyFull,
    /// Nothing more is taken in.
    Full,
}

/// How full a store of `quota` bytes is with `used` of them.
pub(super) fn level(used: u64, quota: u64) -> Level {
    if used >= quota {
        return Level::Full;
    }
    match u128::from(used) * 100 >= u128::from(quota) * u128::from(NEARLY) {
        true => Level::NearlyFull,
        false => Level::Fine,
    }
}

/// What is used of what there is, in words.
pub(super) fn words(used: u64, quota: u64) -> String {
    let percent = (u128::from(used) * 100)
        .checked_div(u128::from(quota))
        .unwrap_or(100);
    format!("{used} of {quota} bytes are used ({percent} %)")
}

/// Why nothing more is taken in. A store whose leader has said nothing yet takes in all.
pub(super) fn refusal(store: &AuditStore) -> Option<String> {
    let used = store.status.as_ref()?.used_bytes;
    let quota = store.spec.quota.get();
    (level(used, quota) == Level::Full).then(|| {
        format!(
            "the audit store is full: {}; raise spec.quota of the AuditStore",
            words(used, quota)
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use chaperone_crds::{AuditStoreSpec, AuditStoreStatus, ByteSize};

    use super::*;

    #[test]
    fn levels_change_at_eighty_and_at_a_hundred_percent() {
        for (used, quota, expected) in [
            (0, 100, Level::Fine),
            (79, 100, Level::Fine),
            (80, 100, Level::NearlyFull),
            (99, 100, Level::NearlyFull),
            (100, 100, Level::Full),
            (101, 100, Level::Full),
            (0, 0, Level::Full),
            (u64::MAX - 1, u64::MAX, Level::NearlyFull),
        ] {
            assert_eq!(level(used, quota), expected, "{used} of {quota}");
        }
    }

    #[test]
    fn only_a_store_known_to_be_full_refuses() {
        let mut store = AuditStore::new(
            "default",
            AuditStoreSpec {
                quota: ByteSize::from_bytes(10),
                ..AuditStoreSpec::default()
            },
        );
        assert_eq!(refusal(&store), None);
        let used = |used_bytes| {
            Some(AuditStoreStatus {
                used_bytes,
                ..AuditStoreStatus::default()
            })
        };
        store.status = used(9);
        assert_eq!(refusal(&store), None);
        store.status = used(10);
        let why = refusal(&store).unwrap();
        assert!(why.contains("10 of 10 bytes"), "{why}");
    }
}
