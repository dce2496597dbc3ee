//! Row 11: reviews. The webhook that stamps them is the operator's; here is what holds without it.

use crate::cases::{Cases, OPERATOR, create, role, run, with};

#[test]
fn approving_is_a_kubectl_patch() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let shop = cases.namespace("approvals", &[]);
    let data = cases.namespace("approvals-data", &[]);
    for user in [
        "alice",
        "bob",
        "carol",
        "system:serviceaccount:approvals:agent",
        "system:serviceaccount:approvals:dba",
    ] {
        let binding = [
            "create",
            "rolebinding",
            &user.replace(':', "-"),
            "--clusterrole=chaperone-approver",
            &format!("--user={user}"),
        ]
        .map(str::to_owned);
        run(&with(binding.clone().into(), &["-n", &shop]), "").expect("a binding");
        if user != "carol" {
            run(&with(binding.into(), &["-n", &data]), "").expect("a binding");
        }
    }
    let request = |reviews: &str| {
        format!(
            r#"{{
        "apiVersion": "chaperone.dev/v1alpha1", "kind": "ApprovalRequest", "metadata": {{"name": "ar"}},
        "spec": {{
          "connection": "{data}/orders-db",
          "subject": {{"namespace": "{shop}", "serviceAccount": "agent", "delegate": {{"provider": "corp", "username": "bob"}}}},
          "rule": {{"policy": "{shop}/p", "name": "r", "digest": "00"}},
          "operation": {{"summary": "DELETE", "command": "DELETE FROM t", "digest": "00"}},
          "approvers": {{"users": ["bob", "carol", "system:serviceaccount:approvals:dba"], "groups": ["dba"]}}, "quorum": 2,
          "expiresAt": "2099-01-01T00:00:00Z", "validFor": "15m" {reviews}
        }}}}"#
        )
    };
    let review = |who: &str, groups: &str| {
        format!(
            r#"{{"reviewer": "{who}", "groups": {groups}, "verdict": "Approve", "at": "2026-01-01T00:00:00Z"}}"#
        )
    };
    let alice_review = review("alice", r#"["dba"]"#);
    let operator = format!("--as={OPERATOR}");

    // Only the operator makes one, and without reviews.
    cases.passes(
        "made by the operator",
        &with(create(&shop), &[&operator]),
        &request(""),
    );
    cases.refuses(
        "made by an admin",
        &create(&shop),
        &request(""),
        "written by chaperone-operator alone",
    );
    cases.refuses(
        "made with a review",
        &with(create(&shop), &[&operator]),
        &request(&format!(r#", "reviews": [{alice_review}]"#)),
        "neither decision nor reviews",
    );
    cases.refuses(
        "made with a decision",
        &with(create(&shop), &[&operator]),
        &request(r#", "decision": {"verdict": "Approve"}"#),
        "neither decision nor reviews",
    );
    run(
        &[
            "-n".to_owned(),
            shop.clone(),
            "create".to_owned(),
            "-f".to_owned(),
            "-".to_owned(),
            operator.clone(),
        ],
        &request(""),
    )
    .expect("a request");

    let patch_as = |who: &[&str], kind: &str, patch: &str| {
        let mut all: Vec<String> = [
            "-n",
            &shop,
            "patch",
            "approvalrequest",
            "ar",
            "--dry-run=server",
        ]
        .map(str::to_owned)
        .into();
        all.push(format!("--type={kind}"));
        all.extend(who.iter().map(|argument| (*argument).to_owned()));
        all.extend(["-p".to_owned(), patch.to_owned()]);
        all
    };
    let merge = |who: &[&str], patch: &str| patch_as(who, "merge", patch);
    let reviews =
        |entries: &[&str]| format!(r#"{{"spec": {{"reviews": [{}]}}}}"#, entries.join(", "));
    let alice = ["--as=alice", "--as-group=dba", "--as-group=staff"];

    // What the webhook makes of a decision, and what it would be without one.
    cases.passes(
        "a stamped review",
        &merge(&alice, &reviews(&[&alice_review])),
        "",
    );
    cases.passes(
        "a stamped review, as a JSON patch",
        &patch_as(
            &alice,
            "json",
            &format!(r#"[{{"op": "add", "path": "/spec/reviews", "value": [{alice_review}]}}]"#),
        ),
        "",
    );
    cases.refuses(
        "a decision that nobody stamped",
        &merge(&alice, r#"{"spec": {"decision": {"verdict": "Approve"}}}"#),
        "",
        "was not turned into a review",
    );
    // Forged.
    let forged = "in the name and with the groups of whoever sends it";
    cases.refuses(
        "in another's name",
        &merge(&alice, &reviews(&[&review("carol", r#"["dba"]"#)])),
        "",
        forged,
    );
    cases.refuses(
        "with a group that she has not",
        &merge(
            &alice,
            &reviews(&[&review("alice", r#"["dba", "system:masters"]"#)]),
        ),
        "",
        forged,
    );
    cases.refuses(
        "two at once",
        &merge(&alice, &reviews(&[&alice_review, &review("carol", "[]")])),
        "",
        "adds one entry",
    );
    cases.refuses(
        "an admin's in her name",
        &merge(&[], &reviews(&[&alice_review])),
        "",
        forged,
    );
    // Another request than was asked. The operator has no right to patch any; were it given one, it
    // could not use it.
    role(
        &shop,
        "operator",
        OPERATOR,
        &["patch approvalrequests.chaperone.dev"],
    );
    for (field, value) in CHANGES {
        let patch = format!(r#"{{"spec": {{"reviews": [{alice_review}], "{field}": {value}}}}}"#);
        cases.refuses(
            &format!("{field} CHANGES"),
            &merge(&alice, &patch),
            "",
            field,
        );
        let patch = format!(r#"{{"spec": {{"{field}": {value}}}}}"#);
        cases.refuses(
            &format!("{field} CHANGES by the operator"),
            &merge(&[&operator], &patch),
            "",
            "",
        );
    }
    cases.refuses("a label beside it", &merge(&alice, &format!(r#"{{"metadata": {{"labels": {{"a": "b"}}}}, "spec": {{"reviews": [{alice_review}]}}}}"#)), "", "changes no labels");
    cases.refuses(
        "a label alone",
        &merge(&alice, r#"{"metadata": {"labels": {"a": "b"}}}"#),
        "",
        "changes no labels",
    );
    cases.refuses(
        "an owner",
        &merge(&alice, r#"{"metadata": {"finalizers": ["a.example/b"]}}"#),
        "",
        "changes no labels",
    );
    cases.passes("nothing", &merge(&alice, r#"{"spec": {"quorum": 2}}"#), "");
    // Who may.
    cases.refuses(
        "the verb is missing",
        &merge(&["--as=carol"], &reviews(&[&review("carol", "[]")])),
        "",
        &format!("You need the verb approve on the Connection {data}/orders-db"),
    );
    cases.refuses("not among the approvers", &merge(&["--as=alice"], &reviews(&[&review("alice", "[]")])), "", "the users bob, carol, system:serviceaccount:approvals:dba or the groups dba, and you (alice) are none");
    cases.refuses(
        "on whose behalf it runs",
        &merge(&["--as=bob"], &reviews(&[&review("bob", "[]")])),
        "",
        "somebody else has to review",
    );
    cases.refuses(
        "the agent itself",
        &merge(
            &["--as=system:serviceaccount:approvals:agent"],
            &reviews(&[&review("system:serviceaccount:approvals:agent", "[]")]),
        ),
        "",
        "service account cannot review",
    );
    cases.refuses(
        "any service account",
        &merge(
            &["--as=system:serviceaccount:approvals:dba"],
            &reviews(&[&review("system:serviceaccount:approvals:dba", "[]")]),
        ),
        "",
        "service account cannot review",
    );
    cases.refuses(
        "the operator",
        &merge(&[&operator], &reviews(&[&review(OPERATOR, "[]")])),
        "",
        "changes nothing of a request but its status",
    );
    cases.refuses(
        "nobody with a role",
        &merge(
            &["--as=eve", "--as-group=dba"],
            &reviews(&[&review("eve", "[\"dba\"]")]),
        ),
        "",
        "cannot get resource",
    );
    // Twice.
    run(
        &merge(&alice, &reviews(&[&alice_review]))
            .into_iter()
            .filter(|argument| argument != "--dry-run=server")
            .collect::<Vec<_>>(),
        "",
    )
    .expect("a review");
    let later = alice_review.replace("2026-01-01", "2026-01-02");
    cases.refuses(
        "the same person twice",
        &merge(&alice, &reviews(&[&later])),
        "",
        "You have reviewed this request",
    );
    cases.refuses(
        "the same person taking it back",
        &merge(&alice, &reviews(&[])),
        "",
        "You have reviewed this request",
    );
    role(
        &shop,
        "dora",
        "dora",
        &["get,patch approvalrequests.chaperone.dev"],
    );
    role(
        &data,
        "dora",
        "dora",
        &["approve connections.chaperone.dev --resource-name=orders-db"],
    );
    let dora = ["--as=dora", "--as-group=dba"];
    let dora_review = review("dora", r#"["dba"]"#);
    cases.passes(
        "a second person",
        &merge(&dora, &reviews(&[&alice_review, &dora_review])),
        "",
    );
    cases.refuses(
        "instead of the first",
        &merge(&dora, &reviews(&[&dora_review])),
        "",
        "adds one entry",
    );
    cases.refuses(
        "the first one altered",
        &merge(&dora, &reviews(&[&later, &dora_review])),
        "",
        "adds one entry",
    );
    // How far it is.
    let status = |who: &[&str], phase: &str| {
        let mut all = patch_as(
            who,
            "merge",
            &format!(r#"{{"status": {{"phase": "{phase}"}}}}"#),
        );
        all.push("--subresource=status".to_owned());
        all
    };
    cases.refuses(
        "status by a person",
        &status(&[], "Approved"),
        "",
        "written by chaperone-operator alone",
    );
    cases.passes(
        "status by the operator",
        &status(&[&operator], "Approved"),
        "",
    );
    run(
        &status(&[&operator], "Consumed")
            .into_iter()
            .filter(|argument| argument != "--dry-run=server")
            .collect::<Vec<_>>(),
        "",
    )
    .expect("a status");
    cases.refuses(
        "over",
        &merge(&dora, &reviews(&[&alice_review, &dora_review])),
        "",
        "This request is over: Consumed",
    );
    cases.done();
}

/// Everything but a review.
const CHANGES: &[(&str, &str)] = &[
    ("connection", r#""x/y""#),
    ("quorum", "1"),
    ("purpose", r#""p""#),
    ("validFor", r#""99h""#),
    ("expiresAt", r#""2100-01-01T00:00:00Z""#),
    ("operation", r#"{"command": "SELECT 1"}"#),
    ("operation", r#"{"digest": "11"}"#),
    ("subject", r#"{"serviceAccount": "other"}"#),
    ("subject", r#"{"delegate": null}"#),
    ("rule", r#"{"name": "s"}"#),
    ("approvers", r#"{"users": ["alice"]}"#),
];
