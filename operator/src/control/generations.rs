//! Numbers for snapshots: one grows with every change of a pod's content, and two replicas, or
//! one before and after a restart, never give different contents one number.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use super::snapshot::Content;

/// Bits below the milliseconds, drawn at random.
const RANDOM_BITS: u32 = 20;
/// Most pods remembered; past it those that no stream holds are forgotten, which costs them one
/// snapshot more than needed.
const MOST: usize = 8 * 1024;

/// What each pod, by UID, was given last.
#[derive(Debug, Default)]
pub(super) struct Generations {
    last: Mutex<HashMap<String, (u64, Arc<Content>)>>,
}

impl Generations {
    /// The generation of this content for a pod that has the generation `known`, maybe from
    /// another replica. Equal to `known` only if the content is the same.
    pub(super) fn assign(
        &self,
        uid: &str,
        content: Content,
        known: Option<u64>,
    ) -> (u64, Arc<Content>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.unwrap_or_default();
        let previous = match last.get(uid) {
            Some((generation, held)) if **held == content && *generation >= known => {
                return (*generation, held.clone());
            }
            Some((generation, _)) => *generation,
            None => 0,
        };
        let generation = fresh().max(previous.max(known).saturating_add(1));
        if last.len() >= MOST {
            last.retain(|_, (_, content)| Arc::strong_count(content) > 1);
        }
        let content = Arc::new(content);
        last.insert(uid.to_owned(), (generation, content.clone()));
        (generation, content)
    }
}

/// Milliseconds and random bits: no other replica has the same number for another content.
fn fresh() -> u64 {
    let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
    let mut random = [0; 4];
    // Without randomness the milliseconds must do.
    let _ = aws_lc_rs::rand::fill(&mut random);
    let random = u64::from(u32::from_be_bytes(random) >> (32 - RANDOM_BITS));
    (now << RANDOM_BITS) | random
}
