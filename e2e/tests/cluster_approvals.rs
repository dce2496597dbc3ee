//! Approvals on a real Kubernetes: a human's patch lets through one command, once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use anyhow::Result;
use chaperone_e2e::cluster::chaperone::{RULES, Shop};
use chaperone_e2e::cluster::{Kubectl, unavailable};
use chaperone_e2e::issuer::{AUDIENCE, SigningKey, now};
use serde_json::{Value, json};

#[test]
fn approving_is_a_kubectl_patch() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("approved")?;
    shop.let_dba_approve()?;
    let pod = shop.agent("report")?;
    let delete = "DELETE FROM orders WHERE id = 7";
    let held = shop.psql(&pod, delete)?;
    assert!(held.err.contains("ApprovalPending"), "{}", held.all());
    assert!(
        held.err.contains("kubectl patch approvalrequest"),
        "{}",
        held.err
    );
    let name = shop.pending()?;
    let object = format!("approvalrequest/{name}");
    let yes = r#"{"spec":{"decision":{"verdict":"Approve","reason":"ticket 42"}}}"#;

    // Not by the agent, nor by who lacks the verb, nor in somebody else's name.
    let agent = format!(
        "system:serviceaccount:{}:report-agent",
        shop.namespace.name()
    );
    let as_agent = Kubectl::admin()
        .in_namespace(shop.namespace.name())
        .impersonating(&agent, &["dba", "system:serviceaccounts"]);
    let refused = as_agent.run(&["patch", &object, "--type=merge", "-p", yes])?;
    assert_ne!(
        refused.code,
        Some(0),
        "the agent approved itself: {}",
        refused.all()
    );
    let stranger = Kubectl::admin()
        .in_namespace(shop.namespace.name())
        .impersonating("mallory", &["system:authenticated"]);
    let refused = stranger.run(&["patch", &object, "--type=merge", "-p", yes])?;
    assert_ne!(refused.code, Some(0));
    let ada = shop.approver("ada");
    let forged = r#"{"spec":{"reviews":[{"reviewer":"bob","verdict":"Approve","at":"2026-01-01T00:00:00Z"}]}}"#;
    let refused = ada.run(&["patch", &object, "--type=merge", "-p", forged])?;
    assert_ne!(
        refused.code,
        Some(0),
        "a forged review was taken: {}",
        refused.all()
    );
    let changed =
        r#"[{"op":"replace","path":"/spec/operation/command","value":"DROP TABLE orders"}]"#;
    let refused = ada.run(&["patch", &object, "--type=json", "-p", changed])?;
    assert_ne!(
        refused.code,
        Some(0),
        "the request was changed: {}",
        refused.all()
    );

    // A dry run changes nothing.
    ada.ok(&[
        "patch",
        &object,
        "--type=merge",
        "-p",
        yes,
        "--dry-run=server",
    ])?;
    let still = shop.psql(&pod, delete)?;
    assert!(still.err.contains("ApprovalPending"), "{}", still.all());

    ada.ok(&["patch", &object, "--type=merge", "-p", yes])?;
    shop.namespace.until("the grant", || {
        let request = shop.namespace.kubectl().json(&[object.as_str()])?;
        let phase = request.pointer("/status/phase").and_then(Value::as_str);
        Ok((phase == Some("Approved")).then_some(()))
    })?;
    let request = shop.namespace.kubectl().json(&[object.as_str()])?;
    assert_eq!(request["spec"]["reviews"][0]["reviewer"], "ada");
    assert!(request["spec"].get("decision").is_none(), "{request}");

    // Another byte is another command; this one runs once.
    let other = shop.psql(&pod, "DELETE FROM orders WHERE id = 8")?;
    assert!(other.err.contains("ApprovalPending"), "{}", other.all());
    let done = shop.psql(&pod, delete)?;
    assert_eq!(done.out.trim(), "DELETE 1", "{}", done.all());
    let again = shop.psql(&pod, delete)?;
    assert!(again.err.contains("ApprovalPending"), "{}", again.all());
    Ok(())
}

