//! A client library in an agent's pod, by its own in-cluster configuration.

use anyhow::Result;
use chaperone_e2e::cluster::unavailable;

use super::desk;

#[test]
fn client_libraries_work_unmodified() -> Result<()> {
    if unavailable() {
        return Ok(());
    }
    let desk = desk()?;
    let (namespace, web) = (desk.namespace(), desk.web()?);

    let said = desk.ok(&format!(
        "ln -sf kubectl /tmp/client-go && client-go {namespace} {web}"
    ))?;
    assert_eq!(
        said,
        "got one\nlisted two\nwatched ADDED\nwatched MODIFIED\nwatched DELETED\nsecret [masked]\n\
         written back 403 Forbidden MaskedWriteBack\nunread 403 Forbidden BodyUnreadable\n\
         ran through\ndenied 403 Forbidden NotCovered\n"
    );
    Ok(())
}
