//! Row 4: exec, attach and forwarded ports.

use crate::cases::{Cases, GOVERNED, INJECTED, kubectl};

#[test]
fn exec_and_port_forward_do_not_reach_the_sidecar() {
    let Some(mut cases) = Cases::new() else {
        return;
    };
    let plain = cases.namespace("exec", &[]);
    let governed = cases.namespace("exec-governed", &GOVERNED);
    let open = cases.namespace(
        "exec-open",
        &[GOVERNED[0], GOVERNED[1], "chaperone.dev/allow-exec=true"],
    );
    for namespace in [&plain, &governed, &open] {
        kubectl(&["-n", namespace, "create", "-f", "-"], INJECTED).expect("an injected pod");
    }
    let connect = |namespace: &str, what: &str| {
        [
            "create",
            "--raw",
            &format!("/api/v1/namespaces/{namespace}/pods/agent/{what}"),
            "-f",
            "/dev/null",
        ]
        .map(str::to_owned)
    };
    // What admission lets through then fails for want of a node.
    let beyond = "does not have a host assigned";
    for namespace in [&plain, &governed, &open] {
        cases.refuses(
            "exec into the sidecar",
            &connect(namespace, "exec?container=chaperone&command=sh"),
            "",
            "Nobody gets into the container chaperone",
        );
        cases.refuses(
            "attach to the sidecar",
            &connect(namespace, "attach?container=chaperone"),
            "",
            "Nobody gets into the container chaperone",
        );
    }
    for what in [
        "exec?container=agent&command=sh",
        "exec?command=sh",
        "attach?container=agent",
        "attach",
    ] {
        cases.refuses(what, &connect(&governed, what), "", "speaks as the agent");
        cases.refuses(what, &connect(&open, what), "", beyond);
        cases.refuses(what, &connect(&plain, what), "", beyond);
    }
    for namespace in [&governed, &open] {
        cases.refuses(
            "port-forward",
            &connect(namespace, "portforward?ports=5432"),
            "",
            "Ports of a governed namespace are not forwarded",
        );
    }
    cases.refuses(
        "port-forward elsewhere",
        &connect(&plain, "portforward?ports=5432"),
        "",
        beyond,
    );
    cases.done();
}
