//! All evidence in one pass, store by store.

use std::collections::VecDeque;

use chaperone_evidence::{Place, Scan, Scanned, StoreError, Summaries, recent, scan, summaries};

use super::{Evidence, Found};
use crate::error::CliError;
use crate::output::complain;

/// Opens a store's records or sessions.
type Open<I> = fn(Place) -> Result<I, StoreError>;

/// A pass that may have to leave sessions out.
trait Pass {
    /// How many, because they are sealed and nothing opens them.
    fn passed_over(&self) -> usize;
}

impl Pass for Scan {
    fn passed_over(&self) -> usize {
        self.sealed()
    }
}

impl Pass for Summaries {
    /// None: what is known of a sealed one is told.
    fn passed_over(&self) -> usize {
        0
    }
}

impl Evidence {
    /// Each session once it is known whole. Of a store those that ended come in the order in which
    /// they did, then the others.
    pub(crate) fn summaries(&self) -> impl Iterator<Item = Result<Found, CliError>> {
        self.found(summaries::<Place>)
    }

    /// Some of the newest sessions, read fast: for suggestions, not for answers.
    pub(crate) fn recent(&self) -> impl Iterator<Item = Result<Found, CliError>> {
        self.found(|dir| recent(dir, 16))
    }

    /// Every record but the streams', in the order of each store.
    pub(crate) fn records(&self) -> impl Iterator<Item = Result<Scanned, CliError>> {
        self.each::<Scan, _>(scan::<Place>)
            .map(|item| item.map(|(_, scanned)| scanned))
    }

    fn found(&self, open: Open<Summaries>) -> impl Iterator<Item = Result<Found, CliError>> {
        let views = match self {
            Evidence::Folder(_) => None,
            Evidence::Log(log) => Some(log.views()),
        };
        self.each(open).map(move |item| {
            item.map(|(dir, mut session)| {
                if let Some(views) = views {
                    views.fill(&mut session);
                }
                Found { session, dir }
            })
        })
    }

    fn each<I, T>(&self, open: Open<I>) -> Each<I>
    where
        I: Iterator<Item = Result<T, StoreError>> + Pass,
    {
        let stores = match self {
            Evidence::Folder(dir) => VecDeque::from([(dir.clone(), None)]),
            Evidence::Log(log) => log
                .stores()
                .iter()
                .map(|store| {
                    let pod = format!("{}/{}", store.pod.namespace, store.pod.name);
                    (Place::new(&store.dir, log.keys()), Some(pod))
                })
                .collect(),
        };
        Each {
            stores,
            open,
            at: None,
        }
    }
}

/// What all stores have, one after the other. A damaged one of many is complained about, and keeps
/// none of the others from being seen; where there is one, the damage is the answer.
struct Each<I> {
    stores: VecDeque<(Place, Option<String>)>,
    open: Open<I>,
    at: Option<(Place, Option<String>, I)>,
}

impl<I, T> Iterator for Each<I>
where
    I: Iterator<Item = Result<T, StoreError>> + Pass,
{
    type Item = Result<(Place, T), CliError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let failed = match &mut self.at {
                Some((dir, _, items)) => match items.next() {
                    Some(Ok(item)) => return Some(Ok((dir.clone(), item))),
                    Some(Err(error)) => Some(error),
                    None => None,
                },
                None => {
                    let (dir, pod) = self.stores.pop_front()?;
                    match (self.open)(dir.clone()) {
                        Ok(items) => {
                            self.at = Some((dir, pod, items));
                            continue;
                        }
                        Err(error) if pod.is_none() => return Some(Err(error.into())),
                        Err(error) => {
                            complain(&damaged(pod, &error));
                            continue;
                        }
                    }
                }
            };
            let (_, pod, items) = self.at.take()?;
            if items.passed_over() > 0 {
                complain(&sealed(pod.as_deref(), items.passed_over()));
            }
            if let Some(error) = failed {
                if pod.is_none() {
                    return Some(Err(error.into()));
                }
                complain(&damaged(pod, &error));
            }
        }
    }
}

fn sealed(pod: Option<&str>, count: usize) -> CliError {
    let of = pod.map_or_else(String::new, |pod| format!(" of pod {pod}"));
    CliError::Usage(format!(
        "{count} sealed session(s){of} are left out: nothing here opens them; give an auditor's key with --identity"
    ))
}

fn damaged(pod: Option<String>, error: &StoreError) -> CliError {
    CliError::Store {
        pod: pod.unwrap_or_default(),
        why: error.to_string(),
    }
}
