//! A human's yes releases exactly one command, and nothing else does.

use anyhow::{Context, Result, ensure};
use chaperone_e2e::lab::Lab;
use chaperone_e2e::raw::{self, Client, bind, execute, extended, parse, query, sync};
use chaperone_e2e::{DEADLINE, wait_for};

const DELETE: &str = "DELETE FROM notes WHERE id = 3";

/// Deletes need a human; the client waits `timeout` and a grant lives for `valid_for`.
fn rules(timeout: &str, valid_for: &str) -> String {
    format!(
        "
  - {{name: notes, action: Allow, sql: {{effects: [Read, Write], relations: [public.notes]}}}}
  - name: deletes-need-a-human
    action: RequireApproval
    sql: {{effects: [Delete, Modify], relations: [public.notes]}}
    approval: {{approvers: {{groups: [dba]}}, quorum: 1, timeout: {timeout}, validFor: {valid_for}}}"
    )
}

fn lab(timeout: &str) -> Result<Lab> {
    let lab = Lab::new()?;
    lab.policy("notes", &rules(timeout, "15m"))?;
    Ok(lab)
}

fn left(lab: &Lab) -> Result<String> {
    lab.database.sql("SELECT count(*) FROM notes")
}

fn approve(lab: &Lab, name: &str) -> Result<()> {
    lab.plugin(&["approve", name, "--reason", "ticket 42"])?
        .ok()
        .map(|_| ())
}

/// The request's name, out of an error or notice that names it.
fn named(report: &raw::Report) -> Result<String> {
    let text = report.text();
    let start = text
        .find("ar-")
        .with_context(|| format!("no request named in {report:?}"))?;
    let rest = text.get(start..).unwrap_or_default();
    Ok(rest
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect())
}

fn refused(reply: &raw::Reply, reason: &str) -> Result<raw::Report> {
    let error = reply.error()?;
    ensure!(error.code == "42501", "{error:?}");
    ensure!(error.text().contains(reason), "no {reason} in {error:?}");
    Ok(error)
}

/// Sends `bytes` and reads up to the NOTICE that names the request.
fn held(client: &mut Client, bytes: &[u8]) -> Result<String> {
    client.send(bytes)?;
    loop {
        let seen = client.until(b'N')?;
        let notice = seen.notices().pop().context("no notice")?;
        if notice.text().contains("ar-") {
            ensure!(
                notice.text().contains("approve"),
                "the notice does not say how: {notice:?}"
            );
            return named(&notice);
        }
    }
}

mod approval_releases_exactly_one_command {
    use super::*;

    #[test]
    fn one_that_waits_runs_once_when_approved() -> Result<()> {
        let lab = lab("60s")?;
        let running = lab.start()?;
        let mut psql = running.psql_in_background(&format!("{DELETE};\nSELECT 'after';\n"))?;
        let said = psql.until("kubectl-chaperone approve ar-")?;
        ensure!(said.err.contains("NOTICE"), "{}", said.all());
        let name = running.pending()?;
        ensure!(left(&lab)? == "20", "it ran before anybody approved");
        approve(&lab, &name)?;
        let said = psql.finish()?;
        ensure!(
            said.out.contains("DELETE 1") && said.out.contains("after"),
            "{}",
            said.all()
        );
        ensure!(left(&lab)? == "19");
        let runs = lab
            .database
            .log()?
            .iter()
            .filter(|line| line.contains("statement: DELETE"))
            .count();
        ensure!(runs == 1, "it ran {runs} times");

        // Who approved, and why, stands in the session's evidence.
        let shown = lab.plugin(&["show", "last"])?.ok()?;
        ensure!(
            shown.contains(&name) && shown.contains("ticket 42"),
            "{shown}"
        );
        running.stop()?;
        lab.verify()
    }

