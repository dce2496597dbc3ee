//! Who sends a request, as the API server says: what resources are stamped with.

use super::Request;

/// Most groups that a stamp has, as the schemas bound them.
pub(super) const MOST_GROUPS: usize = 64;
/// Longest name of a person or group there.
const LONGEST_NAME: usize = 253;

/// The caller's name, where it is one that fits.
pub(super) fn name(request: &Request) -> Option<String> {
    let name = request.user_info.username.clone().unwrap_or_default();
    (!name.is_empty() && name.chars().count() <= LONGEST_NAME).then_some(name)
}

/// The caller's groups; those that count first, since a person may have more than fit.
pub(super) fn groups(request: &Request, counting: &[String]) -> Vec<String> {
    let all = request.user_info.groups.as_deref().unwrap_or_default();
    chosen(all, counting)
}

pub(super) fn chosen(all: &[String], counting: &[String]) -> Vec<String> {
    let fits = |group: &&String| !group.is_empty() && group.chars().count() <= LONGEST_NAME;
    let (mut first, rest): (Vec<&String>, Vec<&String>) = all
        .iter()
        .filter(fits)
        .partition(|group| counting.contains(group));
    first.extend(rest);
    first.into_iter().take(MOST_GROUPS).cloned().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn the_groups_that_count_are_kept_when_there_are_too_many() {
        let many: Vec<String> = (0..100).map(|number| format!("g{number}")).collect();
        let kept = chosen(&many, &["g99".to_owned()]);
        assert_eq!(kept.len(), MOST_GROUPS);
        assert_eq!(kept[0], "g99");
    }
}