/// The agent brings a token of the person for whom it acts. Whoever may approve may not approve
/// that, and what another approves is for that person's session alone.
#[test]
fn nobody_approves_what_is_done_in_his_own_name() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("delegated")?;
    shop.let_dba_approve()?;
    let provider = shop.namespace.name();
    let issuer = "https://issuer.example";
    let key = SigningKey::ec("k1")?;
    Kubectl::admin().apply(&format!(
        "apiVersion: chaperone.dev/v1alpha1\nkind: IdentityProvider\nmetadata: {{name: {provider}}}\nspec:\n  \
         issuer: {issuer}\n  audiences: [{AUDIENCE}]\n  jwks: {{inline: '{}'}}\n  \
         username: {{claim: sub, prefix: 'oidc:'}}\n  groups: {{claim: groups, prefix: 'oidc:'}}\n",
        json!({"keys": [key.published()]}),
    ))?;
    let subject = format!("{{identity: {{provider: {provider}, claims: {{groups: [dba]}}}}}}");
    shop.policy_of(&subject, RULES)?;
    let token = |name: &str| {
        let claims = json!({
            "iss": issuer, "aud": AUDIENCE, "sub": name, "groups": ["dba"],
            "iat": now(), "exp": now() + 600,
        });
        key.sign(&claims)
    };
    let (ada, bob) = (token("ada")?, token("bob")?);
    let pod = shop.agent("report")?;
    let without = shop.psql(&pod, "SELECT 1")?;
    // The sidecar asks for a token, which psql has not.
    assert!(
        without.err.contains("no password supplied"),
        "{}",
        without.all()
    );

    let delete = "DELETE FROM orders WHERE id = 9";
    let held = shop.psql_with(&pod, &ada, delete)?;
    assert!(held.err.contains("ApprovalPending"), "{}", held.all());
    let object = format!("approvalrequest/{}", shop.pending()?);
    let request = shop.namespace.kubectl().json(&[object.as_str()])?;
    let delegate = request.pointer("/spec/subject/delegate/username");
    assert_eq!(
        delegate.and_then(Value::as_str),
        Some("oidc:ada"),
        "{request}"
    );

    let yes = r#"{"spec":{"decision":{"verdict":"Approve"}}}"#;
    let patch = ["patch", &object, "--type=merge", "-p", yes];
    let refused = shop.approver("oidc:ada").run(&patch)?;
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    assert!(
        refused
            .err
            .contains("The command runs on your behalf, so somebody else has to review it"),
        "{}",
        refused.all()
    );
    shop.approver("oidc:bob").ok(&patch)?;
    shop.namespace.until("the grant", || {
        let request = shop.namespace.kubectl().json(&[object.as_str()])?;
        let phase = request.pointer("/status/phase").and_then(Value::as_str);
        Ok((phase == Some("Approved")).then_some(()))
    })?;

    // The grant is hers, in whose name it was asked for.
    let his = shop.psql_with(&pod, &bob, delete)?;
    assert!(his.err.contains("ApprovalPending"), "{}", his.all());
    let hers = shop.psql_with(&pod, &ada, delete)?;
    assert_eq!(hers.out.trim(), "DELETE 1", "{}", hers.all());
    Ok(())
}

