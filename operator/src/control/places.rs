//! How many of something each pod has at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use chaperone_crds::ConditionReason;

use super::refused::Refused;

/// Places of each pod, by UID. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// What is counted, in the plural.
    what: &'static str,
    most: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

impl Places {
    pub(super) fn new(what: &'static str, most: usize) -> Places {
        Places {
            what,
            most,
            taken: Arc::default(),
        }
    }

    /// Takes one, until it is dropped.
    pub(super) fn take(&self, uid: &str) -> Result<Place, Refused> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(uid.to_owned()).or_default();
        if *count >= self.most {
            return Err(Refused::new(
                StatusCode::TOO_MANY_REQUESTS,
                ConditionReason::LimitExceeded,
                format!(
                    "this pod has {} {} at once; end one first",
                    self.most, self.what
                ),
            ));
        }
        *count = count.saturating_add(1);
        Ok(Place {
            places: self.clone(),
            uid: uid.to_owned(),
        })
    }
}

/// One of a pod's places, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    uid: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_place_is_given_back_and_no_pod_takes_anothers() {
        let places = Places::new("streams", 2);
        let held = (places.take("a").unwrap(), places.take("a").unwrap());
        places.take("a").expect_err("a third");
        places.take("b").unwrap();
        drop(held);
        places.take("a").unwrap();
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
