//! What counts as an approval, and what never does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

use std::time::Duration;

use chaperone_approvals::rules::{
    CLOCK_SKEW, Counted, Facts, MAX_REVIEWS, Phase, Requirement, ReviewerProof, Verdict, evaluate,
    refusal,
};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

const AUTH: ReviewerProof = ReviewerProof::Authenticated;
const LOCAL: ReviewerProof = ReviewerProof::LocalFolder;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn requirement(rule: &str, groups: &[&str], quorum: u32) -> Requirement {
    Requirement {
        rule: rule.to_owned(),
        users: vec!["carol".to_owned()],
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        quorum,
    }
}

fn review(reviewer: &str, groups: &[&str], verdict: Verdict, seconds: i64) -> Counted {
    Counted {
        reviewer: reviewer.to_owned(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        verdict,
        reason: String::new(),
        at: at(seconds),
        authenticated: true,
    }
}

fn approve(reviewer: &str, seconds: i64) -> Counted {
    review(reviewer, &["dba"], Verdict::Approve, seconds)
}

/// Made at 0, open until 600, redeemable for 300; the `dba` group reviews.
fn facts(quorum: u32, reviews: Vec<Counted>) -> Facts {
    Facts {
        namespace: "shop".to_owned(),
        service_account: "report-agent".to_owned(),
        delegate: Some("alice".to_owned()),
        requirements: vec![requirement("shop/report/deletes", &["dba"], quorum)],
        reviews,
        created_at: at(0),
        expires_at: at(600),
        valid_for: Duration::from_secs(300),
        consumed_at: None,
        cancelled_at: None,
    }
}

fn phase(facts: &Facts, seconds: i64) -> Phase {
    evaluate(facts, AUTH, at(seconds)).phase
}

#[test]
fn one_approver_grants_a_quorum_of_one() {
    let facts = facts(1, vec![approve("bob", 10)]);
    let evaluation = evaluate(&facts, AUTH, at(11));
    assert_eq!(evaluation.phase, Phase::Approved);
    assert_eq!(evaluation.approved_at, Some(at(10)));
    assert_eq!(evaluation.open_until, at(310));
    assert_eq!(
        evaluation.progress,
        [("shop/report/deletes".to_owned(), 1, 1)]
    );
}

#[test]
fn the_same_reviewer_twice_counts_once() {
    let twice = facts(2, vec![approve("bob", 10), approve("bob", 20)]);
    assert_eq!(phase(&twice, 30), Phase::Pending);
    let two = facts(2, vec![approve("bob", 10), approve("dave", 20)]);
    let evaluation = evaluate(&two, AUTH, at(30));
    assert_eq!(evaluation.phase, Phase::Approved);
    assert_eq!(evaluation.approved_at, Some(at(20)));
}

#[test]
fn one_deny_ends_it_before_and_after_the_quorum() {
    for seconds in [5, 20] {
        let denied = facts(
            1,
            vec![
                approve("bob", 10),
                review("dave", &["dba"], Verdict::Deny, seconds),
            ],
        );
        let evaluation = evaluate(&denied, AUTH, at(30));
        assert_eq!(evaluation.phase, Phase::Denied);
        assert_eq!(evaluation.ended_at, Some(at(seconds)));
    }
}

#[test]
fn a_stranger_neither_grants_nor_denies() {
    let strangers = facts(
        1,
        vec![
            review("mallory", &["sales"], Verdict::Approve, 10),
            review("eve", &[], Verdict::Deny, 11),
        ],
    );
    let evaluation = evaluate(&strangers, AUTH, at(30));
    assert_eq!(evaluation.phase, Phase::Pending);
    assert_eq!(evaluation.ignored.len(), 2);
    assert!(evaluation.ignored[0].1.contains("group dba, user carol"));
}

#[test]
fn nobody_approves_himself() {
    let own = "system:serviceaccount:shop:report-agent";
    for reviewer in [own, "alice", "system:serviceaccount:other:admin"] {
        for proof in [AUTH, LOCAL] {
            let request = facts(1, vec![approve(reviewer, 10)]);
            assert_eq!(
                evaluate(&request, proof, at(20)).phase,
                Phase::Pending,
                "{reviewer} under {proof:?}"
            );
        }
    }
    // A service account known only by its group is one all the same.
    let groups = ["dba".to_owned(), "system:serviceaccounts:ci".to_owned()];
    assert!(refusal(&facts(1, vec![]), "robot", &groups, AUTH).is_some());
}

#[test]
fn local_reviewers_count_in_a_folder_and_nowhere_else() {
    let local = facts(1, vec![review("local:1000", &[], Verdict::Approve, 10)]);
    assert_eq!(evaluate(&local, LOCAL, at(20)).phase, Phase::Approved);
    assert_eq!(evaluate(&local, AUTH, at(20)).phase, Phase::Pending);
    for forged in [
        "bob",
        "local:",
        "local:root",
        "local:+1",
        "local:01",
        "local:1000x",
    ] {
        let forged = facts(1, vec![approve(forged, 10)]);
        assert_eq!(evaluate(&forged, LOCAL, at(20)).phase, Phase::Pending);
    }
}

#[test]
fn every_rule_needs_its_own_quorum() {
    let mut request = facts(1, vec![approve("bob", 10)]);
    request.requirements.push(requirement(
        "Connection databases/orders/pii",
        &["privacy"],
        2,
    ));
    assert_eq!(phase(&request, 20), Phase::Pending);
    request
        .reviews
        .push(review("erin", &["privacy", "dba"], Verdict::Approve, 30));
    assert_eq!(phase(&request, 40), Phase::Pending);
    request
        .reviews
        .push(review("frank", &["privacy"], Verdict::Approve, 50));
    let evaluation = evaluate(&request, AUTH, at(60));
    assert_eq!(evaluation.phase, Phase::Approved);
    assert_eq!(evaluation.approved_at, Some(at(50)));
    // Somebody whom both rules name counts for both.
    let mut both = facts(1, vec![review("carol", &[], Verdict::Approve, 10)]);
    both.requirements.push(requirement("other", &[], 1));
    assert_eq!(phase(&both, 20), Phase::Approved);
}

#[test]
fn an_unanswered_request_expires() {
    let request = facts(1, vec![]);
    assert_eq!(phase(&request, 599), Phase::Pending);
    let evaluation = evaluate(&request, AUTH, at(600));
    assert_eq!(evaluation.phase, Phase::Expired);
    assert_eq!(evaluation.ended_at, Some(at(600)));
}

#[test]
fn a_grant_is_valid_from_its_approval() {
    let request = facts(1, vec![approve("bob", 590)]);
    assert_eq!(phase(&request, 889), Phase::Approved);
    assert_eq!(phase(&request, 890), Phase::Expired);
}

#[test]
fn a_review_from_outside_the_requests_life_does_not_count() {
    for seconds in [-1, 600, 10_000] {
        let request = facts(1, vec![approve("bob", seconds)]);
        assert_ne!(phase(&request, 20), Phase::Approved, "{seconds}");
        assert_ne!(phase(&request, 10_001), Phase::Approved, "{seconds}");
    }
    let skewed = CLOCK_SKEW.as_secs().cast_signed();
    let ahead = facts(1, vec![approve("bob", 20 + skewed + 1)]);
    assert_eq!(phase(&ahead, 20), Phase::Pending);
    let close = facts(1, vec![approve("bob", 20 + skewed)]);
    assert_eq!(phase(&close, 20), Phase::Approved);
}

#[test]
fn what_has_run_stays_consumed_whatever_is_added() {
    let mut request = facts(1, vec![approve("bob", 10)]);
    request.consumed_at = Some(at(20));
    request.cancelled_at = Some(at(21));
    request
        .reviews
        .push(review("dave", &["dba"], Verdict::Deny, 30));
    assert_eq!(phase(&request, 40), Phase::Consumed);
    assert_eq!(phase(&request, 100_000), Phase::Consumed);
}

#[test]
fn a_damaged_request_grants_nothing() {
    let zero = facts(0, vec![]);
    assert_eq!(phase(&zero, 10), Phase::Pending);
    let mut none = facts(1, vec![approve("bob", 10)]);
    none.requirements.clear();
    assert_eq!(phase(&none, 20), Phase::Pending);
    let many: Vec<Counted> = (0..=MAX_REVIEWS)
        .map(|i| approve(&format!("user-{i}"), 10))
        .collect();
    let crowd = facts(u32::try_from(MAX_REVIEWS).unwrap() + 1, many);
    assert_eq!(phase(&crowd, 20), Phase::Pending);
}

fn any_review() -> impl Strategy<Value = Counted> {
    (
        prop::sample::select(vec!["bob", "carol", "dave", "alice", "mallory", "local:7"]),
        prop::sample::subsequence(vec!["dba", "privacy", "sales"], 0..=3),
        prop::bool::weighted(0.9),
        -10_i64..700,
    )
        .prop_map(|(reviewer, groups, yes, seconds)| {
            let verdict = if yes { Verdict::Approve } else { Verdict::Deny };
            review(reviewer, &groups, verdict, seconds)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn order_of_reviews_never_matters(
        reviews in prop::collection::vec(any_review(), 0..8),
        quorum in 1_u32..4,
        now in 0_i64..1_000,
        turn in 0_usize..8,
    ) {
        let straight = facts(quorum, reviews.clone());
        let mut turned = reviews;
        let middle = turn.min(turned.len());
        turned.rotate_left(middle);
        let turned = facts(quorum, turned);
        let (a, b) = (evaluate(&straight, AUTH, at(now)), evaluate(&turned, AUTH, at(now)));
        prop_assert_eq!(a.phase, b.phase);
        prop_assert_eq!(a.approved_at, b.approved_at);
        prop_assert_eq!(a.progress, b.progress);
    }

    #[test]
    fn approved_means_enough_distinct_approvers_and_no_deny(
        reviews in prop::collection::vec(any_review(), 0..8),
        quorum in 1_u32..4,
        now in 0_i64..1_000,
    ) {
        let request = facts(quorum, reviews);
        let evaluation = evaluate(&request, AUTH, at(now));
        if evaluation.phase == Phase::Approved {
            let mut names: Vec<_> = evaluation
                .reviews
                .iter()
                .filter(|r| r.reviewer != "alice" && (r.reviewer == "carol" || r.groups.contains(&"dba".to_owned())))
                .map(|r| r.reviewer.clone())
                .collect();
            names.sort();
            names.dedup();
            prop_assert!(names.len() >= quorum as usize);
            prop_assert!(evaluation.reviews.iter().all(|r| r.verdict == Verdict::Approve));
            let since = at(now).duration_since(evaluation.approved_at.unwrap());
            prop_assert!(since < SignedDuration::from_secs(300));
        }
    }

    #[test]
    fn raising_the_quorum_never_grants_more(
        reviews in prop::collection::vec(any_review(), 0..8),
        quorum in 1_u32..4,
        now in 0_i64..600,
    ) {
        let stricter = evaluate(&facts(quorum + 1, reviews.clone()), AUTH, at(now)).phase;
        if stricter == Phase::Approved {
            // Fewer approvals were complete earlier, so the grant may have run out already.
            let looser = evaluate(&facts(quorum, reviews), AUTH, at(now)).phase;
            prop_assert!(matches!(looser, Phase::Approved | Phase::Expired));
        }
    }
}