    #[test]
    fn not_when_denied() -> Result<()> {
        let lab = lab("60s")?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let name = held(&mut client, &query(DELETE))?;
        lab.plugin(&["deny", &name, "--reason", "not today"])?
            .ok()?;
        refused(&client.until_ready()?, "ApprovalDenied")?;
        ensure!(client.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));
        let late = lab.plugin(&["approve", &name])?;
        ensure!(
            late.code == Some(1),
            "a denied request was approved: {}",
            late.all()
        );
        ensure!(left(&lab)? == "20");
        lab.verify()
    }

    #[test]
    fn not_when_expired() -> Result<()> {
        let lab = Lab::new()?;
        lab.policy("notes", &rules("0s", "1s"))?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let name = named(&refused(&client.query(DELETE)?, "ApprovalPending")?)?;
        approve(&lab, &name)?;
        // A grant that nobody uses within validFor is worth nothing: a new request takes its place.
        wait_for("the grant to expire", DEADLINE, || {
            let shown = lab.plugin(&["approvals", &name])?;
            Ok((shown.out.contains("Expired")).then_some(()))
        })?;
        let error = client.query(DELETE)?.error()?;
        ensure!(error.code == "42501" && named(&error)? != name, "{error:?}");
        ensure!(left(&lab)? == "20");
        Ok(())
    }

    #[test]
    fn not_when_the_client_cancelled_or_left() -> Result<()> {
        let lab = lab("60s")?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let name = held(&mut client, &query(DELETE))?;
        raw::cancel(lab.port(), &client.key)?;
        let error = client.until_ready()?.error()?;
        ensure!(error.code == "57014", "{error:?}");
        let late = lab.plugin(&["approve", &name])?;
        ensure!(
            late.code == Some(1),
            "a cancelled request was approved: {}",
            late.all()
        );
        ensure!(client.query("SELECT 1")?.ok()?.value().as_deref() == Some("1"));

        let name = held(&mut client, &query(DELETE))?;
        drop(client);
        wait_for(
            "the request of a client that left to be cancelled",
            DEADLINE,
            || {
                let shown = lab.plugin(&["approvals", &name])?;
                Ok(shown.out.contains("Cancelled").then_some(()))
            },
        )?;
        ensure!(lab.plugin(&["approve", &name])?.code == Some(1));
        ensure!(left(&lab)? == "20");
        Ok(())
    }

    #[test]
    fn a_retry_from_a_new_connection_redeems_the_grant_once() -> Result<()> {
        let lab = lab("0s")?;
        let running = lab.start()?;
        let mut first = running.client()?;
        let error = refused(&first.query(DELETE)?, "ApprovalPending")?;
        let name = named(&error)?;
        ensure!(
            error.text().contains("kubectl-chaperone approve"),
            "no command to paste in {error:?}"
        );
        // The same command again is the same request.
        ensure!(named(&refused(&first.query(DELETE)?, "ApprovalPending")?)? == name);
        first.close()?;
        approve(&lab, &name)?;

        let mut second = running.client()?;
        let reply = second.query(DELETE)?.ok()?;
        ensure!(reply.commands() == ["DELETE 1"], "{:?}", reply.commands());
        ensure!(left(&lab)? == "19");
        // A second use asks again.
        let again = refused(&second.query(DELETE)?, "ApprovalPending")?;
        ensure!(named(&again)? != name, "one grant was used twice");
        running.stop()?;
        lab.verify()
    }

    #[test]
    fn not_another_byte_nor_another_parameter() -> Result<()> {
        let lab = lab("0s")?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let name = named(&refused(&client.query(DELETE)?, "ApprovalPending")?)?;
        approve(&lab, &name)?;
        for other in [
            "DELETE FROM notes WHERE id = 4",
            "DELETE FROM notes WHERE id = 3 ",
            "delete FROM notes WHERE id = 3",
        ] {
            let error = refused(&client.query(other)?, "ApprovalPending")?;
            ensure!(
                named(&error)? != name,
                "{other:?} used the grant of {DELETE:?}"
            );
        }

        let sql = "DELETE FROM notes WHERE id = $1::int";
        let five = [extended(sql, &[Some("5")]), sync()].concat();
        let six = [extended(sql, &[Some("6")]), sync()].concat();
        let name = named(&refused(&client.exchange(&five)?, "ApprovalPending")?)?;
        approve(&lab, &name)?;
        let error = refused(&client.exchange(&six)?, "ApprovalPending")?;
        ensure!(named(&error)? != name, "the grant for 5 released 6");
        ensure!(left(&lab)? == "20");
        // The one that was approved still is.
        ensure!(client.exchange(&five)?.ok()?.commands() == ["DELETE 1"]);
        ensure!(
            lab.database
                .sql("SELECT count(*) FROM notes WHERE id = 5")?
                == "0"
        );
        ensure!(left(&lab)? == "19");
        Ok(())
    }

    #[test]
    fn one_bind_and_further_executes_only_fetch() -> Result<()> {
        let lab = lab("60s")?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let sql = "DELETE FROM notes WHERE id <= $1::int RETURNING id";
        // Parse is no use of it: the statement is prepared without anybody's approval.
        client
            .exchange(&[parse("gone", sql), sync()].concat())?
            .ok()?;
        client.query("BEGIN")?.ok()?;
        let bound = [
            bind("rows", "gone", &[Some("3")]),
            execute("rows", 1),
            sync(),
        ]
        .concat();
        let name = held(&mut client, &bound)?;
        approve(&lab, &name)?;
        let first = client.until_ready()?.ok()?;
        ensure!(first.rows().len() == 1, "{}", first.tags());
        let rest = client
            .exchange(&[execute("rows", 0), sync()].concat())?
            .ok()?;
        ensure!(rest.rows().len() == 2, "{}", rest.tags());
        client.query("COMMIT")?.ok()?;
        ensure!(left(&lab)? == "17");
        Ok(())
    }

    #[test]
    fn not_for_another_subject() -> Result<()> {
        let lab = lab("0s")?;
        let running = lab.start()?;
        let name = named(&refused(
            &running.client()?.query(DELETE)?,
            "ApprovalPending",
        )?)?;
        approve(&lab, &name)?;
        running.stop()?;

        // The same folders, another agent.
        let lab = lab.subject("shop/other-agent");
        let running = lab.start()?;
        let error = refused(&running.client()?.query(DELETE)?, "ApprovalPending")?;
        ensure!(named(&error)? != name, "a grant went to another subject");
        running.stop()?;
        ensure!(left(&lab)? == "20");

        // It is still there for its own, after a restart.
        let lab = lab.subject("shop/report-agent");
        let running = lab.start()?;
        ensure!(running.client()?.query(DELETE)?.ok()?.commands() == ["DELETE 1"]);
        Ok(())
    }

    #[test]
    fn not_when_the_policy_was_tightened_in_between() -> Result<()> {
        let lab = lab("60s")?;
        let running = lab.start()?;
        let mut client = running.client()?;
        let name = held(&mut client, &query(DELETE))?;
        lab.policy(
            "tighter",
            "  - {name: no-deletes, action: Deny, sql: {effects: [Delete]}}",
        )?;
        // The running policy is the tighter one once a new session is refused by it.
        wait_for("the tighter policy", DEADLINE, || {
            let reply = running
                .client()?
                .query("DELETE FROM notes WHERE id = 19 AND false")?;
            let denied = reply
                .errors()
                .iter()
                .any(|error| error.text().contains("no-deletes"));
            if !denied {
                // That one asked for approval too; it must not stay in the way.
                let _ = lab.plugin(&["approvals"])?;
            }
            Ok(denied.then_some(()))
        })?;
        let _ = lab.plugin(&["approve", &name])?;
        let error = client.until_ready()?.error()?;
        ensure!(error.code == "42501", "{error:?}");
        ensure!(left(&lab)? == "20");
        running.stop()?;
        lab.verify()
    }
}
