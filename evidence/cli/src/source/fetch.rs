//! Lists of an API server, page by page.

use std::fmt::Debug;

use kube::Api;
use kube::api::ListParams;
use serde::de::DeserializeOwned;

/// Objects of one page.
const PAGE: u32 = 100;
/// How often a list is begun again because the API server no longer knows where it was.
const BEGINNINGS: usize = 5;

/// Everything a list has, each object turned into what is wanted of it as its page arrives.
/// `seen` is told how many there are so far.
///
/// A page's place is forgotten after some minutes (410 Gone): then the list begins again, since
/// its rest would be of another moment.
pub(crate) async fn all<K, T>(
    api: &Api<K>,
    selection: &ListParams,
    mut wanted: impl FnMut(K) -> T,
    mut seen: impl FnMut(usize),
) -> Result<Vec<T>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut beginnings = 0;
    let mut found = Vec::new();
    let mut place = None;
    loop {
        let mut params = selection.clone().limit(PAGE);
        params.continue_token = place.take();
        match api.list(&params).await {
            Ok(page) => {
                place = page.metadata.continue_.filter(|token| !token.is_empty());
                found.extend(page.items.into_iter().map(&mut wanted));
                seen(found.len());
                if place.is_none() {
                    return Ok(found);
                }
            }
            Err(kube::Error::Api(status)) if status.code == 410 && beginnings < BEGINNINGS => {
                beginnings += 1;
                found.clear();
            }
            Err(error) => return Err(error),
        }
    }
}