#[test]
fn every_kind_of_patch_approves() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("patches")?;
    shop.let_dba_approve()?;
    let pod = shop.agent("report")?;
    let ada = shop.approver("ada");
    for (id, kind) in (20..).zip(["json", "server-side apply", "replace"]) {
        let delete = format!("DELETE FROM orders WHERE id = {id}");
        let held = shop.psql(&pod, &delete)?;
        assert!(held.err.contains("ApprovalPending"), "{}", held.all());
        let name = shop.pending()?;
        let object = format!("approvalrequest/{name}");
        let said = match kind {
            "json" => {
                let patch =
                    r#"[{"op":"add","path":"/spec/decision","value":{"verdict":"Approve"}}]"#;
                ada.run(&["patch", &object, "--type=json", "-p", patch])?
            }
            "server-side apply" => {
                // All that is applied is the decision: the rest stays whose it is.
                let manifest = format!(
                    "apiVersion: chaperone.dev/v1alpha1\nkind: ApprovalRequest\n\
                     metadata: {{name: {name}}}\nspec: {{decision: {{verdict: Approve}}}}\n"
                );
                ada.run_with(
                    &["apply", "--server-side", "--field-manager=ada", "-f", "-"],
                    &manifest,
                )?
            }
            _ => {
                let mut whole = shop.namespace.kubectl().json(&[object.as_str()])?;
                whole["spec"]["decision"] = serde_json::json!({"verdict": "Approve"});
                ada.run_with(&["replace", "-f", "-"], &whole.to_string())?
            }
        };
        assert_eq!(said.code, Some(0), "{kind}: {}", said.all());
        granted(&shop, &object)?;
        let request = shop.namespace.kubectl().json(&[object.as_str()])?;
        assert_eq!(request["spec"]["reviews"][0]["reviewer"], "ada", "{kind}");
        assert!(
            request["spec"].get("decision").is_none(),
            "{kind}: {request}"
        );
        let done = shop.psql(&pod, &delete)?;
        assert_eq!(done.out.trim(), "DELETE 1", "{kind}: {}", done.all());
    }
    Ok(())
}

fn granted(shop: &Shop, object: &str) -> Result<()> {
    shop.namespace.until("the grant", || {
        let request = shop.namespace.kubectl().json(&[object])?;
        let phase = request.pointer("/status/phase").and_then(Value::as_str);
        Ok((phase == Some("Approved")).then_some(()))
    })
}

#[test]
fn a_quorum_of_two_takes_two_people() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let shop = Shop::new("quorum")?;
    shop.policy(
        "- name: deletes\n    action: RequireApproval\n    \
         sql: {effects: [Delete, Read], relations: [public.orders]}\n    \
         approval: {approvers: {groups: [dba]}, quorum: 2, timeout: 0s, validFor: 15m}",
    )?;
    shop.let_dba_approve()?;
    let pod = shop.agent("report")?;
    let delete = "DELETE FROM orders WHERE id = 30";
    let held = shop.psql(&pod, delete)?;
    assert!(held.err.contains("ApprovalPending"), "{}", held.all());
    let object = format!("approvalrequest/{}", shop.pending()?);
    let yes = r#"{"spec":{"decision":{"verdict":"Approve"}}}"#;
    let patch = ["patch", object.as_str(), "--type=merge", "-p", yes];
    let ada = shop.approver("ada");
    ada.ok(&patch)?;
    // The same person again is no second one, in his own name or in a forged one.
    let again = ada.run(&patch)?;
    let forged = r#"[{"op":"add","path":"/spec/reviews/-","value":
        {"reviewer":"bob","groups":["dba"],"verdict":"Approve","at":"2026-01-01T00:00:00Z"}}]"#;
    let refused = ada.run(&["patch", &object, "--type=json", "-p", forged])?;
    assert_ne!(refused.code, Some(0), "{}", refused.all());
    let request = shop.namespace.kubectl().json(&[object.as_str()])?;
    let reviews = request["spec"]["reviews"].as_array().unwrap().len();
    assert_eq!(reviews, 1, "{}\n{request}", again.all());
    let still = shop.psql(&pod, delete)?;
    assert!(still.err.contains("ApprovalPending"), "{}", still.all());
    shop.approver("grace").ok(&patch)?;
    granted(&shop, &object)?;
    let done = shop.psql(&pod, delete)?;
    assert_eq!(done.out.trim(), "DELETE 1", "{}", done.all());
    Ok(())
}
